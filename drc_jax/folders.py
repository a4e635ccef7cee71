"""Folders to write to: made and tried before the work that fills them, and locked meanwhile."""

import contextlib
import fcntl
import os
import pathlib
from collections.abc import Iterator

from drc_jax.errors import UserError


def writable(path: str | os.PathLike[str], what: str) -> pathlib.Path:
    """Makes a folder, with those above it, that files can be written to.

    Args:
      path: the folder.
      what: what will be written there, for the message.

    Returns:
      The folder.

    Raises:
      UserError: if it cannot be made or written.
    """
    folder = pathlib.Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {what} to {folder}: {error.strerror}") from None
    if not os.access(folder, os.W_OK):
        raise UserError(f"cannot write {what} to {folder}: no permission; choose another folder")
    return folder


@contextlib.contextmanager
def locked(path: pathlib.Path, what: str, busy: str) -> Iterator[None]:
    """Makes a folder and holds it for this process alone, until the block or the process ends.

    Args:
      path: the folder.
      what: as for `writable`.
      busy: the message where another process holds it.

    Raises:
      UserError: if it cannot be made or written, or another process holds it.
    """
    descriptor = os.open(writable(path, what), os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(busy) from None
        yield
    finally:
        os.close(descriptor)
