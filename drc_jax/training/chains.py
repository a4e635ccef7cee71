"""What belongs to images and outlives a step, as DRC's chains: kept on the devices or in files.

A store holds a pytree of arrays [N, 2, ...], one entry per (image, mirrored or not). A method that
keeps nothing per image has the empty pytree ``()``, and the same code.
"""

import functools
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from drc_jax.errors import UserError
from drc_jax.runs.method import PerImage
from drc_jax.runtime import devices
from drc_jax.runtime.devices import AXIS

Batch = Mapping[str, np.ndarray]
Placed = Mapping[str, Any]
CopyFiles = Callable[[pathlib.Path], futures.Future[None]]


class ChainStore(Protocol):
    """What the loop asks of where chains are kept; whole once it is opened.

    For every batch: ``feed`` gives it with its chains, and ``put`` takes the chains after the step
    before the next batch is asked for.
    """

    def feed(self, batches: Iterator[Batch]) -> Iterator[tuple[Placed, PerImage]]:
        """Puts batches on the devices and adds their images' chains, [B, ...] each."""
        ...

    def put(self, batch: Placed, chains: PerImage) -> None:
        """Takes the chains of a batch after its step."""
        ...

    def first(self, count: int) -> PerImage:
        """The chains [count, ...] of the first images, not mirrored, on one own device."""
        ...

    def on_host(self) -> PerImage | None:
        """All chains as NumPy arrays, to be saved with the state; None where files have them."""
        ...

    def file_copier(self) -> CopyFiles | None:
        """Copies the files that a checkpoint needs, as they are after the last ``put``."""
        ...

    def close(self) -> None:
        """Gives back what the store holds; called once."""
        ...


class DeviceChains:
    """Chains on the devices, each with those of its own images.

    Attributes:
      banks: pytree of [N, 2, ...], shared out by images.
    """

    def __init__(self, mesh: Mesh, banks: PerImage) -> None:
        self._mesh = mesh
        self.banks = banks

    def feed(self, batches: Iterator[Batch]) -> Iterator[tuple[Placed, PerImage]]:
        num_images = max((len(bank) for bank in jax.tree.leaves(self.banks)), default=None)
        for batch in batches:
            check_index(batch["index"], devices.own_shards(self._mesh), self._mesh.size, num_images)
            placed = devices.place_rows(self._mesh, dict(batch))
            yield placed, self.take(placed)

    def take(self, batch: Placed) -> PerImage:
        """The chains of a batch that lies on the devices."""
        return _take(self._mesh, self.banks, batch["index"], batch["flip"])

    def put(self, batch: Placed, chains: PerImage) -> None:
        self.banks = _put(self._mesh, self.banks, batch["index"], batch["flip"], chains)

    def first(self, count: int) -> PerImage:
        take = jax.jit(_first, static_argnums=1, out_shardings=devices.on_all(self._mesh))
        return devices.own_copy(take(self.banks, count))

    def on_host(self) -> PerImage:
        return devices.to_host(self.banks)

    def file_copier(self) -> CopyFiles | None:
        return None

    def close(self) -> None:
        pass


def _places(bank: jax.Array, index: jax.Array, flip: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Where a device has the chains of its images."""
    rows = index.astype(jnp.int32) - jax.lax.axis_index(AXIS) * len(bank)
    return rows, flip.astype(jnp.int32)


@functools.partial(jax.jit, static_argnums=0)
def _take(mesh: Mesh, banks: PerImage, index: jax.Array, flip: jax.Array) -> PerImage:
    def own(banks: PerImage, index: jax.Array, flip: jax.Array) -> PerImage:
        return jax.tree.map(lambda bank: bank[_places(bank, index, flip)], banks)

    return devices.on_each(mesh, own, P(AXIS), P(AXIS))(banks, index, flip)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
def _put(
    mesh: Mesh, banks: PerImage, index: jax.Array, flip: jax.Array, chains: PerImage
) -> PerImage:
    def own(banks: PerImage, index: jax.Array, flip: jax.Array, chains: PerImage) -> PerImage:
        return jax.tree.map(
            lambda bank, z: bank.at[_places(bank, index, flip)].set(z), banks, chains
        )

    return devices.on_each(mesh, own, P(AXIS), P(AXIS))(banks, index, flip, chains)


def _first(banks: PerImage, count: int) -> PerImage:
    return jax.tree.map(lambda bank: bank[:count, 0], banks)


def check_index(
    index: np.ndarray, shards: Sequence[int], num_shards: int, num_images: int | None
) -> None:
    """Refuses places that JAX would clamp, drop or write twice.

    Args:
      index: int [B], equal shares of ``shards`` in turn.
      shards: the devices whose rows these are.
      num_shards: of how many devices.
      num_images: N of all images that have chains; None where nothing is kept per image.

    Raises:
      UserError: if an image repeats or is not its device's.
    """
    if len(np.unique(index)) != len(index):
        raise UserError("batch['index'] must not repeat an image: two chains would be one")
    if num_images is None:
        return
    share = num_images // num_shards
    for shard, rows in zip(shards, np.split(index, len(shards)), strict=True):
        low, high = shard * share, (shard + 1) * share
        if rows.min() < low or rows.max() >= high:
            raise UserError(
                f"batch['index'] must lie in [{low}, {high}), got {rows.min()} to {rows.max()}"
            )
