"""Several processes that train one run: joining them, and what process 0 does for all."""

import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from drc_jax.errors import UserError
from drc_jax.runtime import devices

T = TypeVar("T")


def join(coordinator: str | None, num_processes: int, process_id: int) -> None:
    """Makes this process one of several, or leaves it alone where there is but one.

    To be called before JAX computes anything. Waits up to five minutes for the others.

    Args:
      coordinator: ``HOST:PORT`` at which process 0 can be reached; process 0 opens the port.
        None for a single process.
      num_processes: how many there are.
      process_id: which one this is, from 0.

    Raises:
      UserError: if the values cannot be, or the others do not come.
    """
    if coordinator is None and (num_processes, process_id) == (1, 0):
        return
    if coordinator is None or not re.fullmatch(r"\S+:\d+", coordinator):
        raise UserError(f"--coordinator must be HOST:PORT of process 0, got {coordinator}")
    if not 0 <= process_id < num_processes:
        raise UserError(
            f"--process_id must lie in [0, {num_processes}), the --num_processes, got {process_id}"
        )
    # It would take SIGTERM, which ends a run after saving (drc_jax.runtime.signals).
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(coordinator, num_processes, process_id)
    except RuntimeError as error:
        reason = str(error).splitlines()[0][:200]
        raise UserError(f"could not join the processes at {coordinator}: {reason}") from None


@contextlib.contextmanager
def ending_with_the_others() -> Iterator[None]:
    """Ends this process, status 2 and one line, where work shared with others cannot go on.

    Without this the end of another process is a page of tracebacks, a minute later: on its way
    out JAX waits for those that are gone.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if jax.process_count() == 1:
            raise
        reason = str(error).splitlines()[0][:300]
        print(
            f"error: {reason}\nIf another process has ended, its own message says why. The same "
            "commands, started for all, resume from the newest checkpoint.",
            file=sys.stderr,
            flush=True,
        )
        os._exit(2)


def is_first() -> bool:
    """Whether this process is the one that writes files and prints."""
    return jax.process_index() == 0


def first_only(work: Callable[[], T]) -> T | None:
    """Does something in process 0 while the others wait to hear that it went well.

    Args:
      work: called in process 0 alone.

    Returns:
      What ``work`` returned; None in the other processes.

    Raises:
      UserError: in the other processes, if ``work`` raised anything in process 0.
    """
    if jax.process_count() == 1:
        return work()
    result, error = None, None
    if is_first():
        try:
            result = work()
        except BaseException as raised:
            error = raised
    failed = multihost_utils.broadcast_one_to_all(np.int32(error is not None))
    if error is not None:
        raise error
    if failed:
        raise UserError("process 0 could not go on; its own message says why")
    return result


def in_turn(work: Callable[[], T]) -> T:
    """Does something in process 0, then in the others, which find the files that it has written.

    Raises:
      UserError: in the other processes, if ``work`` raised anything in process 0.
    """
    (result,) = first_only(lambda: [work()]) or [work()]
    return result


def from_first(tree: Any, like: T) -> T:
    """Sends a pytree of NumPy arrays from process 0 to all.

    Each array in turn lies on every device meanwhile.

    Args:
      tree: what to send; looked at in process 0 only.
      like: a pytree of its shapes and dtypes.

    Returns:
      ``tree``, in every process.
    """
    if jax.process_count() == 1:
        return tree
    mine = tree if is_first() else jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), like)
    return jax.tree.map(multihost_utils.broadcast_one_to_all, mine)


def agreed(mesh: Mesh, own: Callable[[], int | None]) -> Callable[[], int | None]:
    """How processes learn of a signal that has reached any of them.

    Args:
      mesh: of the devices of all processes.
      own: the signal that has reached this process, or None.

    Returns:
      To be called by every process once after each step: the signal by which to stop, or None.
      With several processes it is known a step late, so that no device waits.
    """
    if jax.process_count() == 1:
        return own
    asked: list[jax.Array] = []

    def number() -> int | None:
        asked.append(devices.largest(mesh, own() or 0))
        return (int(asked.pop(0)) or None) if len(asked) > 1 else None

    return number


def say(text: str) -> None:
    """Prints in process 0 alone."""
    if is_first():
        print(text, flush=True)
