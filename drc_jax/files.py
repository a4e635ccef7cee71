"""Files and folders: written whole or not at all, tried before the work, locked meanwhile."""

import contextlib
import errno
import fcntl
import functools
import os
import pathlib
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator

from drc_jax.errors import UserError

_SHOWN = 300  # longest path in a message
_COPY_BYTES = 256 << 20


def shown(path: str | os.PathLike[str]) -> str:
    """A path for a message; an endless one is cut in the middle."""
    text = os.fspath(path)
    return text if len(text) <= _SHOWN else f"{text[:100]}...{text[-50:]}"


def reason(error: BaseException) -> str:
    """Why a file could not be written, as the system says it: "No space left on device"."""
    return getattr(error, "strerror", None) or str(error)


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
        is_file = isinstance(error, FileExistsError)
        why = "it is a file, not a folder" if is_file else reason(error)
        raise UserError(f"cannot write {what} to {shown(folder)}: {why}; choose another") from None
    return folder


def check_writable_file(path: str | os.PathLike[str], suffix: str = "") -> pathlib.Path:
    """Checks where a file shall go, before the work that makes it, and makes its folder.

    Args:
      path: the file.
      suffix: how its name must end, such as ``.png``; empty for anything.

    Raises:
      UserError: if its name ends otherwise, a folder has its name, or nothing can be written
        beside it.
    """
    path = pathlib.Path(path)
    if suffix and path.suffix.lower() != suffix:
        raise UserError(f"the file {shown(path)} must be named *{suffix}")
    writable(path.parent, shown(path.name))
    try:
        is_folder = path.is_dir()
    except OSError as error:
        raise UserError(f"cannot write {shown(path)}: {reason(error)}") from None
    if is_folder:
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


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes a file so that a reader, or a killed run, never sees half of it.

    The bytes go to a new file beside it with a name that nobody can foresee, which then takes the
    name. A link at ``path`` is replaced, not followed. What earlier processes left when they were
    killed is removed.

    Args:
      path: the file; its folder must exist. An earlier file is replaced.
      data: the whole content.

    Raises:
      UserError: if it cannot be written; an earlier file stays as it was.
    """
    path = pathlib.Path(path)
    try:
        _clear_leftovers(path.parent)
        descriptor, partial = _new_partial(path)
        try:
            with open(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
                # Before the file is closed, and so unlocked.
                os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {shown(path)}: {reason(error)}") from None


def _new_partial(path: pathlib.Path) -> tuple[int, pathlib.Path]:
    """Makes the file whose bytes will be those of ``path``, open for writing and locked."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    while True:
        partial = path.with_name(f".{path.name[:50]}.{secrets.token_hex(8)}.partial")
        descriptor = os.open(partial, flags, 0o666)
        with contextlib.suppress(OSError):  # some file systems have no locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        # Another process may have taken it for a leftover before it was locked.
        if os.fstat(descriptor).st_nlink:
            return descriptor, partial
        os.close(descriptor)


@functools.lru_cache(maxsize=256)
def _clear_leftovers(folder: pathlib.Path) -> None:
    """Removes the partial files of killed processes: those that nobody has locked.

    Once for every folder, for there may be thousands of files in it.
    """
    for partial in folder.glob(".*.partial"):
        with contextlib.suppress(OSError):
            if not stat.S_ISREG(partial.lstat().st_mode):
                continue
            descriptor = os.open(partial, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                partial.unlink()
            finally:
                os.close(descriptor)


def copy_file(source: pathlib.Path, target: pathlib.Path) -> None:
    """Copies a file inside the kernel, which shares its blocks where the file system can.

    Raises:
      OSError: as on a full disk.
    """
    with open(source, "rb", buffering=0) as old, open(target, "wb", buffering=0) as new:
        left = os.fstat(old.fileno()).st_size
        try:
            while left > 0:
                copied = os.copy_file_range(old.fileno(), new.fileno(), min(left, _COPY_BYTES))
                if copied == 0:
                    raise OSError(errno.EIO, "file was cut short while copied", str(source))
                left -= copied
            return
        except AttributeError:  # not on this system
            pass
        except OSError as error:
            # Between some file systems and on old kernels it is refused.
            if error.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
    shutil.copyfile(source, target)
