"""Checkpoints: the whole training state, saved by Orbax in the background and verified when read.

A checkpoint is written under another name, and takes its own when complete, so a process killed in
the middle of a save leaves the earlier checkpoints whole. Where one was damaged later, the one
before it is used. `saved` says which files there are.
"""

import concurrent.futures
import dataclasses
import errno
import functools
import json
import logging
import os
import pathlib
import shutil
import sys
from typing import Any, TypeVar

import jax
import orbax.checkpoint as ocp

from drc_jax import files
from drc_jax.errors import UserError
from drc_jax.runs.chain_store import CopyFiles
from drc_jax.runs.saved import (
    CONFIG_FILE,
    DAMAGED_FOLDER,
    DIGESTS,
    FILES,
    FOLDER,
    digests_of,
    newest_intact,
    saved_files,
    saved_steps,
)

__all__ = [
    "DAMAGED_FOLDER",
    "DIGESTS",
    "FOLDER",
    "CheckpointWriter",
    "restore_params",
    "restore_state",
    "saved_files",
    "saved_steps",
]

# Why a disk takes no more, as the system says it.
_DISK_ERRORS = tuple(
    os.strerror(number)
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EFBIG, errno.EIO)
)

_log = logging.getLogger(__name__)


T = TypeVar("T")


def _items(state: Any) -> dict[str, Any]:
    """The state as Orbax items: the parameters can be read without the optimizers and chains.

    Fields that are None are left out.
    """
    fields = {f.name: getattr(state, f.name) for f in dataclasses.fields(state)}
    fields = {name: value for name, value in fields.items() if value is not None}
    return {"params": fields.pop("params"), "rest": fields}


def _checkpointer() -> ocp.Checkpointer:
    """A reader or writer for this process alone, where Orbax would wait for the others."""
    me = jax.process_index()
    options = ocp.options.MultiprocessingOptions(primary_host=me, active_processes={me})
    composite = ocp.CompositeOptions(multiprocessing_options=options)
    handler = ocp.CompositeCheckpointHandler(composite_options=composite)
    return ocp.Checkpointer(handler, multiprocessing_options=options)


def _read(workdir: pathlib.Path, step: int, targets: dict[str, Any]) -> Any:
    """Reads items of one checkpoint as pytrees of NumPy arrays.

    Args:
      workdir: a run's folder.
      step: the checkpoint's step.
      targets: item name to a pytree of ``jax.ShapeDtypeStruct``, or to None for a nested dict.

    Returns:
      A mapping from item name to pytree.

    Raises:
      UserError: if the checkpoint holds something else.
    """
    args = {name: ocp.args.StandardRestore(target) for name, target in targets.items()}
    folder = (workdir / FOLDER / str(step)).absolute()
    try:
        with _checkpointer() as reader:
            found = reader.restore(folder, args=ocp.args.Composite(**args))
        for name, target in targets.items():
            if target is not None:
                jax.tree.map(_check_like, found[name], target)
    except Exception as error:  # Orbax has no exceptions of its own
        raise UserError(
            f"the checkpoint {folder} is whole, but it is none that this version can read: "
            f"{_why(error)}"
        ) from error
    return found


def _check_like(found: Any, target: jax.ShapeDtypeStruct) -> None:
    """Raises ValueError where an array is not of its target's form, which Orbax cuts or fills."""
    if (found.shape, found.dtype) != (target.shape, target.dtype):
        raise ValueError(
            f"it has {found.dtype} {list(found.shape)} in place of {target.dtype} "
            f"{list(target.shape)}"
        )


def restore_params(workdir: pathlib.Path) -> tuple[int, dict[str, Any]]:
    """Reads the parameters of the newest intact checkpoint; changes nothing on disk.

    Args:
      workdir: a run's folder.

    Returns:
      The step and the parameters, a nested dict of NumPy arrays.

    Raises:
      UserError: when there is no checkpoint, or all of them are damaged.
    """
    step, _ = newest_intact(workdir)
    return step, _read(workdir, step, {"params": None})["params"]


def restore_state(workdir: pathlib.Path, like: T) -> tuple[int, T]:
    """Reads the newest intact checkpoint, to go on training from it.

    Damaged newer checkpoints are moved to ``<workdir>/damaged_checkpoints``, so that training
    can save the same steps again.

    Args:
      workdir: a run's folder.
      like: the state's structure, with ``jax.ShapeDtypeStruct`` leaves.

    Returns:
      The step and the state, of NumPy arrays.

    Raises:
      UserError: when there is no checkpoint, or all of them are damaged.
    """
    step, damaged = newest_intact(workdir)
    items = _read(workdir, step, _items(like))
    for bad in damaged:
        aside = workdir / DAMAGED_FOLDER
        try:
            aside.mkdir(exist_ok=True)
            name = f"{bad}-{len(list(aside.iterdir()))}"
            (workdir / FOLDER / str(bad)).rename(aside / name)
        except OSError as error:
            raise UserError(
                f"cannot move the damaged checkpoint of step {bad} to {aside}: "
                f"{files.reason(error)}"
            ) from None
        _log.warning("moved the damaged checkpoint of step %d to %s", bad, aside / name)
    fields = {"params": items["params"], **items["rest"]}
    return step, dataclasses.replace(like, **fields)  # type: ignore[type-var]


