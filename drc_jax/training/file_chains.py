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
from jax.sharding import Mesh

from drc_jax.errors import UserError
from drc_jax.training import chain_files, devices
from drc_jax.training.chains import Batch, CopyFiles, Placed, check_index
from drc_jax.training.state import Chains

_AHEAD = 2  # batches whose chains are read before they are asked for
# Steps whose chains may wait, on the device, to be written: a checkpoint's copy holds them up.
_MOST_UNWRITTEN = 256


def _rows(batch: Batch) -> np.ndarray:
    """Where the chains of a batch lie in a file, int64 [B]."""
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


class _Fed(dict[str, Any]):
    """A batch on the devices, which remembers its rows in the files."""

    def __init__(self, placed: Mapping[str, Any], rows: np.ndarray) -> None:
        super().__init__(placed)
        self.rows = rows


class FileChains:
    """The working files of a run in use, a ``ChainStore``; `close` removes them.

    Every step's chains go to the files in the order of steps. A chain that is asked for before it
    is there is handed over from that step's result, on the device. So what a step gets does not
    depend on how fast the files are.

    The functions are for one thread, and raise UserError where the files cannot be used.
    """

    def __init__(self, folder: pathlib.Path, mesh: Mesh) -> None:
        """Opens the files that `chain_files` has put into ``folder``.

        Args:
          folder: of the files.
          mesh: devices of this process; each gets the chains of its own images.
        """
        self._folder = folder
        self._mesh = mesh
        self._files = [chain_files.Bank(folder, name) for name in Chains._fields]
        self._reader = futures.ThreadPoolExecutor(1, "read chains")
        # One thread: everything it is given happens in that order.
        self._writer = futures.ThreadPoolExecutor(1, "write chains")
        self._writes: collections.deque[futures.Future[None]] = collections.deque()
        self._num_written = 0
        # Results of the steps from _first_result on, which a read may have missed.
        self._results: collections.deque[_Result] = collections.deque()
        self._first_result = 0

    def feed(self, batches: Iterator[Batch]) -> Iterator[tuple[Placed, Chains]]:
        """See ``ChainStore``. Batches are taken some steps early, with as many images each."""
        ahead: collections.deque[tuple[Batch, futures.Future[_Read]]] = collections.deque()
        for batch in batches:
            check_index(
                batch["index"],
                range(self._mesh.size),
                self._mesh.size,
                self._files[0].num_images,
            )
            ahead.append((batch, self._reader.submit(self._read_and_place, _rows(batch))))
            if len(ahead) > _AHEAD:
                yield self._next(ahead)
        while ahead:
            yield self._next(ahead)

    def _next(
        self, ahead: collections.deque[tuple[Batch, futures.Future[_Read]]]
    ) -> tuple[_Fed, Chains]:
        """Takes the first of the batches that are being read."""
        batch, future = ahead.popleft()
        read = self._result(future)
        # Reads begin in order, so no later one misses these.
        while self._first_result < read.written:
            self._results.popleft()
            self._first_result += 1
        fed = _Fed(devices.place_rows(self._mesh, dict(batch)), _rows(batch))
        return fed, self._up_to_date(read, fed.rows)

    def put(self, batch: Placed, chains: Chains) -> None:
        """See ``ChainStore``; the chains are written when the device has computed them."""
        result = _Result(batch.rows if isinstance(batch, _Fed) else _rows(batch), chains)
        self._results.append(result)
        self._writes.append(self._writer.submit(self._write, result))
        while self._writes and (self._writes[0].done() or len(self._writes) > _MOST_UNWRITTEN):
            self._result(self._writes.popleft())

    def first(self, count: int) -> Chains:
        """See ``ChainStore``."""
        rows = 2 * np.arange(count)
        written, newest = self._result(self._reader.submit(self._read, rows))
        for result, places in self._missed(written, rows):
            for mine, later in zip(newest, result.chains, strict=True):
                mine[places >= 0] = np.asarray(later)[places[places >= 0]]
        return Chains(*map(jax.numpy.asarray, newest))

    def on_host(self) -> None:
        return None

    def file_copier(self) -> CopyFiles:
        """See ``ChainStore``; the future that it gives raises OSError as on a full disk."""

        def copy(folder: pathlib.Path) -> futures.Future[None]:
            return self._writer.submit(chain_files.copy_files, self._folder, folder)

        return copy

    def close(self) -> None:
        """Ends the threads and removes the files."""
        for thread in (self._reader, self._writer):
            thread.shutdown(cancel_futures=True)
        for file in self._files:
            file.close()
        shutil.rmtree(self._folder)

    def _read(self, rows: np.ndarray) -> tuple[int, tuple[np.ndarray, ...]]:
        written = self._num_written
        return written, tuple(file.read(rows) for file in self._files)

    def _read_and_place(self, rows: np.ndarray) -> _Read:
        written, (posterior, prior) = self._read(rows)
        place = functools.partial(jax.device_put, device=devices.by_rows(self._mesh))
        return _Read(written, Chains(place(posterior), place(prior)))

    def _write(self, result: _Result) -> None:
        for file, chains in zip(self._files, result.chains, strict=True):
            file.write(result.rows, np.asarray(chains))
        self._num_written += 1

    def _up_to_date(self, read: _Read, rows: np.ndarray) -> Chains:
        """What was read, with the chains of the steps that it may have missed put in."""
        chains = read.chains
        for result, places in self._missed(read.written, rows):
            chains = _replace(chains, result.chains, places, self._mesh.size)
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
