"""The training loop: batches in, metrics, checkpoints and pictures out."""

import contextlib
import pathlib
import signal
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from drc_jax.config import TrainConfig
from drc_jax.data.packed.batches import train_batches
from drc_jax.data.packed.format import PackedSplit
from drc_jax.errors import NonFiniteError
from drc_jax.evaluation import pictures as panels
from drc_jax.model.render import Params, render
from drc_jax.runs.checkpoint import CheckpointWriter, saved_steps
from drc_jax.runs.recorder import Recorder, finite_values
from drc_jax.runs.workdir import claimed
from drc_jax.training.devices import own_copy
from drc_jax.training.placement import Stop, placement
from drc_jax.training.processes import first_only, is_first
from drc_jax.training.signals import StopSignal
from drc_jax.training.state import TrainState

_PICTURED = 8

Batch = Mapping[str, np.ndarray]
Metrics = Mapping[str, jax.Array]


def run_steps(
    train_step: Callable[[Any, Batch], tuple[Any, Metrics]],
    state: Any,
    batches: Iterator[Batch],
    *,
    start: int,
    iterations: int,
    stop: Stop,
    record: Callable[[int, Metrics], Any],
    is_milestone: Callable[[int], bool],
    at_milestone: Callable[[int, Any], None],
) -> tuple[int, Any]:
    """Calls ``train_step`` until ``iterations`` steps are done or a signal arrives.

    The metrics of a step are recorded while the device is busy with the next one, so recording
    costs no time. A step whose state is handed out is recorded first.

    Args:
      train_step: maps (state, batch) to (state, metrics); the state given to it is used up.
      state: the state after ``start`` steps.
      batches: the batches from step ``start`` on.
      start: number of steps done.
      iterations: number of steps to reach.
      stop: polled after every step.
      record: gets every step's number, counted from 1, and its metrics; raises to end training.
      is_milestone: says of a step's number whether its state is wanted; that of the last step
        and of the one at which training stops always is.
      at_milestone: gets such a step's number and state; it must not keep the state.

    Returns:
      The number of steps done and the state after them.
    """
    step = start
    unrecorded: tuple[int, Metrics] | None = None
    stopping = stop.number is not None
    while step < iterations and not stopping:
        state, metrics = train_step(state, next(batches))
        if unrecorded is not None:
            record(*unrecorded)
        step += 1
        unrecorded = (step, metrics)
        stopping = stop.number is not None
        if stopping or step == iterations or is_milestone(step):
            record(*unrecorded)
            unrecorded = None
            at_milestone(step, state)
    return step, state


