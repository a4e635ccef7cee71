"""Files in a folder tree: their names, what is left out and why, and names for other files."""

import collections
import hashlib
import itertools
import os
import pathlib
import unicodedata
from collections.abc import Collection
from typing import NamedTuple

from drc_jax.errors import UserError

_NAME_BYTES = 200  # file systems take 255; endings and the names of partial files need some


class Problem(NamedTuple):
    """A file or folder that is not used.

    Attributes:
      name: its path below the folder searched, with ``/``.
      reason: why, as the end of a sentence that starts with the name.
    """

    name: str
    reason: str


class Listing(NamedTuple):
    """What lies below a folder; paths with ``/``, sorted.

    Attributes:
      names: the files.
      closed: folders that cannot be entered, whatever they hold.
      left_out: files and folders that are not looked at by rule.
    """

    names: list[str]
    closed: list[Problem]
    left_out: list[Problem]


def list_files(root: pathlib.Path, leave_out: Collection[pathlib.Path] = ()) -> Listing:
    """Every file below a folder but hidden ones.

    Links to files are followed, links to folders are not, for they can lead in circles.

    Args:
      root: the folder.
      leave_out: folders below it that are not entered, nor listed.

    Returns:
      What was found.

    Raises:
      UserError: if the folder itself cannot be read.
    """
    resolved = {path.resolve() for path in leave_out}
    names: list[str] = []
    closed: list[Problem] = []
    left_out: list[Problem] = []

    def below(path: str | os.PathLike[str]) -> str:
        return pathlib.Path(path).relative_to(root).as_posix()

    def unreadable(error: OSError) -> None:
        if pathlib.Path(error.filename) == root:
            raise UserError(f"cannot read the folder {root}: {error.strerror}")
        closed.append(Problem(below(error.filename), f"cannot be entered: {error.strerror}"))

    for folder, folders, files in os.walk(root, onerror=unreadable):
        here = pathlib.Path(folder)
        enter = []
        for name in sorted(folders):
            path = here / name
            if name.startswith("."):
                left_out.append(Problem(below(path), "is hidden"))
            elif path.is_symlink():
                left_out.append(Problem(below(path), "is a link to a folder"))
            elif path.resolve() not in resolved:
                enter.append(name)
        folders[:] = enter
        for name in files:
            if name.startswith("."):
                left_out.append(Problem(below(here / name), "is hidden"))
            else:
                names.append(below(here / name))
    return Listing(sorted(names), sorted(closed), sorted(left_out))


def printable(text: str) -> str:
    """``text`` on one line that any UTF-8 file or terminal takes.

    Line breaks, control characters and the bytes of names that are not UTF-8 are escaped.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def output_stems(
    names: list[str], extensions: Collection[str], endings: Collection[str]
) -> dict[str, str]:
    """Names without ending for what is made from each file, no two the same.

    A file's own path without its extension, where that is of no other picture, otherwise its whole
    path, and where even that is taken one with a number. Names that differ in case or in the
    composition of accents only count as the same, as they do on some systems; names near the limit
    of file systems are cut.

    Args:
      names: paths with ``/``, all different.
      extensions: endings of files that are sure to need a name, in small letters; other files come
        after them and do not change their names.
      endings: what will be appended.

    Returns:
      Name to path without ending.
    """
    sure = {name for name in names if pathlib.PurePosixPath(name).suffix.lower() in extensions}
    shared = collections.Counter(_folded(stem(name)) for name in sure)
    # A folder may be called like a file to be written beside it.
    parents = {str(parent) for name in names for parent in pathlib.PurePosixPath(name).parents}
    taken = {_folded(parent) for parent in parents}
    stems = {}
    for name in sorted(names, key=lambda name: (name not in sure, name)):
        own = [stem(name)] if shared[_folded(stem(name))] <= 1 else []
        numbered = (f"{name}-{number}" for number in itertools.count(2))
        for candidate in map(_shortened, itertools.chain(own, [name], numbered)):
            paths = {_folded(candidate + ending) for ending in endings}
            if not paths & taken:
                break
        stems[name] = candidate
        taken |= paths
    return stems


def stem(name: str) -> str:
    """A path with ``/`` without its last extension."""
    return pathlib.PurePosixPath(name).with_suffix("").as_posix()


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _shortened(name: str) -> str:
    """Cuts the last part of a path to `_NAME_BYTES`; a digest keeps it from meeting others."""
    folder, slash, last = name.rpartition("/")
    raw = os.fsencode(last)
    if len(raw) <= _NAME_BYTES:
        return name
    kept = raw[: _NAME_BYTES - 9].decode(errors="ignore")
    return f"{folder}{slash}{kept}-{hashlib.sha256(raw).hexdigest()[:8]}"
