"""Arrays on a mesh of devices, in one process or many: every device has its share of all images.

Device d of n owns the images [d M, (d + 1) M), M = N // n, with their chains, and takes B / n of
them for every batch. So chains never travel, and neither do images: a process reads the images of
its own devices. Only gradients and metrics are added up between devices, once per iteration.
"""

import functools
import os
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from drc_jax.errors import UserError

AXIS = "data"
T = TypeVar("T")


@functools.cache
def data_mesh(num_devices: int) -> Mesh:
    """The devices that share every batch, as many of each process, in the order of processes.

    Args:
      num_devices: over all processes.

    Returns:
      A mesh with the single axis ``data``.

    Raises:
      UserError: if there are too few devices, or processes cannot have equally many.
    """
    processes = jax.process_count()
    if num_devices % processes:
        raise UserError(
            f"num_devices must be a multiple of the {processes} processes, got {num_devices}"
        )
    each = num_devices // processes
    devices: list[jax.Device] = []
    for process in range(processes):
        own = [device for device in jax.devices() if device.process_index == process]
        if len(own) < each:
            flag = f"XLA_FLAGS=--xla_force_host_platform_device_count={each}"
            hint = f"; {flag} makes them of a CPU" if jax.devices()[0].platform == "cpu" else ""
            raise UserError(
                f"num_devices {num_devices} is more than there are: process {process} of "
                f"{processes} has {len(own)} of the {each} that it would need{hint}"
            )
        devices += own[:each]
    return Mesh(np.array(devices), (AXIS,))


def check_room(mesh: Mesh, whole: Any, shared: Any) -> None:
    """Refuses arrays that cannot all lie on the devices; a step needs more than these.

    Args:
      mesh: devices of all processes.
      whole: shapes of what each device has.
      shared: shapes of what is shared out.

    Raises:
      UserError: naming what is needed and what there is. Devices that do not say how much memory
        they have are believed to have enough.
    """
    own = mesh.local_devices
    needed = num_bytes(whole) + num_bytes(shared) / mesh.size
    room = (own[0].memory_stats() or {}).get("bytes_limit", 0)
    if own[0].platform == "cpu":  # whose devices have one memory
        needed *= len(own)
        room = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > room > 0:
        raise UserError(
            f"parameters, optimizers and chains alone take {needed / 1e9:,.1f} GB of the "
            f"{room / 1e9:,.1f} GB that {own[0].device_kind} has; choose smaller channels and "
            "latents, or keep the chains in files where the method can (chain_bank 'host')"
        )


def num_bytes(tree: Any) -> float:
    """Bytes of arrays or of their shapes."""
    return sum(float(np.prod(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree))


def on_each(mesh: Mesh, function: Callable[..., T], inputs: Any, outputs: Any) -> Callable[..., T]:
    """``function`` on every device's shares, for arrays that lie as the specs say."""
    # With its check, shard_map would itself add up the gradients of what all devices share, which
    # an update does once for everything.
    return jax.shard_map(function, mesh=mesh, in_specs=inputs, out_specs=outputs, check_vma=False)


def own_shards(mesh: Mesh) -> list[int]:
    """Places in the mesh of this process's devices: the shards whose images it reads."""
    me = jax.process_index()
    return [i for i, device in enumerate(mesh.devices.flat) if device.process_index == me]


def shardable_images(mesh: Mesh, num_images: int) -> int:
    """How many of N images can be shared out equally, n M; the rest are left out."""
    return num_images - num_images % mesh.size


def by_rows(mesh: Mesh) -> NamedSharding:
    """How a batch and its chains lie on the devices."""
    return NamedSharding(mesh, P(AXIS))


def on_all(mesh: Mesh) -> NamedSharding:
    """How parameters lie on the devices: whole on each."""
    return NamedSharding(mesh, P())


def place(tree: T, sharding: NamedSharding) -> T:
    """Puts arrays that every process has whole where ``sharding`` says."""

    def shares(x: Any) -> jax.Array:
        return jax.make_array_from_callback(np.shape(x), sharding, lambda part: np.asarray(x)[part])

    return _placed(tree, sharding, shares)


def place_rows(mesh: Mesh, tree: T) -> T:
    """Puts this process's rows of arrays on its devices, in their order."""
    rows = by_rows(mesh)
    return _placed(tree, rows, functools.partial(jax.make_array_from_process_local_data, rows))


def _placed(tree: T, sharding: NamedSharding, shares: Callable[[Any], jax.Array]) -> T:
    """Puts arrays where ``sharding`` says, those of several processes with ``shares``."""

    def one(x: Any) -> jax.Array:
        if isinstance(x, jax.Array) and x.sharding == sharding:
            return x
        if isinstance(x, jax.Array) or jax.process_count() == 1:
            return jax.device_put(x, sharding)
        return shares(x)

    return jax.tree.map(one, tree)


def placed_shapes(tree: T, sharding: NamedSharding) -> T:
    """Shapes of arrays, or of their shapes, that would lie as ``sharding`` says."""
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(np.shape(x), x.dtype, sharding=sharding), tree
    )


def to_host(tree: T) -> T:
    """The whole of a pytree of arrays as NumPy arrays of their own, in every process.

    On the CPU ``jax.device_get`` returns views, which a step that is given the state to donate
    would overwrite. Where there are several processes, each calls this, and each device must have
    room for the largest array: the shares of chains are gathered there.
    """
    return jax.tree.map(lambda x: np.array(_gathered(x), copy=True), tree)


def own_copy(tree: T) -> T:
    """Arrays that all devices have, as one own device has them."""
    return jax.tree.map(lambda x: x.addressable_data(0), tree)


def largest(mesh: Mesh, number: int) -> jax.Array:
    """The largest number that any process gives; all call this, and none waits."""
    own = np.full(len(own_shards(mesh)), number, np.int32)
    return jax.jit(jnp.max, out_shardings=on_all(mesh))(place_rows(mesh, own))


def _gathered(x: jax.Array) -> Any:
    if x.is_fully_addressable or x.is_fully_replicated:
        return x
    return multihost_utils.process_allgather(x, tiled=True)
