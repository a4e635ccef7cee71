"""Files in a folder tree: their names, what is left out and why, and names fit to print."""

import os
import pathlib
from collections.abc import Collection
from typing import NamedTuple


class Problem(NamedTuple):
    """A file or folder that is not used.

    Attributes:
      name: its path below the folder searched, with ``/``.
      reason: why, as the end of a sentence that starts with the name.
    """

    name: str
    reason: str


def list_files(
    root: pathlib.Path, leave_out: Collection[pathlib.Path] = ()
) -> tuple[list[str], list[Problem]]:
    """Every file below a folder but hidden ones.

    Links to files are followed, links to folders are not, for they can lead in circles.

    Args:
      root: the folder.
      leave_out: folders below it that are not entered, nor listed.

    Returns:
      The files' paths below ``root``, with ``/`` and sorted, and what was not entered.
    """
    resolved = {path.resolve() for path in leave_out}
    names: list[str] = []
    problems: list[Problem] = []

    def below(path: str | os.PathLike[str]) -> str:
        return pathlib.Path(path).relative_to(root).as_posix()

    def unreadable(error: OSError) -> None:
        problems.append(Problem(below(error.filename), f"cannot be entered: {error.strerror}"))

    for folder, folders, files in os.walk(root, onerror=unreadable):
        here = pathlib.Path(folder)
        enter = []
        for name in sorted(folders):
            path = here / name
            if name.startswith("."):
                problems.append(Problem(below(path), "is hidden"))
            elif path.is_symlink():
                problems.append(Problem(below(path), "is a link to a folder"))
            elif path.resolve() not in resolved:
                enter.append(name)
        folders[:] = enter
        for name in files:
            if name.startswith("."):
                problems.append(Problem(below(here / name), "is hidden"))
            else:
                names.append(below(here / name))
    return sorted(names), sorted(problems)


def printable(text: str) -> str:
    """``text`` on one line that any UTF-8 file or terminal takes.

    Line breaks, control characters and the bytes of names that are not UTF-8 are escaped.
    """
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode() for c in text
    )
