"""The checkpoints of a run as files: which there are, which of them are whole.

A checkpoint is the folder ``<workdir>/checkpoints/<step>``, with a digest of its every file. So a
file that was lost, cut short or altered is found before anything is read from it. The run's
config.json is among the files: a checkpoint says itself how it was trained.
"""

import hashlib
import json
import logging
import pathlib
import re
from typing import Any

from drc_jax import files
from drc_jax.errors import UserError

CONFIG_FILE = "config.json"
FOLDER = "checkpoints"
DAMAGED_FOLDER = "damaged_checkpoints"
DIGESTS = "digests.json"
# Of a checkpoint: files that are not part of the state.
FILES = "files"

_log = logging.getLogger(__name__)


class _DamagedError(Exception):
    """A checkpoint has a file that is not as it was written."""


def digests_of(folder: pathlib.Path) -> dict[str, str]:
    """Relative path of every file in ``folder``, but for the list itself, to its SHA-256."""
    digests = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != DIGESTS:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            digests[path.relative_to(folder).as_posix()] = digest
    return digests


def saved_steps(workdir: pathlib.Path) -> list[int]:
    """Steps that have a complete checkpoint in ``workdir``, oldest first.

    Raises:
      UserError: where a file lies in the place of a folder.
    """
    folder = workdir / FOLDER
    steps = []
    try:
        for path in folder.iterdir():
            if re.fullmatch("0|[1-9][0-9]*", path.name):
                if not path.is_dir():
                    raise UserError(f"{path} is a file in the place of a checkpoint; move it away")
                steps.append(int(path.name))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"cannot read the folder {folder}: {files.reason(error)}") from None
    return sorted(steps)


def saved_config(workdir: pathlib.Path, step: int) -> dict[str, Any] | None:
    """The config.json that the checkpoint of ``step`` was trained with.

    None for checkpoints of older versions, which have none, and where it is damaged.
    """
    folder = workdir / FOLDER / str(step)
    try:
        content = (folder / CONFIG_FILE).read_bytes()
        written = json.loads((folder / DIGESTS).read_text())
        if written[CONFIG_FILE] == hashlib.sha256(content).hexdigest():
            return dict(json.loads(content))
    except (OSError, ValueError, TypeError, KeyError):
        pass
    return None


def saved_files(workdir: pathlib.Path, step: int) -> pathlib.Path:
    """The folder of what was put beside the state when the checkpoint of ``step`` was saved."""
    return workdir / FOLDER / str(step) / FILES


def _verify(folder: pathlib.Path) -> None:
    """Raises _DamagedError naming a file of the checkpoint that is not as it was written."""
    try:
        written = json.loads((folder / DIGESTS).read_text())
        found = digests_of(folder)
    except (OSError, ValueError, RecursionError) as error:
        raise _DamagedError(f"cannot be read ({error})") from None
    if not isinstance(written, dict) or not written:
        raise _DamagedError(f"{DIGESTS} lists no files")
    for name in sorted(set(written) | set(found)):
        if name not in found:
            raise _DamagedError(f"{name} is missing")
        if written.get(name) != found[name]:
            raise _DamagedError(f"{name} is not as it was written")


def newest_intact(workdir: pathlib.Path) -> tuple[int, list[int]]:
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
