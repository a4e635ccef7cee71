"""Chains as files: a run's working copies in its folder, and the copies of checkpoints.

A run with ``chain_bank`` ``host`` has two files, of posterior and of prior chains, each float32
[N, 2, D]: 8 bytes per latent and side of an image, so 16 GB for a million images with 1024 latents.
They are read and written by position instead of through a memory map: a full disk is then an error
that can be told, where a map ends the process by a signal; the interpreter's lock is free
meanwhile; and the pages that the system caches do not count as memory of the process.
"""

import contextlib
import errno
import os
import pathlib
import shutil
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from drc_jax import files
from drc_jax.errors import UserError

FOLDER = "chain_banks"

NAMES = ("posterior", "prior")
_BLOCK = 4096  # images drawn at a time


def _path(folder: pathlib.Path, name: str) -> pathlib.Path:
    return folder / f"{name}.npy"


class Bank:
    """The ``.npy`` file of float32 [N, 2, D] of one of ``NAMES``, one chain at a time."""

    def __init__(self, folder: pathlib.Path, name: str) -> None:
        self._file = open(_path(folder, name), "r+b", buffering=0)
        np.lib.format.read_magic(self._file)
        shape, _, self._dtype = np.lib.format.read_array_header_1_0(self._file)
        self._start = self._file.tell()
        self.num_images, _, self._latents = shape

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


def create(
    folder: pathlib.Path,
    num_images: int,
    latent_dim: int,
    draw: Callable[[np.ndarray], Iterable[Any]],
) -> None:
    """Writes fresh working files, holding the chains of a few thousand images in memory.

    Args:
      folder: of the files; what is there is replaced.
      num_images: N.
      latent_dim: D.
      draw: places of images, int [n], to their fresh chains [n, 2, D], one array per file.

    Raises:
      UserError: if they cannot be written, as on a full disk.
    """
    files.writable(folder, "chains")
    header = {"descr": "<f4", "fortran_order": False, "shape": (num_images, 2, latent_dim)}
    with _whole_or_not_at_all(folder), contextlib.ExitStack() as stack:
        banks = [stack.enter_context(open(_path(folder, name), "wb")) for name in NAMES]
        for bank in banks:
            np.lib.format.write_array_header_1_0(bank, header)
        for start in range(0, num_images, _BLOCK):
            index = np.arange(start, min(start + _BLOCK, num_images), dtype=np.int32)
            for bank, chains in zip(banks, draw(index), strict=True):
                bank.write(np.asarray(chains).astype("<f4", copy=False).data)


def restore(saved: pathlib.Path, folder: pathlib.Path) -> None:
    """Makes the working files those of a checkpoint.

    Args:
      saved: folder of the checkpoint's copies.
      folder: of the files; what is there is replaced.

    Raises:
      UserError: if they cannot be written, as on a full disk.
    """
    with _whole_or_not_at_all(folder):
        copy_files(saved, folder)


@contextlib.contextmanager
def _whole_or_not_at_all(folder: pathlib.Path) -> Iterator[None]:
    """Frees the room that unfinished files take, and says what is wrong."""
    try:
        yield
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        problem = f"cannot write the chains of all images to {folder}: {error.strerror}"
        raise UserError(problem) from None


def copy_files(source: pathlib.Path, target: pathlib.Path) -> None:
    """Copies the files of one folder to another, made where missing, in blocks.

    Raises:
      OSError: as on a full disk.
    """
    target.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        files.copy_file(_path(source, name), _path(target, name))
