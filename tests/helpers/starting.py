"""Starts the programs as their user does, for the tests that look at what comes of it."""

import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]


def start(program: str, *arguments: str) -> subprocess.CompletedProcess:
    """``python -m experiments.PROGRAM ARGUMENTS`` in the project's folder, to its end."""
    return subprocess.run(
        [sys.executable, "-m", f"experiments.{program}", *arguments],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
