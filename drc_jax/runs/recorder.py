"""The numbers of a training run: checked for finiteness, shown, and written to two logs."""

import json
import math
import pathlib
import sys
import time
from collections.abc import Mapping
from typing import Any

import jax
from tensorboardX import SummaryWriter
from tqdm import tqdm

from drc_jax.errors import NonFiniteError
from drc_jax.files import write_atomically

_SHOWN = ("loss", "generator_loss", "ebm_loss")


def finite_values(step: int, metrics: Mapping[str, jax.Array]) -> dict[str, float]:
    """Fetches one step's metrics, waiting for the device to finish that step.

    Args:
      step: number of completed steps.
      metrics: name to scalar.

    Raises:
      NonFiniteError: naming the step and the metrics that are not finite.
    """
    values = {name: float(value) for name, value in jax.device_get(dict(metrics)).items()}
    bad = [f"{name} = {value}" for name, value in values.items() if not math.isfinite(value)]
    if values.get("latents_finite", 1.0) == 0:
        bad.append("a latent is not finite")
    if bad:
        raise NonFiniteError(f"training diverged at step {step}: {', '.join(bad)}")
    return values


def truncate_log(path: pathlib.Path, step: int) -> None:
    """Drops the lines of a ``metrics.jsonl`` beyond ``step``, which will be trained again.

    Args:
      path: the file; may be absent. A last line cut short by a kill is dropped too.
      step: the last step to keep.
    """
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(f"{line}\n")
        except ValueError:
            continue
    write_atomically(path, "".join(kept).encode())


class Recorder:
    """Takes each step's metrics; use as a context manager.

    A line of ``metrics.jsonl`` has ``step``, ``iterations_per_second`` and ``images_per_second``
    since the line before (absent where there is nothing to measure from, as right after a
    compile), and every metric.
    """

    def __init__(
        self,
        workdir: pathlib.Path,
        *,
        start: int,
        iterations: int,
        batch_size: int,
        log_every: int,
    ):
        """Opens the logs.

        Args:
          workdir: a run's folder.
          start: the step training starts or resumes from.
          iterations: the step it goes to.
          batch_size: images per step.
          log_every: steps between lines; the first and the last step are logged too.
        """
        self._iterations = iterations
        self._batch_size = batch_size
        self._log_every = log_every
        path = workdir / "metrics.jsonl"
        truncate_log(path, start)
        self._file = path.open("a", buffering=1)
        self._board = SummaryWriter(
            str(workdir / "tensorboard"), purge_step=start + 1, flush_secs=10
        )
        # A terminal is redrawn in place; in a file every redraw is another line.
        self._bar = tqdm(
            total=iterations,
            initial=start,
            unit="it",
            smoothing=0.1,
            dynamic_ncols=True,
            mininterval=0.5 if sys.stderr.isatty() else 30,
        )
        self._timed_from: tuple[int, float] | None = None

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._bar.close()
        self._board.close()
        self._file.close()

    def restart_clock(self) -> None:
        """Measures the speed anew from the next step on, leaving out what happens before."""
        self._timed_from = None

    def record(self, step: int, metrics: Mapping[str, jax.Array]) -> None:
        """Checks and logs one step's metrics, waiting for the device to finish that step.

        Args:
          step: number of completed steps.
          metrics: name to scalar.

        Raises:
          NonFiniteError: naming the step and the metrics that are not finite.
        """
        values = finite_values(step, metrics)
        self._bar.update()
        now = time.perf_counter()
        if step == 1 or step == self._iterations or step % self._log_every == 0:
            rates = {}
            if self._timed_from is not None:
                rate = (step - self._timed_from[0]) / (now - self._timed_from[1])
                rates["iterations_per_second"] = rate
                rates["images_per_second"] = rate * self._batch_size
            self._write({"step": step, **rates, **values})
            self._timed_from = (step, now)
        elif self._timed_from is None:
            self._timed_from = (step, now)

    def _write(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps(line) + "\n")
        for name, value in line.items():
            if name != "step":
                self._board.add_scalar(name, value, line["step"])
        self._bar.set_postfix({n: f"{line[n]:.4g}" for n in _SHOWN if n in line}, refresh=False)