def _why(error: BaseException) -> str:
    """The reason for a failure in a few words; a page from TensorStore may lie around it."""
    text = str(error)
    found = [reason for reason in _DISK_ERRORS if reason in text]
    return found[0] if found else (text.splitlines() or [type(error).__name__])[0][:200]


@functools.cache
def _silence_failed_writes() -> None:
    """Drops what Orbax and its threads tell of a write that failed, which is reported here.

    Several of its threads fail, and some only after the first failure has been raised: they log
    pages of tracebacks, leave tasks that asyncio complains of, and report to an event loop which
    Orbax has closed by then. So this is for the rest of the process.
    """

    def from_elsewhere(record: logging.LogRecord) -> bool:
        unread = record.name == "asyncio" and "was never retrieved" in record.getMessage()
        return not unread and "orbax" not in record.pathname

    for name in ("absl", "asyncio"):
        logging.getLogger(name).addFilter(from_elsewhere)
    others = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        error = unraisable.exc_value
        if not (isinstance(error, RuntimeError) and str(error) == "Event loop is closed"):
            others(unraisable)

    sys.unraisablehook = hook


class CheckpointWriter:
    """Saves states in the background and keeps the newest few; use as a context manager.

    The run's config.json, as it is when the writer is made, goes into every checkpoint.
    """

    def __init__(self, workdir: pathlib.Path, *, keep: int):
        """Makes the folder of checkpoints and removes what a killed process has left there.

        Raises:
          UserError: if it cannot be written.
        """
        _silence_failed_writes()
        self._workdir = workdir
        self._folder = workdir / FOLDER
        self._keep = keep
        self._pending: concurrent.futures.Future[None] | None = None
        config = workdir / CONFIG_FILE
        try:
            self._config = config.read_bytes() if config.is_file() else None
            self._folder.mkdir(parents=True, exist_ok=True)
            for leftover in self._folder.glob("*.partial*"):
                shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        except OSError as error:
            raise UserError(
                f"cannot write checkpoints to {self._folder}: {files.reason(error)}"
            ) from None
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "checkpoint")

    def save(
        self,
        step: int,
        state: Any,
        copy_files: CopyFiles | None = None,
    ) -> None:
        """Starts saving ``state``, once the save before it has finished.

        Args:
          step: number of completed training steps; no newer checkpoint may exist.
          state: NumPy arrays of its own (``runtime.devices.to_host``); they must not be written
            to afterwards.
          copy_files: called at once with a folder to make, into which it copies in the background
            what belongs to the checkpoint beside the state; see ``saved_files``.

        Raises:
          UserError: when the save before this one failed, as on a full disk.
        """
        self.wait()
        beside = self._folder / f"{step}.partial.{FILES}"
        copied = None if copy_files is None else copy_files(beside)
        self._pending = self._thread.submit(self._write, step, _items(state), beside, copied)

    def wait(self) -> None:
        """Waits until everything is on disk.

        Raises:
          UserError: when it could not be written. Earlier checkpoints are as they were, and what
            was written of this one is removed.
        """
        pending, self._pending = self._pending, None
        if pending is None:
            return
        try:
            pending.result()
        except Exception as error:  # TensorStore reports a full disk as ValueError
            for leftover in self._folder.glob("*.partial*"):
                shutil.rmtree(leftover, ignore_errors=True)
            raise UserError(
                f"could not write a checkpoint to {self._folder}: {_why(error)}"
            ) from error

    def _write(
        self,
        step: int,
        items: dict[str, Any],
        beside: pathlib.Path,
        copied: concurrent.futures.Future[None] | None,
    ) -> None:
        partial = self._folder / f"{step}.partial"
        args = {name: ocp.args.StandardSave(tree) for name, tree in items.items()}
        with _checkpointer() as writer:
            writer.save(partial.absolute(), args=ocp.args.Composite(**args))
        if copied is not None:
            copied.result()
            beside.rename(partial / FILES)
        if self._config is not None:
            (partial / CONFIG_FILE).write_bytes(self._config)
        (partial / DIGESTS).write_text(json.dumps(digests_of(partial), indent=1))
        partial.rename(self._folder / str(step))
        for old in saved_steps(self._workdir)[: -self._keep]:
            shutil.rmtree(self._folder / str(old))

    def __enter__(self) -> "CheckpointWriter":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._thread.shutdown(wait=True)
