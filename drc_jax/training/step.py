"""The training step: jitted, donated, and refusing what JAX would silently clamp or drop.

``train_step`` finds the chains of a batch in the state, ``train_step_from_chains`` is handed them;
``drc_jax.sharded_step`` has the one for several devices. All are made of ``drc_jax.update``.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from drc_jax.config import ModelConfig, OptimizerConfig, SamplerConfig, TrainConfig
from drc_jax.errors import UserError
from drc_jax.training.state import TrainState, with_chains
from drc_jax.training.update import Metrics, step_keys, update


def train_step(
    config: TrainConfig, state: TrainState, batch: dict[str, Any]
) -> tuple[TrainState, Metrics]:
    """One iteration, ``update``; ``state`` is donated and must not be used again.

    The batch's chains are read from the state and written back. Everything random derives from
    (config.seed, state.step).

    Args:
      config: the run, static.
      state: from ``init_state`` or an earlier step.
      batch: ``image`` [B, H, W, 3], uint8 or floats in [-1, 1], already mirrored where ``flip``
        [B] bool says so; ``index`` [B] int, which images these are, without repeats.

    Returns:
      The next state and scalar metrics: both losses and their terms, E(z+) and E(z-), mean z^2
      and root mean square displacement of every latent part, gradient norms, mean pi_f, the
      reconstruction error, and ``latents_finite`` (1, or 0 if any sample is not finite).

    Raises:
      UserError: if indices repeat or lie outside the chain banks, or shapes disagree. JAX itself
        would clamp or drop them silently. Device arrays are checked for shape only.
    """
    if state.posterior_chains is None:
        raise UserError("this state has no chain banks; use train_step_from_chains")
    check_batch(config, batch, len(state.posterior_chains))
    return unchecked_train_step(
        config.model,
        config.sampler,
        config.optimizer,
        state,
        {name: batch[name] for name in ("image", "index", "flip")},
        config.seed,
        config.images_at_once,
    )


def check_batch(config: TrainConfig, batch: dict[str, Any], num_images: int | None) -> None:
    """Refuses a batch that one device cannot take.

    Args:
      config: the run.
      batch: as for ``train_step``.
      num_images: N, rows of the chain banks; None where they are elsewhere.

    Raises:
      UserError: naming what is wrong. Device arrays are checked for shape only.
    """
    side = config.model.image_size
    size = len(batch["index"])
    if batch["image"].shape != (size, side, side, 3):
        raise UserError(
            f"batch['image'] must have shape {(size, side, side, 3)} for this model and index, "
            f"got {batch['image'].shape}"
        )
    if config.images_at_once and size % config.images_at_once:
        raise UserError(
            f"images_at_once {config.images_at_once} must divide the {size} images of a batch"
        )
    if batch["flip"].shape != (size,):
        raise UserError(f"batch['flip'] must have shape {(size,)}, got {batch['flip'].shape}")
    index = batch["index"]
    if isinstance(index, jax.Array):  # fetching it would make every step wait for the device
        return
    index = np.asarray(index)
    if num_images is not None and (index.min() < 0 or index.max() >= num_images):
        raise UserError(
            f"batch['index'] must lie in [0, {num_images}), got {index.min()} to {index.max()}"
        )
    if len(np.unique(index)) != size:
        raise UserError("batch['index'] must not repeat an image: two chains would be one")


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 6), donate_argnums=3)
def unchecked_train_step(
    config: ModelConfig,
    sampler: SamplerConfig,
    optimizer: OptimizerConfig,
    state: TrainState,
    batch: dict[str, jax.Array],
    seed: int | jax.Array,
    images_at_once: int = 0,
) -> tuple[TrainState, Metrics]:
    """``train_step`` behind its checks, compiled for just those configs that it depends on."""
    rows, sides = batch["index"].astype(jnp.int32), batch["flip"].astype(jnp.int32)
    assert state.posterior_chains is not None and state.prior_chains is not None
    new_state, z_posterior, z_prior, metrics = update(
        config,
        sampler,
        optimizer,
        state,
        batch["image"],
        step_keys(seed, state.step, len(rows)),
        state.posterior_chains[rows, sides],
        state.prior_chains[rows, sides],
        images_at_once=images_at_once,
    )
    return with_chains(new_state, rows, sides, z_posterior, z_prior), metrics


Chains = tuple[jax.Array, jax.Array]


def train_step_from_chains(
    config: TrainConfig, state: TrainState, batch: dict[str, Any], chains: Chains
) -> tuple[TrainState, Chains, Metrics]:
    """``train_step`` for chains kept elsewhere; ``state`` and ``chains`` are donated.

    Args:
      config: the run, static.
      state: without chain banks, from ``init_state`` with ``chain_bank`` ``host``.
      batch: as for ``train_step``; only ``image`` is used.
      chains: posterior and prior chains of the batch's images, both [B, D] float32.

    Returns:
      The next state, the chains after the step, and the metrics of ``train_step``.

    Raises:
      UserError: if shapes disagree or the state has banks of its own.
    """
    check_batch(config, batch, None)
    check_chains(config, state, batch, chains)
    return unchecked_train_step_from_chains(
        config.model,
        config.sampler,
        config.optimizer,
        state,
        batch["image"],
        chains,
        config.seed,
        config.images_at_once,
    )


def check_chains(
    config: TrainConfig, state: TrainState, batch: dict[str, Any], chains: Chains
) -> None:
    """Refuses chains that are not a batch's.

    Raises:
      UserError: if their shape is not [B, D], or the state has banks of its own.
    """
    if state.posterior_chains is not None or state.prior_chains is not None:
        raise UserError("this state has chain banks of its own; use train_step")
    wanted = (len(batch["index"]), config.model.latent_dim)
    for z in chains:
        if z.shape != wanted:
            raise UserError(f"chains of this batch must have shape {wanted}, got {z.shape}")


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 7), donate_argnums=(3, 5))
def unchecked_train_step_from_chains(
    config: ModelConfig,
    sampler: SamplerConfig,
    optimizer: OptimizerConfig,
    state: TrainState,
    image: jax.Array,
    chains: Chains,
    seed: int | jax.Array,
    images_at_once: int,
) -> tuple[TrainState, Chains, Metrics]:
    """``train_step_from_chains`` behind its checks."""
    state, z_posterior, z_prior, metrics = update(
        config,
        sampler,
        optimizer,
        state,
        image,
        step_keys(seed, state.step, len(image)),
        *chains,
        images_at_once=images_at_once,
    )
    return state, (z_posterior, z_prior), metrics
