"""Chains kept in files, for image sets whose chains do not fit on the device.

A run with ``chain_bank`` ``host`` has two working files, of posterior and of prior chains, each
float32 [N, 2, D]: 8 bytes per latent and side of an image, so 16 GB for a million images with 1024
latents. The chains of the next batches are read while a step runs, and those of a finished step are
written back, both by threads, so that a step waits for neither.

The files are read and written by position instead of through a memory map: a full disk is then an
error that can be told, where a map ends the process by a signal; the interpreter's lock is free
meanwhile; and the pages that the system caches do not count as memory of the process.

Working files are of no use after a crash, for nothing says which steps they hold. A checkpoint has
copies of them as they were at its step, and a run resumes from these. Copying takes no memory and
goes on while training does, but the disk needs room for the files once more per checkpoint, and a
resuming run copies one back and compares its digest first. On file systems that share blocks
between files (XFS, Btrfs) a copy is immediate and takes no room until the chains change.
"""

import collections
import errno
import itertools
import os
import pathlib
import shutil
from collections.abc import Iterator, Mapping
from concurrent import futures
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from drc_jax import folders
from drc_jax.errors import UserError

FOLDER = "chain_banks"

Batch = Mapping[str, np.ndarray]
Chains = tuple[jax.Array, jax.Array]

_NAMES = ("posterior", "prior")
# Streams 0 and 1 of a run's seed order and mirror its batches.
_STREAMS = {"posterior": 2, "prior": 3}
_BLOCK = 4096  # images drawn at a time; part of the rule for the numbers
_COPY_BYTES = 256 << 20
_AHEAD = 2  # batches whose chains are read before they are asked for
# Steps whose chains may wait, on the device, to be written: a checkpoint's copy holds them up.
_MOST_UNWRITTEN = 256


def _path(folder: pathlib.Path, name: str) -> pathlib.Path:
    return folder / f"{name}.npy"


