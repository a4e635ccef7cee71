"""Chains on the devices, each with those of its own images."""

import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from drc_jax.data.packed.batches import check_index
from drc_jax.runs.chain_store import Batch, ChainStore, Placed
from drc_jax.runs.method import PerImage
from drc_jax.runtime import devices
from drc_jax.runtime.devices import AXIS


class DeviceChains(ChainStore):
    """A ``ChainStore`` of ``banks``, a pytree of [N, 2, ...] shared out by images."""

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


def _place(bank: Array, index: Array, flip: Array) -> tuple[Array, Array]:
    """Where a device has the chains of its images."""
    rows = index.astype(jnp.int32) - jax.lax.axis_index(AXIS) * len(bank)
    return rows, flip.astype(jnp.int32)


@functools.partial(jax.jit, static_argnums=0)
def _take(mesh: Mesh, banks: PerImage, index: Array, flip: Array) -> PerImage:
    def own(banks: PerImage, *rows: Array) -> PerImage:
        return jax.tree.map(lambda bank: bank[_place(bank, *rows)], banks)

    return devices.on_each(mesh, own, P(AXIS), P(AXIS))(banks, index, flip)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
def _put(mesh: Mesh, banks: PerImage, index: Array, flip: Array, chains: PerImage) -> PerImage:
    def own(banks: PerImage, chains: PerImage, *rows: Array) -> PerImage:
        return jax.tree.map(lambda bank, z: bank.at[_place(bank, *rows)].set(z), banks, chains)

    return devices.on_each(mesh, own, P(AXIS), P(AXIS))(banks, chains, index, flip)


def _first(banks: PerImage, count: int) -> PerImage:
    return jax.tree.map(lambda bank: bank[:count, 0], banks)
