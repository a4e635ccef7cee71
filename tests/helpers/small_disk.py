"""A disk of a few hundred kilobytes, to see what happens when it is full."""

import contextlib
import pathlib
import subprocess
from collections.abc import Iterator

import pytest


@contextlib.contextmanager
def mounted(folder: pathlib.Path, size: str, *, read_only: bool = False) -> Iterator[pathlib.Path]:
    """A tmpfs of that size at ``folder``; skips the test where none may be mounted."""
    folder.mkdir(exist_ok=True)
    options = f"size={size}{',ro' if read_only else ''}"
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no mount on this machine")
    if done.returncode:
        pytest.skip(f"no tmpfs may be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: pathlib.Path) -> pathlib.Path:
    """Takes all that is left of the disk; returns the file, to be removed for room."""
    path = folder / "filler"
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while file.write(bytes(1 << 16)) == 1 << 16:
            pass
        while file.write(bytes(1)):
            pass
    return path
