"""The numbers of a training run: checked for finiteness, shown, and written to two logs.

A log that cannot be written, as on a full disk, is no reason to end a run: it is said once, and
training goes on.
"""

import contextlib
import json
import logging
import pathlib
import secrets
import socket
import sys
import time
from collections.abc import Mapping
from typing import Any

import jax
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import RecordWriter
from tqdm import tqdm

from drc_jax import files
from drc_jax.errors import UserError
from drc_jax.runs.finite import finite_values
from drc_jax.runs.workdir import BOARD_FOLDER, LOG_FILE

DAMAGED_LOG_FILE = "metrics.damaged.jsonl"

_SHOWN = ("loss", "generator_loss", "ebm_loss")
_FLUSH_SECONDS = 10.0

_log = logging.getLogger(__name__)


def truncate_log(path: pathlib.Path, step: int) -> None:
    """Drops the lines of a ``metrics.jsonl`` beyond ``step``, which will be trained again.

    Lines that cannot be read, such as a last one cut short by a kill, are moved to
    ``metrics.damaged.jsonl`` beside it, with a warning.

    Args:
      path: the file; may be absent.
      step: the last step to keep.

    Raises:
      UserError: if the files cannot be read or written.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return
    except OSError as error:
        raise UserError(f"cannot read {path}: {files.reason(error)}") from None
    kept, damaged = [], []
    for line in content.split(b"\n"):
        if not line.strip():
            continue
        found = _step_of(line)
        if found is None:
            damaged.append(line + b"\n")
        elif found <= step:
            kept.append(line + b"\n")
    if damaged:
        aside = path.with_name(DAMAGED_LOG_FILE)
        before = aside.read_bytes() if aside.is_file() else b""
        files.write_atomically(aside, before + b"".join(damaged))
        _log.warning(
            "%d lines of %s cannot be read; they are set aside in %s", len(damaged), path, aside
        )
    if b"".join(kept) != content:
        files.write_atomically(path, b"".join(kept))


def _step_of(line: bytes) -> int | None:
    """The step that a line of the log is about, or None where it is no such line."""
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return None
    found = values.get("step") if isinstance(values, dict) else None
    return found if type(found) is int else None


class _LineLog:
    """Appends lines to a file; what there is no room for waits in memory for the next line."""

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path
        self._waiting = b""
        self._is_warned = False
        try:
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            raise UserError(f"cannot write {path}: {files.reason(error)}") from None

    def write(self, line: str) -> None:
        self._waiting += f"{line}\n".encode()
        try:
            # A write may take a part only.
            while self._waiting:
                self._waiting = self._waiting[self._file.write(self._waiting) :]
        except OSError as error:
            if not self._is_warned:
                self._is_warned = True
                _log.warning(
                    "cannot write %s: %s; training goes on, and the lines are written when there "
                    "is room",
                    self._path,
                    files.reason(error),
                )

    def close(self) -> None:
        if self._waiting:
            _log.warning("the last lines of %s could not be written", self._path)
        self._file.close()


class _Board:
    """The event file for TensorBoard.

    It is written in the calling thread. tensorboardX's own writer has a thread for it, and where
    that dies of a full disk, the callers wait for ever.
    """

    def __init__(self, folder: pathlib.Path, first_step: int) -> None:
        self._folder = folder
        self._flushed = time.monotonic()
        self._records: RecordWriter | None = None
        with self._giving_up():
            folder.mkdir(exist_ok=True)
            # TensorBoard reads the files in the order of their names.
            name = f"{time.time():.6f}.{socket.gethostname()}.{secrets.token_hex(4)}"
            self._records = RecordWriter(str(folder / f"events.out.tfevents.{name}"))
            self._write(Event(file_version="brain.Event:2"))
            # TensorBoard forgets the steps from here on that an earlier start has written.
            start = SessionLog(status=SessionLog.START)
            self._write(Event(step=first_step, session_log=start))

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Writes the numbers of a step; a failure ends the writing, with a warning."""
        if self._records is None:
            return
        scalars = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        with self._giving_up():
            self._write(Event(step=step, summary=Summary(value=scalars)))
            if time.monotonic() - self._flushed > _FLUSH_SECONDS:
                self._records.flush()
                self._flushed = time.monotonic()

    def close(self) -> None:
        if self._records is not None:
            with self._giving_up():
                self._records.flush()
                self._records.close()

    def _write(self, event: Event) -> None:
        assert self._records is not None
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())

    @contextlib.contextmanager
    def _giving_up(self) -> Any:
        try:
            yield
        except OSError as error:
            records, self._records = self._records, None
            if records is not None:
                # Closing tries once more to write what waits.
                with contextlib.suppress(OSError):
                    records.close()
            _log.warning(
                "cannot write TensorBoard's files in %s: %s; training goes on without them",
                self._folder,
                files.reason(error),
            )


class Recorder:
    """Takes each step's metrics; use as a context manager.

    A line of ``metrics.jsonl`` has ``step``, ``iterations_per_second`` and ``images_per_second``
    since the line before (absent where there is nothing to measure from, as right after a
    compile), and every metric. Where a log cannot be written, a warning says so once; lines of
    ``metrics.jsonl`` are kept until there is room, TensorBoard is given up.
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

        Raises:
          UserError: if ``metrics.jsonl`` cannot be read or written.
        """
        self._iterations = iterations
        self._batch_size = batch_size
        self._log_every = log_every
        path = workdir / LOG_FILE
        truncate_log(path, start)
        self._lines = _LineLog(path)
        self._board = _Board(workdir / BOARD_FOLDER, start + 1)
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
        self._lines.close()

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
            self._write(step, {**rates, **values})
            self._timed_from = (step, now)
        elif self._timed_from is None:
            self._timed_from = (step, now)

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Logs more numbers of a step, on a line of their own."""
        self._lines.write(json.dumps({"step": step, **values}))
        self._board.add(step, values)

    def _write(self, step: int, values: dict[str, float]) -> None:
        self.add(step, values)
        known = {n: f"{values[n]:.4g}" for n in _SHOWN if n in values}
        self._bar.set_postfix(known, refresh=False)
