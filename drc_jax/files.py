"""Files and folders: written whole or not at all, tried before the work, locked meanwhile."""

import contextlib
import fcntl
import os
import pathlib
import tempfile
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
        # Tried, for permissions say nothing about a read-only or full disk.
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(4096))
    except OSError as error:
        reason = error.strerror or str(error)
        if isinstance(error, FileExistsError):
            reason = "it is a file, not a folder"
        raise UserError(f"cannot write {what} to {folder}: {reason}; choose another") from None
    return folder


def check_writable_file(path: str | os.PathLike[str]) -> pathlib.Path:
    """Checks where a file shall go, before the work that makes it, and makes its folder.

    Raises:
      UserError: if a folder has its name, or nothing can be written beside it.
    """
    path = pathlib.Path(path)
    writable(path.parent, path.name)
    if path.is_dir():
        raise UserError(f"cannot write {path}: it is a folder; give a file's name")
    return path


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


def check_png_path(path: str | os.PathLike[str]) -> pathlib.Path:
    """Checks where a picture shall go, before the work that makes it, and makes its folder.

    Raises:
      UserError: if the name does not end in .png or it cannot be written.
    """
    if pathlib.Path(path).suffix.lower() != ".png":
        raise UserError(f"the picture {path} must be named *.png")
    return check_writable_file(path)


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes a file so that a reader, or a killed run, never sees half of it.

    Args:
      path: the file; its folder must exist. An earlier file is replaced.
      data: the whole content.

    Raises:
      UserError: if it cannot be written; an earlier file stays as it was.
    """
    path = pathlib.Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with open(partial, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        partial.unlink(missing_ok=True)
