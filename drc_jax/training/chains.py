"""Chains that lie in files while a run uses them, so that a step waits for no file.

The chains of the next batches are read while a step runs, and those of a finished step are written
back, both by threads.

Working files are of no use after a crash, for nothing says which steps they hold. A checkpoint has
copies of them as they were at its step, and a run resumes from these. Copying takes no memory and
goes on while training does, but the disk needs room for the files once more per checkpoint, and a
resuming run copies one back and compares its digest first. On file systems that share blocks
between files (XFS, Btrfs) a copy is immediate and takes no room until the chains change.
"""

import collections
import functools
import itertools
import pathlib
import shutil
from collections.abc import Iterator, Mapping
from concurrent import futures
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from drc_jax.errors import UserError
from drc_jax.training import chain_files
from drc_jax.training.step import Chains

Batch = Mapping[str, np.ndarray]

_AHEAD = 2  # batches whose chains are read before they are asked for
# Steps whose chains may wait, on the device, to be written: a checkpoint's copy holds them up.
_MOST_UNWRITTEN = 256


def _rows(batch: Batch) -> np.ndarray:
    """Where the chains of a batch lie in a bank, int64 [B]."""
    return 2 * batch["index"].astype(np.int64) + batch["flip"]


class _Read(NamedTuple):
    """Chains read from the files.

    Attributes:
      written: steps whose chains were in the files for certain when reading began.
      chains: what was read; rows of later steps may be of before or after them.
    """

    written: int
    chains: Chains


class _Result(NamedTuple):
    """The chains of a finished or running step and the rows they belong to."""

    rows: np.ndarray
    chains: Chains


class HostBanks:
    """The working files of a run in use; `close` removes them.

    Every step's chains go to the files in the order of steps. A chain that is asked for before it
    is there is handed over from that step's result, on the device. So what a step gets does not
    depend on how fast the files are.

    The functions are for one thread, and raise UserError where the files cannot be used.
    """

    def __init__(
        self, folder: pathlib.Path, sharding: jax.sharding.NamedSharding | None = None
    ) -> None:
        """Opens the files that `chain_files` has put into ``folder``.

        Args:
          folder: of the files.
          sharding: by rows, of a batch's chains, where every device has the chains of its own
            images; None for the default device.
        """
        self._folder = folder
        self._sharding = sharding
        self._banks = [chain_files.Bank(folder, name) for name in chain_files.NAMES]
        self._reader = futures.ThreadPoolExecutor(1, "read chains")
        # One thread: everything it is given happens in that order.
        self._writer = futures.ThreadPoolExecutor(1, "write chains")
        self._writes: collections.deque[futures.Future[None]] = collections.deque()
        self._num_written = 0
        # Results of the steps from _first_result on, which a read may have missed.
        self._results: collections.deque[_Result] = collections.deque()
        self._first_result = 0

    def feed(self, batches: Iterator[Batch]) -> Iterator[tuple[Batch, Chains]]:
        """Adds to every batch its posterior and prior chains, both [B, D], on the devices.

        Each batch's chains after its step must be given to `store` before the next is taken.

        Args:
          batches: as from ``train_batches``, with as many images each. They are taken some steps
            early.
        """
        ahead: collections.deque[tuple[Batch, futures.Future[_Read]]] = collections.deque()
        for batch in batches:
            ahead.append((batch, self._reader.submit(self._read_and_place, _rows(batch))))
            if len(ahead) > _AHEAD:
                yield self._next(ahead)
        while ahead:
            yield self._next(ahead)

    def _next(
        self, ahead: collections.deque[tuple[Batch, futures.Future[_Read]]]
    ) -> tuple[Batch, Chains]:
        """Takes the first of the batches that are being read."""
        batch, future = ahead.popleft()
        read = self._result(future)
        # Reads begin in order, so no later one misses these.
        while self._first_result < read.written:
            self._results.popleft()
            self._first_result += 1
        return batch, self._up_to_date(read, _rows(batch))

    def store(self, batch: Batch, chains: Chains) -> None:
        """Takes a step's new chains, to be written when the device has computed them.

        Args:
          batch: the step's.
          chains: posterior and prior, both [B, D]; they must not be donated afterwards.
        """
        result = _Result(_rows(batch), chains)
        self._results.append(result)
        self._writes.append(self._writer.submit(self._write, result))
        while self._writes and (self._writes[0].done() or len(self._writes) > _MOST_UNWRITTEN):
            self._result(self._writes.popleft())

    def posterior(self, num_images: int) -> np.ndarray:
        """The newest posterior chains [num_images, D] of the first images, not mirrored."""
        rows = 2 * np.arange(num_images)
        written, (newest, _) = self._result(self._reader.submit(self._read, rows))
        for result, places in self._missed(written, rows):
            newest[places >= 0] = np.asarray(result.chains[0])[places[places >= 0]]
        return newest

    def copy_to(self, folder: pathlib.Path) -> futures.Future[None]:
        """Copies the files, as they are after the steps stored so far, in the background.

        Args:
          folder: to be made.

        Returns:
          A future, done when the copy is; it raises OSError as on a full disk.
        """
        return self._writer.submit(chain_files.copy_files, self._folder, folder)

    def close(self) -> None:
        """Ends the threads and removes the files."""
        for thread in (self._reader, self._writer):
            thread.shutdown(cancel_futures=True)
        for bank in self._banks:
            bank.close()
        shutil.rmtree(self._folder)

    def _read(self, rows: np.ndarray) -> tuple[int, tuple[np.ndarray, ...]]:
        written = self._num_written
        return written, tuple(bank.read(rows) for bank in self._banks)

    def _read_and_place(self, rows: np.ndarray) -> _Read:
        written, (posterior, prior) = self._read(rows)
        return _Read(written, jax.device_put((posterior, prior), self._sharding))

    def _write(self, result: _Result) -> None:
        for bank, chains in zip(self._banks, result.chains, strict=True):
            bank.write(result.rows, np.asarray(chains))
        self._num_written += 1

    def _up_to_date(self, read: _Read, rows: np.ndarray) -> Chains:
        """What was read, with the chains of the steps that it may have missed put in."""
        chains = read.chains
        shards = 1 if self._sharding is None else self._sharding.num_devices
        for result, places in self._missed(read.written, rows):
            chains = _replace(chains, result.chains, places, shards)
        return chains

    def _missed(self, written: int, rows: np.ndarray) -> Iterator[tuple[_Result, np.ndarray]]:
        """Results after ``written`` steps that have some of ``rows``; for each row where, or -1."""
        for result in itertools.islice(self._results, written - self._first_result, None):
            same = rows[:, None] == result.rows
            if same.any():
                yield result, np.where(same.any(axis=1), same.argmax(axis=1), -1).astype(np.int32)

    def _result(self, future: futures.Future[Any]) -> Any:
        try:
            return future.result()
        except OSError as error:
            raise UserError(f"cannot use the chains in {self._folder}: {error.strerror}") from None


@functools.partial(jax.jit, static_argnums=3)
def _replace(chains: Chains, newer: Chains, places: jax.Array, shards: int) -> Chains:
    """Takes chain i from ``newer[places[i]]`` where that is not -1, always in i's own shard."""

    def replace(old: jax.Array, new: jax.Array) -> jax.Array:
        # Looked up shard by shard, so that no device asks another.
        at = (places % (len(places) // shards)).reshape(shards, -1)
        found = jax.vmap(lambda z, rows: z[rows])(new.reshape(shards, -1, new.shape[-1]), at)
        return jnp.where((places >= 0)[:, None], found.reshape(old.shape), old)

    return jax.tree.map(replace, chains, newer)
