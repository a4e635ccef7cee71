"""Chains that lie in files while a run uses them (docs/host_chains.md).

A batch's chains are read while the device is busy with the step before, and those of a finished
step are written by a thread. Working files are of no use after a crash, for nothing says which
steps they hold. A checkpoint has copies of them as they were at its step, and a run resumes from
these.
"""

import collections
import contextlib
import pathlib
import shutil
from collections.abc import Iterator
from concurrent import futures

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from drc_jax.data.packed.batches import check_index
from drc_jax.errors import UserError
from drc_jax.runs import chain_files
from drc_jax.runs.chain_store import Batch, ChainStore, CopyFiles, Placed
from drc_jax.runtime import devices
from drc_jax.training.state import Chains

# Steps whose chains may wait, on the device, to be written: a checkpoint's copy holds them up.
_MOST_UNWRITTEN = 256


class FileChains(ChainStore):
    """The working files of a run in use; `close` removes them.

    Chains are written in the order of steps, and a chain is read only after all its writes. So what
    a step gets does not depend on how fast the files are.

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
        self._files = [chain_files.Bank(folder, name) for name in chain_files.NAMES]
        # One thread: writes and copies happen in the order in which they are asked for.
        self._writer = futures.ThreadPoolExecutor(1, "write chains")
        self._unwritten: collections.deque[tuple[np.ndarray, futures.Future[None]]]
        self._unwritten = collections.deque()

    def feed(self, batches: Iterator[Batch]) -> Iterator[tuple[Placed, Chains]]:
        """A batch's ``index`` and ``flip`` stay on the host."""
        count = self._mesh.size
        for batch in batches:
            check_index(batch["index"], range(count), count, self._files[0].num_images)
            chains = self._read(_rows(batch["index"], batch["flip"]))
            image = devices.place_rows(self._mesh, batch["image"])
            yield {**batch, "image": image}, devices.place_rows(self._mesh, chains)

    def put(self, batch: Placed, chains: Chains) -> None:
        """The chains are written when the device has computed them."""
        rows = _rows(batch["index"], batch["flip"])
        self._unwritten.append((rows, self._writer.submit(self._write, rows, chains)))
        self._forget_written()

    def first(self, count: int) -> Chains:
        return jax.tree.map(jnp.asarray, self._read(_rows(np.arange(count), np.zeros(count))))

    def file_copier(self) -> CopyFiles:
        return lambda to: self._writer.submit(chain_files.copy_files, self._folder, to)

    def close(self) -> None:
        """Ends the thread and removes the files."""
        self._writer.shutdown(cancel_futures=True)
        for file in self._files:
            file.close()
        shutil.rmtree(self._folder)

    def _read(self, rows: np.ndarray) -> Chains:
        for unwritten, future in self._unwritten:
            if np.isin(rows, unwritten).any():
                futures.wait([future])
        self._forget_written()
        with self._telling():
            return Chains._make(file.read(rows) for file in self._files)

    def _write(self, rows: np.ndarray, chains: Chains) -> None:
        for file, new in zip(self._files, chains, strict=True):
            file.write(rows, np.asarray(new))

    def _forget_written(self) -> None:
        """Drops finished writes, waiting where there are too many; raises what went wrong."""
        waiting = self._unwritten
        while waiting and (waiting[0][1].done() or len(waiting) > _MOST_UNWRITTEN):
            with self._telling():
                waiting.popleft()[1].result()

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(f"cannot use the chains in {self._folder}: {error.strerror}") from None


def _rows(index: np.ndarray, flip: np.ndarray) -> np.ndarray:
    """Where the chains of images lie in a file, int64."""
    return 2 * index.astype(np.int64) + flip.astype(np.int64)
