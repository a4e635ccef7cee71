"""Training on several devices, in one process or many: every device has its share of all images.

Device d of n owns the images [d M, (d + 1) M), M = N // n, with their chains, and takes B / n of
them for every batch. So chains never travel, and neither do images: a process reads those of its
own devices. Only gradients and metrics are added up between devices, once per iteration.
"""

import functools
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from drc_jax import train_state
from drc_jax.config import ModelConfig, OptimizerConfig, SamplerConfig, TrainConfig
from drc_jax.errors import UserError
from drc_jax.train_state import TrainState
from drc_jax.train_step import check_batch
from drc_jax.update import Metrics, step_keys, update

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
            raise UserError(
                f"num_devices {num_devices} is more than there are: process {process} of "
                f"{processes} has {len(own)} of the {each} that it would need"
            )
        devices += own[:each]
    return Mesh(np.array(devices), (AXIS,))


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
        out_shardings=_named(mesh, _specs(like)),
    )
    return initialise(config, count)


def place_state(mesh: Mesh, state: TrainState) -> TrainState:
    """Puts a whole state, NumPy arrays that every process has, where ``init_state`` would."""

    def place(x: Any, sharding: NamedSharding) -> jax.Array:
        return jax.make_array_from_callback(np.shape(x), sharding, lambda part: np.asarray(x)[part])

    return jax.tree.map(place, state, _named(mesh, _specs(state)))


def place_batch(mesh: Mesh, batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    """Puts this process's rows of a batch on its devices, in their order."""
    rows = NamedSharding(mesh, P(AXIS))
    return {
        name: jax.make_array_from_process_local_data(rows, values) for name, values in batch.items()
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
    take = jax.jit(_first_chains, static_argnums=1, out_shardings=NamedSharding(mesh, P()))
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


def train_step(
    config: TrainConfig, mesh: Mesh, state: TrainState, batch: dict[str, Any], *, signal: int = 0
) -> tuple[TrainState, Metrics]:
    """``drc_jax.train_step`` shared by the devices of a mesh; every process calls it.

    The result is that of one device with the same batch to rounding.

    Args:
      config: the run, static.
      mesh: from ``data_mesh``.
      state: from ``init_state``, ``place_state`` or an earlier step; donated.
      batch: this process's rows of the batch as NumPy arrays, from ``train_batches`` with
        ``num_shards=mesh.size, shards=own_shards(mesh)``.
      signal: number of a signal that has reached this process, or 0.

    Returns:
      The next state and the metrics of ``drc_jax.train_step``, the same on every device, with
      ``signal``, the largest of all processes, so that all can stop after the same step.

    Raises:
      UserError: if an image is in another device's share, repeats, or shapes disagree.
    """
    shards = own_shards(mesh)
    assert state.posterior_chains is not None
    images = len(state.posterior_chains) // mesh.size
    for rows, shard in zip(_split(batch, len(shards)), shards, strict=True):
        check_batch(config, {**rows, "index": rows["index"] - shard * images}, images)
    used = {name: batch[name] for name in ("image", "index", "flip")}
    used["signal"] = np.full(len(shards), signal, np.int32)
    return unchecked_train_step(
        mesh,
        config.model,
        config.sampler,
        config.optimizer,
        state,
        place_batch(mesh, used),
        config.seed,
        config.images_at_once,
    )


def _split(batch: dict[str, Any], parts: int) -> list[dict[str, Any]]:
    """The rows of a batch in equal parts."""
    split = {name: np.split(np.asarray(values), parts) for name, values in batch.items()}
    return [{name: values[i] for name, values in split.items()} for i in range(parts)]


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 7), donate_argnums=4)
def unchecked_train_step(
    mesh: Mesh,
    config: ModelConfig,
    sampler: SamplerConfig,
    optimizer: OptimizerConfig,
    state: TrainState,
    batch: dict[str, jax.Array],
    seed: int | jax.Array,
    images_at_once: int,
) -> tuple[TrainState, Metrics]:
    """``train_step`` behind its checks; the batch is shared out already, with ``signal`` [n]."""

    def on_each_device(
        state: TrainState, batch: dict[str, jax.Array], seed: int | jax.Array
    ) -> tuple[TrainState, Metrics]:
        assert state.posterior_chains is not None and state.prior_chains is not None
        device, share = jax.lax.axis_index(AXIS), len(batch["index"])
        rows = batch["index"] - device * len(state.posterior_chains)
        sides = batch["flip"].astype(jnp.int32)
        keys = step_keys(seed, state.step, share * mesh.size)
        new_state, z_posterior, z_prior, metrics = update(
            config,
            sampler,
            optimizer,
            state,
            batch["image"],
            jax.lax.dynamic_slice_in_dim(keys, device * share, share),
            state.posterior_chains[rows, sides],
            state.prior_chains[rows, sides],
            images_at_once=images_at_once,
            axis_name=AXIS,
        )
        metrics["signal"] = jax.lax.pmax(batch["signal"][0], AXIS)
        return train_state.with_chains(new_state, rows, sides, z_posterior, z_prior), metrics

    specs = _specs(state)
    # With its check, shard_map would itself add up the gradients of what all devices share, which
    # the update does once for everything.
    return jax.shard_map(
        on_each_device,
        mesh=mesh,
        in_specs=(specs, P(AXIS), P()),
        out_specs=(specs, P()),
        check_vma=False,
    )(state, batch, seed)


def _specs(state: TrainState) -> TrainState:
    """Which arrays of a state are shared out: the chain banks, by images."""
    specs = jax.tree.map(lambda _: P(), state)
    return specs.replace(posterior_chains=P(AXIS), prior_chains=P(AXIS))


def _named(mesh: Mesh, specs: Any) -> Any:
    return jax.tree.map(
        lambda spec: NamedSharding(mesh, spec), specs, is_leaf=lambda x: isinstance(x, P)
    )
