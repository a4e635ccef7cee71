"""Checkpoints: the whole training state, saved by Orbax in the background and verified when read.

A run's checkpoints are the folders ``<workdir>/checkpoints/<step>``. Each is written under another
name together with a digest of its every file, and takes its own name when complete. So a process
killed in the middle of a save leaves the earlier checkpoints whole, and a file that was lost,
cut short or altered later is found before anything is read from it; the checkpoint before that
one is used then.
"""

import concurrent.futures
import dataclasses
import hashlib
import json
import logging
import pathlib
import shutil
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp

from drc_jax.errors import UserError

FOLDER = "checkpoints"
DAMAGED_FOLDER = "damaged_checkpoints"
DIGESTS = "digests.json"
# Of a checkpoint: files that are not part of the state.
FILES = "files"

_log = logging.getLogger(__name__)


T = TypeVar("T")


class _DamagedError(Exception):
    """A checkpoint has a file that is not as it was written."""


def to_host(tree: T) -> T:
    """Copies a pytree of arrays to NumPy arrays that share no memory with the device.

    On the CPU ``jax.device_get`` returns views; a training step that is given the state to
    donate would overwrite them while they are being saved.
    """
    return jax.tree.map(lambda x: np.array(x, copy=True), jax.device_get(tree))


def _digests(folder: pathlib.Path) -> dict[str, str]:
    """Relative path of every file in ``folder``, but for the list itself, to its SHA-256."""
    digests = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != DIGESTS:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            digests[path.relative_to(folder).as_posix()] = digest
    return digests


def _items(state: Any) -> dict[str, Any]:
    """The state as Orbax items: the parameters can be read without the optimizers and chains.

    Fields that are None are left out.
    """
    fields = {f.name: getattr(state, f.name) for f in dataclasses.fields(state)}
    fields = {name: value for name, value in fields.items() if value is not None}
    return {"params": fields.pop("params"), "rest": fields}


def saved_steps(workdir: pathlib.Path) -> list[int]:
    """Steps that have a complete checkpoint in ``workdir``, oldest first."""
    folder = workdir / FOLDER
    if not folder.is_dir():
        return []
    return sorted(int(p.name) for p in folder.iterdir() if p.is_dir() and p.name.isdigit())


def saved_files(workdir: pathlib.Path, step: int) -> pathlib.Path:
    """The folder of what was put beside the state when the checkpoint of ``step`` was saved."""
    return workdir / FOLDER / str(step) / FILES


def _verify(folder: pathlib.Path) -> None:
    """Raises _DamagedError naming a file of the checkpoint that is not as it was written."""
    try:
        written = dict(json.loads((folder / DIGESTS).read_text()))
        found = _digests(folder)
    except (OSError, ValueError, TypeError) as error:
        raise _DamagedError(f"cannot be read ({error})") from None
    for name in sorted(set(written) | set(found)):
        if name not in found:
            raise _DamagedError(f"{name} is missing")
        if written.get(name) != found[name]:
            raise _DamagedError(f"{name} is not as it was written")


