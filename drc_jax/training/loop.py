"""The training loop: batches in, metrics, checkpoints and pictures out."""

import contextlib
import functools
import pathlib
import signal
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from drc_jax import files
from drc_jax.data.packed.batches import train_batches
from drc_jax.data.packed.format import PackedSplit
from drc_jax.errors import NonFiniteError, UserError
from drc_jax.evaluation import pictures
from drc_jax.runs import checkpoint
from drc_jax.runs.finite import check_finite, finite_values
from drc_jax.runs.recorder import Recorder
from drc_jax.runs.workdir import claimed
from drc_jax.training import chain_files, devices, processes
from drc_jax.training import method as methods
from drc_jax.training import step as steps
from drc_jax.training.chains import ChainStore, DeviceChains
from drc_jax.training.file_chains import FileChains
from drc_jax.training.method import Method, State
from drc_jax.training.monitor import HeldOut
from drc_jax.training.processes import first_only, is_first
from drc_jax.training.signals import StopSignal

_PICTURED = 8
# A parameter of this size is none that any of the methods needs.
_HUGE = 1e4


def train(
    config: Any, workdir: pathlib.Path, split: PackedSplit, method: Method | None = None
) -> signal.Signals | None:
    """Trains in ``workdir`` from where it stands to ``config.iterations``.

    Of several processes all call this, with the same config; process 0 alone writes and prints.
    Writes what ``drc_jax.runs.workdir`` lists. SIGTERM or SIGINT ends it early, after saving; a
    second one ends the process at once. A signal to one process ends all, a step later.

    Args:
      config: the run's config.
      workdir: a new or empty folder, or one in which the same run was begun.
      split: the training images, uint8, of the config's size.
      method: what to train; by default what the config belongs to, as it stands.

    Returns:
      The signal that ended it early, or None.

    Raises:
      UserError: if the folder is another run's, or its checkpoints or files cannot be used.
      NonFiniteError: if training diverges; no state from then on is saved.
    """
    method = method or methods.find(config.method)
    mesh = devices.data_mesh(config.num_devices)
    num_images = devices.shardable_images(mesh, len(split))
    method.check(config, num_images)
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(StopSignal())
        first_only(lambda: stack.enter_context(claimed(workdir, config, split.info.fingerprint)))
        start, state, store = _begin(method, config, workdir, mesh, num_images)
        stack.callback(store.close)
        _say(_beginning(config, workdir, start, len(split) - num_images))
        outputs = stack.enter_context(_Outputs(method, config, workdir, split, store, start))
        if start >= config.iterations:
            outputs.draw(start, state)
            return None
        batches = train_batches(
            split,
            batch_size=config.batch_size,
            seed=config.seed,
            start_step=start,
            flip=config.data.flip,
            num_shards=mesh.size,
            shards=devices.own_shards(mesh),
        )
        stack.callback(batches.close)
        seed = np.uint32(config.seed)
        fed, signalled = store.feed(batches), processes.agreed(mesh, stop)
        run_step = functools.partial(steps.step, method, mesh, method.step_config(config))
        step, number, unrecorded = start, signalled(), None
        with outputs.explaining_divergence():
            while step < config.iterations and number is None:
                batch, chains = next(fed)
                state, chains, metrics = run_step(state, chains, batch["image"], seed)
                store.put(batch, chains)
                # Read while the device is busy with this step, so recording costs no time.
                if unrecorded is not None:
                    outputs.record(*unrecorded)
                step, unrecorded, number = step + 1, (step + 1, metrics), signalled()
                is_last = step == config.iterations or number is not None
                if is_last or outputs.is_milestone(step):
                    outputs.record(*unrecorded)
                    unrecorded = None
                    outputs.milestone(step, state, is_last=is_last)
            outputs.wait()
    if number is None:
        _say(f"trained {step} iterations; see {workdir / 'images'} and {workdir / 'metrics.jsonl'}")
        return None
    stopped_by = signal.Signals(number)
    done = f"saved at step {step}" if step > start else "nothing was trained"
    _say(f"{stopped_by.name}: {done}; the same command resumes from there")
    return stopped_by


