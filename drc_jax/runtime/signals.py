"""Noticing SIGTERM and SIGINT, so that a run can save before it ends."""

import os
import signal
import threading
import time
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)

# `timeout` and terminals signal a process and then its group: within this long it is one signal.
_SAME_SECONDS = 1.0


class StopSignal:
    """While its ``with`` block runs, a first SIGTERM or SIGINT is noted and a second one exits.

    Python runs its signal handlers only between instructions of the main thread, which may be
    inside one compiled computation for minutes. So the interpreter's low-level handler, which is
    immediate, wakes a thread that does the work.

    Attributes:
      number: the signal that arrived, or None. Poll it between steps.
    """

    def __init__(self) -> None:
        self.number: int | None = None

    def __enter__(self) -> "StopSignal":
        self._read_end, self._write_end = os.pipe()
        os.set_blocking(self._write_end, False)
        self._old_wakeup = signal.set_wakeup_fd(self._write_end)
        self._old_handlers = {number: signal.signal(number, _ignore) for number in SIGNALS}
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        for number, handler in self._old_handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._old_wakeup)
        os.close(self._write_end)
        self._thread.join()
        os.close(self._read_end)

    def _watch(self) -> None:
        """Reads one byte, the signal's number, for each signal until the pipe is closed."""
        arrived = 0.0
        while received := os.read(self._read_end, 1):
            if received[0] not in SIGNALS:
                continue
            if self.number is not None:
                again = received[0] == self.number
                if again and time.monotonic() - arrived < _SAME_SECONDS:
                    continue
                os._exit(128 + received[0])
            self.number, arrived = received[0], time.monotonic()
            name = signal.Signals(self.number).name
            os.write(2, f"\n{name}: saving after this step; again to exit at once\n".encode())


def _ignore(number: int, frame: FrameType | None) -> None:
    """A handler for Python to run; without one the wake-up is not written."""