class _Bank:
    """A ``.npy`` file of float32 [N, 2, D], read and written one chain at a time."""

    def __init__(self, path: pathlib.Path) -> None:
        self._file = open(path, "r+b", buffering=0)
        np.lib.format.read_magic(self._file)
        shape, _, self._dtype = np.lib.format.read_array_header_1_0(self._file)
        self._start = self._file.tell()
        self._latents = shape[2]

    def _place(self, row: int) -> int:
        return self._start + int(row) * self._latents * self._dtype.itemsize

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Chains [B, D] of rows [B], 2 * image + side."""
        chains = np.empty((len(rows), self._latents), self._dtype)
        for row, chain in zip(rows, chains, strict=True):
            if os.preadv(self._file.fileno(), [chain], self._place(row)) != chain.nbytes:
                raise OSError(errno.EIO, "file is cut short", self._file.name)
        return chains

    def write(self, rows: np.ndarray, chains: np.ndarray) -> None:
        """Replaces the chains of rows [B] by [B, D]."""
        for row, chain in zip(rows, np.ascontiguousarray(chains), strict=True):
            if os.pwrite(self._file.fileno(), chain, self._place(row)) != chain.nbytes:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self._file.name)

    def close(self) -> None:
        self._file.close()


def _rows(batch: Batch) -> np.ndarray:
    """Where the chains of a batch lie in a bank, int64 [B]."""
    return 2 * batch["index"].astype(np.int64) + batch["flip"]


def create(folder: pathlib.Path, num_images: int, latent_dim: int, seed: int) -> None:
    """Writes fresh working files, N(0, I), holding a few thousand images in memory.

    Chains of images 4096 b to 4096 (b + 1) - 1 are
    ``numpy.random.default_rng([seed, stream, b]).standard_normal(..., float32)``, image by image
    and first the unmirrored one; the stream is 2 for posterior and 3 for prior chains. They are
    others than those of a run whose chains are on the device.

    Args:
      folder: of the files; what is there is replaced.
      num_images: N.
      latent_dim: D.
      seed: the run's.

    Raises:
      UserError: if they cannot be written, as on a full disk.
    """
    folders.writable(folder, "chains")
    header = {"descr": "<f4", "fortran_order": False, "shape": (num_images, 2, latent_dim)}
    try:
        for name in _NAMES:
            with open(_path(folder, name), "wb") as file:
                np.lib.format.write_array_header_1_0(file, header)
                for block in range(-(-num_images // _BLOCK)):
                    rng = np.random.default_rng([seed, _STREAMS[name], block])
                    count = min(_BLOCK, num_images - block * _BLOCK)
                    chains = rng.standard_normal((count, 2, latent_dim), np.float32)
                    file.write(chains.astype("<f4", copy=False).data)
    except OSError as error:
        raise _not_written(folder, error) from None


def num_bytes(num_images: int, latent_dim: int) -> int:
    """Size of the two files in bytes."""
    return len(_NAMES) * num_images * 2 * latent_dim * 4


def restore(saved: pathlib.Path, folder: pathlib.Path) -> None:
    """Makes the working files those of a checkpoint.

    Args:
      saved: folder of the checkpoint's copies.
      folder: of the files; what is there is replaced.

    Raises:
      UserError: if they cannot be written, as on a full disk.
    """
    try:
        copy_files(saved, folder)
    except OSError as error:
        raise _not_written(folder, error) from None


def _not_written(folder: pathlib.Path, error: OSError) -> UserError:
    """Frees the room that unfinished files take, and says what is wrong."""
    shutil.rmtree(folder, ignore_errors=True)
    return UserError(f"cannot write the chains of all images to {folder}: {error.strerror}")


def copy_files(source: pathlib.Path, target: pathlib.Path) -> None:
    """Copies the files of one folder to another, made where missing, in blocks.

    Raises:
      OSError: as on a full disk.
    """
    target.mkdir(parents=True, exist_ok=True)
    for name in _NAMES:
        _copy(_path(source, name), _path(target, name))


def _copy(source: pathlib.Path, target: pathlib.Path) -> None:
    """Copies a file inside the kernel, which shares its blocks where the file system can."""
    with open(source, "rb", buffering=0) as old, open(target, "wb", buffering=0) as new:
        left = os.fstat(old.fileno()).st_size
        try:
            while left > 0:
                copied = os.copy_file_range(old.fileno(), new.fileno(), min(left, _COPY_BYTES))
                if copied == 0:
                    raise OSError(errno.EIO, "file was cut short while copied", str(source))
                left -= copied
            return
        except AttributeError:  # not on this system
            pass
        except OSError as error:
            # Between some file systems and on old kernels it is refused.
            if error.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
    shutil.copyfile(source, target)


def read_posterior(folder: pathlib.Path, num_images: int) -> np.ndarray:
    """The posterior chains [num_images, D] of the first images, not mirrored, of a folder's file.

    Args:
      folder: of a checkpoint's copies.
      num_images: how many; at most as many as there are.
    """
    bank = _Bank(_path(folder, "posterior"))
    try:
        return bank.read(2 * np.arange(num_images))
    finally:
        bank.close()


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

    def __init__(self, folder: pathlib.Path) -> None:
        """Opens the files that `create` or `copy_files` has put into ``folder``."""
        self._folder = folder
        self._banks = [_Bank(_path(folder, name)) for name in _NAMES]
        self._reader = futures.ThreadPoolExecutor(1, "read chains")
        # One thread: everything it is given happens in that order.
        self._writer = futures.ThreadPoolExecutor(1, "write chains")
        self._writes: collections.deque[futures.Future[None]] = collections.deque()
        self._num_written = 0
        # Results of the steps from _first_result on, which a read may have missed.
        self._results: collections.deque[_Result] = collections.deque()
        self._first_result = 0

    def feed(self, batches: Iterator[Batch]) -> Iterator[tuple[Batch, Chains]]:
        """Adds to every batch its posterior and prior chains, both [B, D], on the default device.

        Each batch's chains after its step must be given to `store` before the next is taken.

        Args:
          batches: as from ``train_batches``, with as many images each. They are taken some steps
            early.
        """
        ahead: collections.deque[tuple[Batch, futures.Future[_Read]]] = collections.deque()
        for batch in batches:
            ahead.append((batch, self._reader.submit(self._read, _rows(batch))))
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

    def posterior(self, num_images: int) -> jax.Array:
        """The newest posterior chains [num_images, D] of the first images, not mirrored."""
        rows = 2 * np.arange(num_images)
        read = self._result(self._reader.submit(self._read, rows))
        return self._up_to_date(read, rows)[0]

    def copy_to(self, folder: pathlib.Path) -> futures.Future[None]:
        """Copies the files, as they are after the steps stored so far, in the background.

        Args:
          folder: to be made.

        Returns:
          A future, done when the copy is; it raises OSError as on a full disk.
        """
        return self._writer.submit(copy_files, self._folder, folder)

    def close(self) -> None:
        """Ends the threads and removes the files."""
        for thread in (self._reader, self._writer):
            thread.shutdown(cancel_futures=True)
        for bank in self._banks:
            bank.close()
        shutil.rmtree(self._folder)

    def _read(self, rows: np.ndarray) -> _Read:
        written = self._num_written
        posterior, prior = (bank.read(rows) for bank in self._banks)
        return _Read(written, jax.device_put((posterior, prior)))

    def _write(self, result: _Result) -> None:
        for bank, chains in zip(self._banks, result.chains, strict=True):
            bank.write(result.rows, np.asarray(chains))
        self._num_written += 1

    def _up_to_date(self, read: _Read, rows: np.ndarray) -> Chains:
        """What was read, with the chains of the steps that it may have missed put in."""
        chains = read.chains
        for result in itertools.islice(self._results, read.written - self._first_result, None):
            same = rows[:, None] == result.rows
            if same.any():
                places = np.where(same.any(axis=1), same.argmax(axis=1), -1).astype(np.int32)
                chains = _replace(chains, result.chains, places)
        return chains

    def _result(self, future: futures.Future[Any]) -> Any:
        try:
            return future.result()
        except OSError as error:
            raise UserError(f"cannot use the chains in {self._folder}: {error.strerror}") from None


@jax.jit
def _replace(chains: Chains, newer: Chains, places: jax.Array) -> Chains:
    """Takes chain i from ``newer[places[i]]`` where that is not -1."""
    is_newer = (places >= 0)[:, None]
    return jax.tree.map(lambda old, new: jnp.where(is_newer, new[places], old), chains, newer)