def _begin(
    method: Method, config: Any, workdir: pathlib.Path, mesh: Mesh, num_images: int
) -> tuple[int, State, ChainStore]:
    """The step to go on from, the state on the devices, and the store of what images have.

    They are the newest checkpoint's, or fresh ones. Of several processes the first reads.
    """
    in_files = method.keeps_in_files(config)

    def fresh() -> State:
        state = method.fresh_state(config)
        if in_files:
            return state
        chains = method.fresh_chains(config, config.seed, jnp.arange(num_images))
        return method.join_chains(state, chains)

    like = jax.eval_shape(fresh)

    def newest() -> tuple[int, State]:
        if checkpoint.saved_steps(workdir):
            return checkpoint.restore_state(workdir, like)
        return 0, None

    step, saved = first_only(newest) or (0, None)
    step = int(processes.from_first(np.int32(step), np.int32(0)))
    saved = processes.from_first(saved, like) if step else None
    if in_files:
        state = devices.fresh_state(method, config, mesh) if saved is None else saved
        folder = _chain_files(method, config, workdir, step, num_images)
        return step, devices.place_whole(mesh, state), FileChains(folder, mesh)
    if saved is None:
        state = devices.fresh_state(method, config, mesh)
        banks = devices.fresh_chains(method, config, mesh, num_images)
        return step, state, DeviceChains(mesh, banks)
    state, banks = method.split_chains(saved)
    banks = DeviceChains(mesh, devices.share_out(mesh, banks))
    return step, devices.place_whole(mesh, state), banks


def _chain_files(
    method: Method, config: Any, workdir: pathlib.Path, step: int, num_images: int
) -> pathlib.Path:
    """Makes the working files of a run whose chains are on the host; their folder."""
    folder = workdir / chain_files.FOLDER
    draw = jax.jit(functools.partial(method.fresh_chains, config, config.seed))
    latent_dim = jax.eval_shape(draw, jnp.arange(1))[0].shape[-1]
    size = chain_files.num_bytes(num_images, latent_dim)
    _say(f"writing {size / 1e9:.2g} GB of chains to {folder}")
    if step:
        chain_files.restore(checkpoint.saved_files(workdir, step), folder)
    else:
        chain_files.create(folder, num_images, latent_dim, draw)
    return folder


