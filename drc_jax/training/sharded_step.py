"""The training step on several devices, made of ``drc_jax.update`` like that of one."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from drc_jax.config import ModelConfig, OptimizerConfig, SamplerConfig, TrainConfig
from drc_jax.training import devices as sharding
from drc_jax.training import state as train_state
from drc_jax.training.devices import AXIS
from drc_jax.training.state import TrainState
from drc_jax.training.step import Chains, check_batch, check_chains
from drc_jax.training.update import Metrics, step_keys, update


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
        ``num_shards=mesh.size, shards=sharding.own_shards(mesh)``.
      signal: number of a signal that has reached this process, or 0.

    Returns:
      The next state and the metrics of ``drc_jax.train_step``, the same on every device, with
      ``signal``, the largest of all processes, so that all can stop after the same step.

    Raises:
      UserError: if an image is in another device's share, repeats, or shapes disagree.
    """
    shards = sharding.own_shards(mesh)
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
        sharding.place_batch(mesh, used),
        config.seed,
        config.images_at_once,
    )


def train_step_from_chains(
    config: TrainConfig,
    mesh: Mesh,
    state: TrainState,
    batch: dict[str, Any],
    chains: Chains,
    *,
    signal: int = 0,
) -> tuple[TrainState, Chains, Metrics]:
    """``train_step`` for chains kept elsewhere, in one process; donates ``state`` and ``chains``.

    Args:
      config, mesh, signal: as for ``train_step``.
      state: without chain banks, from ``init_state`` with ``chain_bank`` ``host``.
      batch: the whole batch; only ``image`` is used.
      chains: posterior and prior chains of its images, both [B, D] float32, shared out by rows.

    Returns:
      The next state, the chains after the step where they were, and the metrics of ``train_step``.

    Raises:
      UserError: if shapes disagree, an image repeats, or the state has banks of its own.
    """
    for rows in _split(batch, mesh.size):
        check_batch(config, rows, None)
    check_chains(config, state, batch, chains)
    used = {"image": batch["image"], "signal": np.full(mesh.size, signal, np.int32)}
    return unchecked_train_step_from_chains(
        mesh,
        config.model,
        config.sampler,
        config.optimizer,
        state,
        chains,
        sharding.place_batch(mesh, used),
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
    update_share = functools.partial(_update_share, config, sampler, optimizer, images_at_once)

    def on_each_device(
        state: TrainState, batch: dict[str, jax.Array], seed: int | jax.Array
    ) -> tuple[TrainState, Metrics]:
        assert state.posterior_chains is not None and state.prior_chains is not None
        rows = batch["index"] - jax.lax.axis_index(AXIS) * len(state.posterior_chains)
        sides = batch["flip"].astype(jnp.int32)
        chains = (state.posterior_chains[rows, sides], state.prior_chains[rows, sides])
        new_state, chains, metrics = update_share(state, chains, batch, seed)
        return train_state.with_chains(new_state, rows, sides, *chains), metrics

    specs = sharding.state_specs(state)
    step = sharding.on_each(mesh, on_each_device, (specs, P(AXIS), P()), (specs, P()))
    return step(state, batch, seed)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 8), donate_argnums=(4, 5))
def unchecked_train_step_from_chains(
    mesh: Mesh,
    config: ModelConfig,
    sampler: SamplerConfig,
    optimizer: OptimizerConfig,
    state: TrainState,
    chains: Chains,
    batch: dict[str, jax.Array],
    seed: int | jax.Array,
    images_at_once: int,
) -> tuple[TrainState, Chains, Metrics]:
    """``train_step_from_chains`` behind its checks, likewise."""
    step = sharding.on_each(
        mesh,
        functools.partial(_update_share, config, sampler, optimizer, images_at_once),
        (P(), P(AXIS), P(AXIS), P()),
        (P(), P(AXIS), P()),
    )
    return step(state, chains, batch, seed)


def _update_share(
    config: ModelConfig,
    sampler: SamplerConfig,
    optimizer: OptimizerConfig,
    images_at_once: int,
    state: TrainState,
    chains: Chains,
    batch: dict[str, jax.Array],
    seed: int | jax.Array,
) -> tuple[TrainState, Chains, Metrics]:
    """What each device does with its share of a batch and of its chains."""
    share = len(batch["image"])
    keys = step_keys(seed, state.step, share * jax.lax.axis_size(AXIS))
    state, z_posterior, z_prior, metrics = update(
        config,
        sampler,
        optimizer,
        state,
        batch["image"],
        jax.lax.dynamic_slice_in_dim(keys, jax.lax.axis_index(AXIS) * share, share),
        *chains,
        images_at_once=images_at_once,
        axis_name=AXIS,
    )
    metrics["signal"] = jax.lax.pmax(batch["signal"][0], AXIS)
    return state, (z_posterior, z_prior), metrics
