"""What a training run leaves behind: logs, checkpoints, pictures."""

import contextlib
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from drc_jax import files
from drc_jax.data.packed.format import PackedSplit
from drc_jax.data.training_images import check_size, data_folder
from drc_jax.errors import NonFiniteError, UserError
from drc_jax.evaluation import figures, pictures
from drc_jax.evaluation.held_out import HeldOut
from drc_jax.runs import checkpoint
from drc_jax.runs.chain_store import ChainStore
from drc_jax.runs.finite import check_finite, finite_values
from drc_jax.runs.method import Method, Metrics, State
from drc_jax.runs.recorder import Recorder
from drc_jax.runs.trained import Run
from drc_jax.runtime import devices
from drc_jax.runtime.processes import is_first, say

_PICTURED = 8
# A parameter of this size is none that any of the methods needs.
_HUGE = 1e4


class Outputs(contextlib.ExitStack):
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
        super().__init__()
        self._method, self._config, self._workdir = method, config, workdir
        self._split, self._store = split, store
        self._is_warned = False
        self._writer = self._recorder = self._held_out = None
        if is_first() and start < config.iterations:
            if config.eval_every:
                self._held_out = HeldOut(data_folder(config), config.eval_images)
                check_size(config, self._held_out.split)
            writer = checkpoint.CheckpointWriter(workdir, keep=config.keep_checkpoints)
            self._writer = self.enter_context(writer)
            recorder = Recorder(
                workdir,
                start=start,
                iterations=config.iterations,
                batch_size=config.batch_size,
                log_every=config.log_every,
            )
            self._recorder = self.enter_context(recorder)

    def record(self, step: int, metrics: Metrics) -> None:
        """Checks and logs a step's metrics, waiting for the device to finish that step."""
        (finite_values if self._recorder is None else self._recorder.record)(step, metrics)

    def is_milestone(self, step: int) -> bool:
        """Whether the state after a step is saved, drawn or scored."""
        config = self._config
        every = (config.checkpoint_every, config.image_every, config.eval_every)
        return any(_is_due(step, number) for number in every)

    def milestone(self, step: int, state: State, *, is_last: bool) -> None:
        """Saves, draws and scores a state whose metrics are recorded."""
        config, is_end = self._config, step == self._config.iterations
        if is_last or _is_due(step, config.checkpoint_every):
            self._save(step, state)
        if is_end or _is_due(step, config.image_every):
            self.draw(step, state)
        # A run that is told to stop does so at once.
        if (is_end or not is_last) and _is_due(step, config.eval_every):
            self._score(step, state)
        if self._recorder is not None:
            self._recorder.restart_clock()

    def _score(self, step: int, state: State) -> None:
        """Logs the scores of held-out images."""
        if self._held_out is None or self._recorder is None:
            return
        try:
            run = Run(self._method, self._config, devices.own_copy(state.params), step)
            # The same noise at every step, so that steps differ by the model alone; and one chain,
            # so that training hardly waits.
            infer_batch = run.infer_batch(seed=0, num_steps=self._config.eval_steps, num_chains=1)
            self._recorder.add(step, self._held_out.scores(infer_batch))
        except UserError as error:  # no reason to end a run
            say(f"warning: step {step} was not scored: {error}")

    def _save(self, step: int, state: State) -> None:
        chains = self._store.on_host()
        on_host = devices.to_host(state)
        if chains is not None:
            on_host = self._method.join_chains(on_host, chains)
        largest = check_finite(step, on_host)
        if largest > _HUGE and not self._is_warned:
            self._is_warned = True
            problem = f"a parameter has grown to {largest:.3g} by step {step}"
            say(f"warning: {problem}; {self._method.advice(problem)}")
        if self._writer is not None:
            self._writer.save(step, on_host, self._store.file_copier())

    def draw(self, step: int, state: State) -> None:
        """Draws the regions of the first training images as they are after a step."""
        split, count = self._split, min(_PICTURED, len(self._split))
        chains = self._store.first(count)
        if not is_first():
            return
        params = devices.own_copy(state.params)
        observed = np.array(split.images[:count])
        true = (split.masks, split.labels)
        masks, labels = (None if file is None else np.array(file[:count]) for file in true)
        regions = self._method.show(self._config, params, chains, observed, self._config.seed)
        drawn = figures.regions_grid(observed, regions, masks, labels)
        try:
            folder = files.writable(self._workdir / "images", "pictures")
            pictures.save_png(folder / f"step_{step:07d}.png", drawn)
        except UserError as error:  # as on a full disk: no reason to end a run
            say(f"warning: {error}")

    def wait(self) -> None:
        """Waits until everything is on disk."""
        if self._writer is not None:
            self._writer.wait()

    @contextlib.contextmanager
    def explaining_divergence(self) -> Iterator[None]:
        """Adds to a NonFiniteError what is left and what to change."""
        try:
            yield
        except NonFiniteError as error:
            if self._writer is None:
                raise
            self.wait()
            saved = checkpoint.saved_steps(self._workdir)
            last = f"the last good checkpoint is that of step {saved[-1]}" if saved else ""
            left, advice = last or "nothing was saved", self._method.advice(str(error))
            raise NonFiniteError(f"{error}; {left}; {advice}, in a new folder") from None


def _is_due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