def check_finite(step: int, state: Any) -> None:
    """Refuses a state that training cannot go on from.

    The metrics of a step are computed before its update, so an update that fails shows in the
    state alone.

    Args:
      step: number of completed steps.
      state: pytree of NumPy arrays.

    Raises:
      NonFiniteError: naming the first array with a value that is not finite.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        if jnp.issubdtype(leaf.dtype, jnp.floating) and not np.isfinite(leaf).all():
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            raise NonFiniteError(f"training diverged at step {step}: {name} is not finite")


def picture(
    config: TrainConfig, params: Params, latents: jax.Array, split: PackedSplit
) -> np.ndarray:
    """The rows of the paper's Fig. 5 for the first training images.

    Args:
      config: the run's config.
      params: of the model.
      latents: [n, D], posterior chains of the first n images, rendered as they are.
      split: the training images.

    Returns:
      uint8 [H, W, 3].
    """
    render_jitted = jax.jit(render, static_argnums=0)
    rendered = render_jitted(config.model, params, latents)
    images, pi = np.asarray(rendered.images), np.asarray(rendered.pi)
    return panels.fig5_grid(
        observed=np.array(split.images[: len(latents)]),
        generated=np.asarray(rendered.reconstruction),
        foreground=images[:, 0],
        background=images[:, -1],
        true_mask=None if split.masks is None else np.array(split.masks[: len(latents)]),
        inferred_mask=pi[:, 0],
    )


def train(config: TrainConfig, workdir: pathlib.Path, split: PackedSplit) -> signal.Signals | None:
    """Trains in ``workdir`` from where it stands to ``config.iterations``.

    Of several processes all call this, with the same config; process 0 alone writes and prints.
    Writes what ``drc_jax.workdir`` lists. SIGTERM or SIGINT ends it early, after saving; a second
    one ends the process at once. A signal to one process ends all, a step later.

    Args:
      config: the run's config.
      workdir: a new or empty folder, or one in which the same run was begun.
      split: the training images, uint8, of the model's size.

    Returns:
      The signal that ended it early, or None.

    Raises:
      UserError: if the folder is another run's, or its checkpoints or files cannot be used.
      NonFiniteError: if training diverges; no state from then on is saved.
    """
    with contextlib.ExitStack() as stack:
        place = placement(config, workdir, len(split), stack.enter_context(StopSignal()))
        first_only(lambda: stack.enter_context(claimed(workdir, config, split.info.fingerprint)))
        stack.enter_context(place)
        start, state = place.start()
        images = workdir / "images"

        def draw(step: int, state: TrainState) -> None:
            latents = place.first_posterior(state, min(_PICTURED, len(split)))
            if is_first():
                images.mkdir(exist_ok=True)
                drawn = picture(config, own_copy(state.params), latents, split)
                panels.save_png(images / f"step_{step:07d}.png", drawn)

        if start >= config.iterations:
            _say(f"{workdir} has already been trained for {start} iterations; nothing to do")
            draw(start, state)
            return None
        _say(
            f"{'resuming' if start else 'training'} in {workdir} from step {start} to "
            f"{config.iterations} on {_devices(config)}; the first step includes compiling"
        )
        batches = train_batches(
            split,
            batch_size=config.batch_size,
            seed=config.seed,
            start_step=start,
            flip=config.data.flip,
            num_shards=place.shards.num_shards,
            shards=place.shards.shards,
        )
        stack.callback(batches.close)
        checkpoints = recorder = None
        if is_first():
            checkpoints = stack.enter_context(
                CheckpointWriter(workdir, keep=config.keep_checkpoints)
            )
            recorder = stack.enter_context(
                Recorder(
                    workdir,
                    start=start,
                    iterations=config.iterations,
                    batch_size=config.batch_size,
                    log_every=config.log_every,
                )
            )

        def is_due(step: int, every: int) -> bool:
            return every > 0 and step % every == 0

        def at_milestone(step: int, state: TrainState) -> None:
            is_last = step == config.iterations
            if is_due(step, config.checkpoint_every) or is_last or place.stop.number is not None:
                on_host = place.to_host(state)
                check_finite(step, on_host)
                if checkpoints is not None:
                    checkpoints.save(step, on_host, place.file_copier())
            if is_due(step, config.image_every) or is_last:
                draw(step, state)
            if recorder is not None:
                recorder.restart_clock()

        try:
            step, _ = run_steps(
                place.step,
                state,
                place.feed(batches),
                start=start,
                iterations=config.iterations,
                stop=place.stop,
                record=finite_values if recorder is None else recorder.record,
                is_milestone=lambda step: (
                    is_due(step, config.checkpoint_every) or is_due(step, config.image_every)
                ),
                at_milestone=at_milestone,
            )
        except NonFiniteError as error:
            if checkpoints is None:
                raise
            checkpoints.wait()
            raise NonFiniteError(f"{error}; {_last_good(workdir)}") from None
        if checkpoints is not None:
            checkpoints.wait()
    if step == config.iterations:
        _say(f"trained {step} iterations; see {images} and {workdir / 'metrics.jsonl'}")
        return None
    assert place.stop.number is not None
    number = signal.Signals(place.stop.number)
    _say(f"{number.name}: saved at step {step}; the same command resumes from there")
    return number


def _say(text: str) -> None:
    """Prints in process 0 alone."""
    if is_first():
        print(text, flush=True)


def _devices(config: TrainConfig) -> str:
    """What a run computes on, for its first line."""
    count = f"{config.num_devices} devices, " if config.num_devices > 1 else ""
    number = jax.process_count()
    return f"{count}{jax.default_backend()}{f', in {number} processes' if number > 1 else ''}"


def _last_good(workdir: pathlib.Path) -> str:
    """The end of the message of a diverged run."""
    steps = saved_steps(workdir)
    last = f"the last good checkpoint is that of step {steps[-1]}" if steps else "nothing was saved"
    return (
        f"{last}; train in a new folder with smaller sampler.posterior_step_size or learning rates"
    )
