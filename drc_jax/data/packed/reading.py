"""Arrays in files, read by position, and digests that show whether the files are as written."""

import hashlib
import json
import os
import pathlib
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from drc_jax.errors import UserError

_SAMPLES, _SAMPLE_BYTES = 64, 4096


class FileArray:
    """A uint8 array [N, ...] in a file; indexing it reads that part into memory.

    It stands in for a memory map, under which a file that is cut short while it is in use ends the
    process without a word. The file stays open, so replacing the data set does no harm.

    Attributes:
      shape, ndim, dtype, nbytes: as of a NumPy array.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, path: pathlib.Path, shape: Sequence[int]) -> None:
        self.path = path
        self.shape = tuple(shape)
        self._row = self.shape[1:]
        self._row_bytes = int(np.prod(self._row, dtype=np.int64))
        self._descriptor = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._descriptor)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        return self.shape[0] * self._row_bytes

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        """A copy of what NumPy's indexing gives; the first axis takes no Ellipsis or None.

        Raises:
          UserError: if the file has become shorter.
          IndexError: as from NumPy.
        """
        first, rest = (index[0], index[1:]) if isinstance(index, tuple) else (index, ())
        rows = np.arange(len(self))[first]
        read = self._read(rows.ravel()).reshape(*rows.shape, *self._row)
        return read[(slice(None),) * rows.ndim + rest] if rest else read

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        whole = self[:]
        return whole if dtype is None else whole.astype(dtype)

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[i] for i in range(len(self)))

    def _read(self, rows: np.ndarray) -> np.ndarray:
        out = np.empty((len(rows), self._row_bytes), np.uint8)
        # Rows that follow each other in the file are read at once.
        starts = np.flatnonzero(np.diff(rows, prepend=rows[:1] - 2) != 1)
        ends = np.append(starts[1:], len(rows)) if len(rows) else starts
        for start, end in zip(starts, ends, strict=True):
            self._fill(out[start:end].reshape(-1), int(rows[start]) * self._row_bytes)
        return out

    def _fill(self, out: np.ndarray, place: int) -> None:
        while len(out):
            count = os.preadv(self._descriptor, [out.data], place)
            if count == 0:
                size = os.fstat(self._descriptor).st_size
                raise UserError(
                    f"{self.path} was cut short while it was being read: it has {size} bytes "
                    f"instead of {self.nbytes}"
                )
            out, place = out[count:], place + count


def sampled_digest(paths: Sequence[pathlib.Path]) -> str:
    """Hex SHA-256 of blocks of some files: cheap, and different for most changes of them.

    Of each file, 64 blocks of 4096 bytes in equal distances, the first and the last among them, or
    the whole file where it is no longer than that; and its size.
    """
    digest = hashlib.sha256()
    for path in paths:
        with open(path, "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            digest.update(json.dumps([path.name, size]).encode())
            for place in sample_places(size):
                file.seek(place)
                digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()


def sample_places(size: int) -> list[int]:
    """Where the blocks of `sampled_digest` begin in a file of that many bytes."""
    if size <= _SAMPLES * _SAMPLE_BYTES:
        return list(range(0, size, _SAMPLE_BYTES))
    last = size - _SAMPLE_BYTES
    return [last * i // (_SAMPLES - 1) for i in range(_SAMPLES)]


def largest_sampled(path: pathlib.Path) -> int:
    """The largest byte in the blocks of `sampled_digest`."""
    largest = 0
    with open(path, "rb", buffering=0) as file:
        for place in sample_places(os.fstat(file.fileno()).st_size):
            file.seek(place)
            largest = max(largest, *file.read(_SAMPLE_BYTES))
    return largest
