"""Starts the programs as their user does."""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]


def start(program: str, *arguments: str, is_optimised: bool = False) -> subprocess.CompletedProcess:
    """``python -m experiments.PROGRAM ARGUMENTS`` in the project's folder, to its end.

    An empty ``program`` is the list of programs. With ``is_optimised`` XLA compiles as for a user,
    instead of fast as in the rest of the suite.
    """
    environment = dict(os.environ)
    if is_optimised:
        del environment["XLA_FLAGS"]
    return subprocess.run(
        [sys.executable, "-m", f"experiments.{program}".rstrip("."), *arguments],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment,
    )