class _Outputs:
    """What a run leaves behind: logs, checkpoints, pictures. Process 0 writes, all call it."""

    def __init__(
        self,
        method: Method,
        config: Any,
        workdir: pathlib.Path,
        split: PackedSplit,
        store: ChainStore,
        start: int,
    ) -> None:
        self._method, self._config, self._workdir = method, config, workdir
        self._split, self._store = split, store
        self._writer = self._recorder = None
        self._is_warned = False
        self._held_out = None
        if is_first() and start < config.iterations:
            self._held_out = HeldOut(method, config) if config.eval_every else None
            self._writer = checkpoint.CheckpointWriter(workdir, keep=config.keep_checkpoints)
            self._recorder = Recorder(
                workdir,
                start=start,
                iterations=config.iterations,
                batch_size=config.batch_size,
                log_every=config.log_every,
            )

    def __enter__(self) -> "_Outputs":
        return self

    def __exit__(self, *exc_info: Any) -> None:
        for part in (self._recorder, self._writer):
            if part is not None:
                part.__exit__(*exc_info)

    def record(self, step: int, metrics: methods.Metrics) -> None:
        """Checks and logs a step's metrics, waiting for the device to finish that step."""
        (finite_values if self._recorder is None else self._recorder.record)(step, metrics)

    def is_milestone(self, step: int) -> bool:
        """Whether the state after a step is saved, drawn or scored."""
        config = self._config
        every = (config.checkpoint_every, config.image_every, config.eval_every)
        return any(_is_due(step, number) for number in every)

    def milestone(self, step: int, state: State, *, is_last: bool) -> None:
        """Saves, draws and scores a state whose metrics are recorded."""
        if is_last or _is_due(step, self._config.checkpoint_every):
            self._save(step, state)
        if step == self._config.iterations or _is_due(step, self._config.image_every):
            self.draw(step, state)
        # A run that is told to stop does so at once.
        if _is_due(step, self._config.eval_every) and (
            not is_last or step == self._config.iterations
        ):
            self._score(step, state)
        if self._recorder is not None:
            self._recorder.restart_clock()

    def _score(self, step: int, state: State) -> None:
        """Logs the scores of held-out images."""
        if self._held_out is None or self._recorder is None:
            return
        try:
            params = devices.own_copy(state.params)
            self._recorder.add(step, self._held_out.scores(params))
        except UserError as error:  # no reason to end a run
            _say(f"warning: step {step} was not scored: {error}")

    def _save(self, step: int, state: State) -> None:
        chains = self._store.on_host()
        on_host = devices.to_host(state)
        if chains is not None:
            on_host = self._method.join_chains(on_host, chains)
        largest = check_finite(step, on_host)
        if largest > _HUGE and not self._is_warned:
            self._is_warned = True
            problem = f"a parameter has grown to {largest:.3g} by step {step}"
            _say(f"warning: {problem}; {self._method.advice(problem)}")
        if self._writer is not None:
            self._writer.save(step, on_host, self._store.file_copier())

    def draw(self, step: int, state: State) -> None:
        """Draws the regions of the first training images as they are after a step."""
        count = min(_PICTURED, len(self._split))
        chains = self._store.first(count)
        if not is_first():
            return
        params = devices.own_copy(state.params)
        observed = np.array(self._split.images[:count])
        masks = None if self._split.masks is None else np.array(self._split.masks[:count])
        regions = self._method.show(self._config, params, chains, observed, self._config.seed)
        drawn = pictures.regions_grid(observed, regions, masks)
        try:
            folder = files.writable(self._workdir / "images", "pictures")
            pictures.save_png(folder / f"step_{step:07d}.png", drawn)
        except UserError as error:  # as on a full disk: no reason to end a run
            _say(f"warning: {error}")

    def wait(self) -> None:
        """Waits until everything is on disk."""
        if self._writer is not None:
            self._writer.wait()

    @contextlib.contextmanager
    def explaining_divergence(self) -> Any:
        """Adds to a NonFiniteError what is left and what to change."""
        try:
            yield
        except NonFiniteError as error:
            if self._writer is None:
                raise
            self._writer.wait()
            saved = checkpoint.saved_steps(self._workdir)
            good = "nothing was saved"
            if saved:
                good = f"the last good checkpoint is that of step {saved[-1]}"
            advice = self._method.advice(str(error))
            raise NonFiniteError(f"{error}; {good}; {advice}, in a new folder") from None


def _is_due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _say(text: str) -> None:
    """Prints in process 0 alone."""
    if is_first():
        print(text, flush=True)


def _beginning(config: Any, workdir: pathlib.Path, start: int, left_out: int) -> str:
    """A run's first line: where, how far, on what."""
    if start >= config.iterations:
        return f"{workdir} has already been trained for {start} iterations; nothing to do"
    devices_text = f"{config.num_devices} devices, " if config.num_devices > 1 else ""
    number = jax.process_count()
    where = f"{jax.default_backend()}{f', in {number} processes' if number > 1 else ''}"
    note = f"; the last {left_out} images are left out, so that devices have equal shares"
    return (
        f"{'resuming' if start else 'training'} in {workdir} from step {start} to "
        f"{config.iterations} on {devices_text}{where}; the first step includes compiling"
        f"{note if left_out else ''}"
    )
