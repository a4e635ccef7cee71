"""A first signal is noted, one that follows at once is the same, a later one ends the process."""

import signal
import subprocess
import sys

PROGRAM = """
import os, signal, sys, time
from drc_jax import interrupt
interrupt._SAME_SECONDS = float(sys.argv[1])
with interrupt.StopSignal() as stop:
    os.kill(os.getpid(), signal.SIGTERM)
    while stop.number is None:
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.5)
sys.exit(3 if stop.number == signal.SIGTERM else 4)
"""


def status(same_seconds: float) -> int:
    command = [sys.executable, "-c", PROGRAM, str(same_seconds)]
    return subprocess.run(command, capture_output=True, timeout=120).returncode


def test_a_signal_sent_twice_at_once_is_one():
    assert status(60.0) == 3


def test_a_second_signal_ends_the_process():
    assert status(0.0) == 128 + signal.SIGTERM
