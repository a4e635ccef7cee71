"""Noticing SIGTERM and SIGINT, so that a run can save before it ends."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator

SIGNALS = (signal.SIGTERM, signal.SIGINT)

# `timeout` and terminals signal a process and then its group: within this long it is one signal.
_SAME_SECONDS = 1.0


@contextlib.contextmanager
def watching(numbers: Collection[int], notice: Callable[[int], None]) -> Iterator[None]:
    """While its block runs, calls ``notice`` in a thread of its own for each of these signals.

    Python runs its signal handlers only between instructions of the main thread, which may be
    inside one compiled computation for minutes. So the interpreter's low-level handler, which is
    immediate, wakes the thread. To be entered in the main thread.
    """
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)

    def watch() -> None:
        # One byte, the signal's number, for each signal until the pipe is closed.
        while received := os.read(read_end, 1):
            if received[0] in numbers:
                notice(received[0])

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    old_wakeup = signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    # Without handlers of Python's own the wake-up is not written.
    old_handlers = {n: signal.signal(n, lambda number, frame: None) for n in numbers}
    try:
        yield
    finally:
        for number, handler in old_handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(old_wakeup)
        os.close(write_end)
        thread.join()
        os.close(read_end)


class StopSignal(contextlib.ExitStack):
    """While its ``with`` block runs, a first SIGTERM or SIGINT is noted and a second one exits.

    Attributes:
      number: the signal that arrived, or None. Poll it between steps.
    """

    def __init__(self) -> None:
        super().__init__()
        self.number: int | None = None
        self._arrived = 0.0

    def __enter__(self) -> "StopSignal":
        self.enter_context(watching(SIGNALS, self._notice))
        return self

    def _notice(self, number: int) -> None:
        if self.number is not None:
            if number == self.number and time.monotonic() - self._arrived < _SAME_SECONDS:
                return
            os._exit(128 + number)
        self.number, self._arrived = number, time.monotonic()
        name = signal.Signals(number).name
        os.write(2, f"\n{name}: saving after this step; again to exit at once\n".encode())