def _newest_intact(workdir: pathlib.Path) -> tuple[int, list[int]]:
    """The step of the newest intact checkpoint and the steps of damaged newer ones.

    Raises:
      UserError: when there is none, or all of them are damaged.
    """
    steps = saved_steps(workdir)
    if not steps:
        raise UserError(f"{workdir} has no checkpoint yet; train it first")
    damaged: list[int] = []
    for step in reversed(steps):
        folder = workdir / FOLDER / str(step)
        try:
            _verify(folder)
        except _DamagedError as error:
            _log.warning("the checkpoint %s is damaged: %s", folder, error)
            damaged.append(step)
            continue
        if damaged:
            _log.warning("using the checkpoint of step %d instead", step)
        return step, damaged
    raise UserError(
        f"every checkpoint in {workdir / FOLDER} is damaged (steps "
        f"{', '.join(map(str, steps))}); restore the folder from a copy or train in a new one"
    )


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
    """
    args = {name: ocp.args.StandardRestore(target) for name, target in targets.items()}
    with _checkpointer() as reader:
        folder = (workdir / FOLDER / str(step)).absolute()
        return reader.restore(folder, args=ocp.args.Composite(**args))


def restore_params(workdir: pathlib.Path) -> tuple[int, dict[str, Any]]:
    """Reads the parameters of the newest intact checkpoint; changes nothing on disk.

    Args:
      workdir: a run's folder.

    Returns:
      The step and the parameters, a nested dict of NumPy arrays.

    Raises:
      UserError: when there is no checkpoint, or all of them are damaged.
    """
    step, _ = _newest_intact(workdir)
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
    step, damaged = _newest_intact(workdir)
    items = _read(workdir, step, _items(like))
    for bad in damaged:
        aside = workdir / DAMAGED_FOLDER
        aside.mkdir(exist_ok=True)
        name = f"{bad}-{len(list(aside.iterdir()))}"
        (workdir / FOLDER / str(bad)).rename(aside / name)
        _log.warning("moved the damaged checkpoint of step %d to %s", bad, aside / name)
    fields = {"params": items["params"], **items["rest"]}
    return step, dataclasses.replace(like, **fields)  # type: ignore[type-var]


class CheckpointWriter:
    """Saves states in the background and keeps the newest few; use as a context manager."""

    def __init__(self, workdir: pathlib.Path, *, keep: int):
        self._workdir = workdir
        self._folder = workdir / FOLDER
        self._keep = keep
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "checkpoint")
        self._pending: concurrent.futures.Future[None] | None = None
        self._folder.mkdir(parents=True, exist_ok=True)
        for leftover in self._folder.glob("*.partial*"):
            shutil.rmtree(leftover)

    def save(
        self,
        step: int,
        state: Any,
        copy_files: Callable[[pathlib.Path], concurrent.futures.Future[None]] | None = None,
    ) -> None:
        """Starts saving ``state``, once the save before it has finished.

        Args:
          step: number of completed training steps; no newer checkpoint may exist.
          state: leaves as returned by ``to_host``; they must not be written to afterwards.
          copy_files: called at once with a folder to make, into which it copies in the background
            what belongs to the checkpoint beside the state; see ``saved_files``.

        Raises:
          UserError: when the save before this one failed, as on a full disk.
        """
        self.wait()
        files = self._folder / f"{step}.partial.{FILES}"
        copied = None if copy_files is None else copy_files(files)
        self._pending = self._thread.submit(self._write, step, _items(state), files, copied)

    def wait(self) -> None:
        """Waits until everything is on disk.

        Raises:
          UserError: when it could not be written.
        """
        pending, self._pending = self._pending, None
        if pending is None:
            return
        try:
            pending.result()
        except Exception as error:  # TensorStore reports a full disk as ValueError
            reason = str(error).splitlines()[0][:200]
            raise UserError(f"could not write a checkpoint to {self._folder}: {reason}") from error

    def _write(
        self,
        step: int,
        items: dict[str, Any],
        files: pathlib.Path,
        copied: concurrent.futures.Future[None] | None,
    ) -> None:
        partial = self._folder / f"{step}.partial"
        args = {name: ocp.args.StandardSave(tree) for name, tree in items.items()}
        with _checkpointer() as writer:
            writer.save(partial.absolute(), args=ocp.args.Composite(**args))
        if copied is not None:
            copied.result()
            files.rename(partial / FILES)
        (partial / DIGESTS).write_text(json.dumps(_digests(partial), indent=1))
        partial.rename(self._folder / str(step))
        for old in saved_steps(self._workdir)[: -self._keep]:
            shutil.rmtree(self._folder / str(old))

    def __enter__(self) -> "CheckpointWriter":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._thread.shutdown(wait=True)
