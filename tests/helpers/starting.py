"""Starts the programs as their user does."""

import atexit
import functools
import json
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]


def start(program: str, *arguments: str, is_optimised: bool = False) -> subprocess.CompletedProcess:
    """``python -m experiments.PROGRAM ARGUMENTS`` in the project's folder, to its end.

    An empty ``program`` is the list of programs. With ``is_optimised`` XLA compiles as for a user,
    instead of fast as in the rest of the suite. The process is a fork of one that has imported JAX,
    which takes longer than most of what the tests ask of a program.
    """
    module = f"experiments.{program}" if program else "experiments"
    code = f"import runpy; runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
    return run_code(code, *arguments, is_optimised=is_optimised)


def output_of(program: str, *arguments: str) -> str:
    """What a program prints, as `start` starts it; it must succeed."""
    done = start(program, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_code(code: str, *arguments: str, is_optimised: bool = False) -> subprocess.CompletedProcess:
    """``python -c CODE ARGUMENTS``, as ``start`` does it."""
    environment = dict(os.environ)
    if is_optimised:
        del environment["XLA_FLAGS"]
    # Read when Python starts and when JAX is imported.
    early = ("PYTHON", "JAX_")
    settings = {name: value for name, value in environment.items() if name.startswith(early)}
    with tempfile.TemporaryDirectory() as folder:
        outputs = [pathlib.Path(folder, name) for name in ("stdout", "stderr")]
        for output in outputs:
            output.touch()
        request = {
            "program": code,
            "arguments": arguments,
            "environment": environment,
            **{output.name: str(output) for output in outputs},
        }
        forking = _forking(json.dumps(settings))
        assert forking.stdin is not None and forking.stdout is not None
        forking.stdin.write(json.dumps(request) + "\n")
        forking.stdin.flush()
        status = int(forking.stdout.readline())
        said, errors = (output.read_text() for output in outputs)
    return subprocess.CompletedProcess([code, *arguments], status, said, errors)


@functools.cache
def _forking(settings: str) -> subprocess.Popen:
    """The process that forks, for what is read before it forks; it ends with this one."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.helpers.forking"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | json.loads(settings),
    )
    atexit.register(process.communicate)
    return process
