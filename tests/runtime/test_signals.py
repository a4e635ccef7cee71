"""A first signal is noted, the same one at once is ignored, any other ends the process."""

import signal

import pytest

from tests.helpers.starting import run_code

PROGRAM = """
import os, signal, sys, time
from drc_jax.runtime import signals
same_seconds, first, second = sys.argv[1:]
signals._SAME_SECONDS = float(same_seconds)
with signals.StopSignal() as stop:
    os.kill(os.getpid(), int(first))
    while stop.number is None:
        time.sleep(0.01)
    os.kill(os.getpid(), int(second))
    time.sleep(0.5)
sys.exit(3 if stop.number == int(first) else 4)
"""
SIGINT, SIGTERM = signal.SIGINT, signal.SIGTERM


@pytest.mark.parametrize(
    "same_seconds, first, second, status",
    [
        (60, SIGTERM, SIGTERM, 3),
        (0, SIGTERM, SIGTERM, 128 + SIGTERM),
        (60, SIGINT, SIGTERM, 128 + SIGTERM),
    ],
    ids=["twice at once", "once more", "another"],
)
def test_two_signals(same_seconds, first, second, status):
    child = run_code(PROGRAM, *map(str, (same_seconds, int(first), int(second))))
    assert child.returncode == status, child.stderr
    message = f"{signal.Signals(first).name}: saving after this step; again to exit at once"
    assert child.stderr.count(message) == 1
