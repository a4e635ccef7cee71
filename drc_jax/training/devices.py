"""Arrays on several devices, in one process or many: every device has its share of all images.

Device d of n owns the images [d M, (d + 1) M), M = N // n, with their chains, and takes B / n of
them for every batch. So chains never travel, and neither do images: a process reads those of its
own devices. Only gradients and metrics are added up between devices, once per iteration.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from drc_jax.config import TrainConfig
from drc_jax.errors import UserError
from drc_jax.training import state as train_state
from drc_jax.training.state import TrainState

AXIS = "data"
T = TypeVar("T")


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
            hint = f"; {flag} makes them of a CPU" if jax.default_backend() == "cpu" else ""
            raise UserError(
                f"num_devices {num_devices} is more than there are: process {process} of "
                f"{processes} has {len(own)} of the {each} that it would need{hint}"
            )
        devices += own[:each]
    return Mesh(np.array(devices), (AXIS,))


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


def init_state(config: TrainConfig, mesh: Mesh, num_images: int) -> TrainState:
    """``drc_jax.init_state`` for n M images, each device drawing its own chains.

    Args:
      config: the run.
      mesh: from ``data_mesh``.
      num_images: N, images in the training set.

    Returns:
      The state that one device would have for n M images: parameters and optimizers on every
      device, the chain banks shared out.

    Raises:
      UserError: where a batch has more images than the set.
    """
    count = shardable_images(mesh, num_images)
    train_state.check_size(config, count)
    like = jax.eval_shape(lambda: train_state.unchecked_init_state(config, count))
    initialise = jax.jit(
        train_state.unchecked_init_state,
        static_argnums=(0, 1),
        out_shardings=_named(mesh, state_specs(like)),
    )
    return initialise(config, count)


def place_state(mesh: Mesh, state: TrainState) -> TrainState:
    """Puts a whole state, NumPy arrays that every process has, where ``init_state`` would."""

    def place(x: Any, sharding: NamedSharding) -> jax.Array:
        return jax.make_array_from_callback(np.shape(x), sharding, lambda part: np.asarray(x)[part])

    return jax.tree.map(place, state, _named(mesh, state_specs(state)))


def by_rows(mesh: Mesh) -> NamedSharding:
    """How a batch and its chains lie on the devices."""
    return NamedSharding(mesh, P(AXIS))


def on_all(mesh: Mesh) -> NamedSharding:
    """How parameters lie on the devices: whole on each."""
    return NamedSharding(mesh, P())


def placed_shapes(mesh: Mesh, state: TrainState, batch: T) -> tuple[TrainState, T]:
    """Shapes of a state and a batch, or of their shapes, with where their arrays would lie."""

    def placed(x: Any, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)

    return (
        jax.tree.map(placed, state, _named(mesh, state_specs(state))),
        jax.tree.map(lambda x: placed(x, by_rows(mesh)), batch),
    )


def place_batch(mesh: Mesh, batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    """Puts this process's rows of a batch on its devices, in their order."""
    return {
        name: jax.make_array_from_process_local_data(by_rows(mesh), values)
        for name, values in batch.items()
    }


def to_host(state: T) -> T:
    """The whole of a pytree of arrays as NumPy arrays, in every process.

    Where there are several, each calls this, and each device must have room for the largest
    array: the shares of a chain bank are gathered there.
    """
    return jax.tree.map(lambda x: np.array(_gathered(x), copy=True), state)


def first_posterior(mesh: Mesh, state: TrainState, count: int) -> jax.Array:
    """Posterior chains [count, D] of the first images, not mirrored, on one own device.

    Every process calls this.
    """
    take = jax.jit(_first_chains, static_argnums=1, out_shardings=on_all(mesh))
    return take(state.posterior_chains, count).addressable_data(0)


def _first_chains(bank: jax.Array, count: int) -> jax.Array:
    return bank[:count, 0]


def own_copy(tree: T) -> T:
    """Of arrays that all devices have, those of one own device."""
    return jax.tree.map(lambda x: x.addressable_data(0), tree)


def _gathered(x: jax.Array) -> Any:
    if x.is_fully_addressable or x.is_fully_replicated:
        return x
    return multihost_utils.process_allgather(x, tiled=True)


def state_specs(state: TrainState) -> TrainState:
    """Which arrays of a state are shared out: the chain banks where it has them, by images."""
    specs = jax.tree.map(lambda _: P(), state)
    if state.posterior_chains is None:
        return specs
    return specs.replace(posterior_chains=P(AXIS), prior_chains=P(AXIS))


def _named(mesh: Mesh, specs: Any) -> Any:
    return jax.tree.map(
        lambda spec: NamedSharding(mesh, spec), specs, is_leaf=lambda x: isinstance(x, P)
    )
