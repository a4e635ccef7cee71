"""Posterior inference from several fresh chains per image, of which the best one is kept."""

import functools

import chex
import jax
import jax.numpy as jnp

from drc_jax import model
from drc_jax.config import ModelConfig
from drc_jax.infer import infer_latents
from drc_jax.model import Params, Regions


def infer_lowest_energy(
    config: ModelConfig,
    params: Params,
    key: chex.PRNGKey,
    images: jax.typing.ArrayLike,
    *,
    num_steps: int,
    num_restarts: int,
    step_size: float = 0.1,
) -> Regions:
    """Runs independent chains and keeps, image by image, the one of lowest posterior energy U1.

    The chains run one after the other, so memory and compiled programs are those of one; the first
    is that of ``infer`` with the key folded with 0. A chain whose energy is not a number never
    wins against one whose energy is.

    Args:
      config: the model, static.
      params: trained parameters.
      key: JAX random key.
      images: [B, H, W, 3], uint8 or floats in [-1, 1].
      num_steps: Langevin steps per chain, static.
      num_restarts: chains per image, at least 1.
      step_size: delta of the chains.

    Returns:
      ``Regions`` of the kept samples.

    Raises:
      ValueError: if ``num_restarts`` is below 1.
    """
    if num_restarts < 1:
        raise ValueError(f"num_restarts must be at least 1, got {num_restarts}")
    best = None
    for restart in range(num_restarts):
        z = infer_latents(
            config,
            params,
            jax.random.fold_in(key, restart),
            images,
            num_steps=num_steps,
            step_size=step_size,
        )
        chain = (_energy(config, params, z, images), z)
        best = chain if best is None else _lower(*best, *chain)
    assert best is not None
    return _render(config, params, best[1])


@functools.partial(jax.jit, static_argnames="config")
def _energy(
    config: ModelConfig, params: Params, z: jax.Array, images: jax.typing.ArrayLike
) -> jax.Array:
    """U1 [B] of latents [B, D]."""
    return model.posterior_energy(config, params, z, model.to_unit_range(jnp.asarray(images)))


@jax.jit
def _lower(
    energy: jax.Array, z: jax.Array, new_energy: jax.Array, new_z: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The energies [B] and latents [B, D] of the better of two chains per image."""
    is_better = (new_energy < energy) | jnp.isnan(energy)
    return jnp.where(is_better, new_energy, energy), jnp.where(is_better[:, None], new_z, z)


_render = jax.jit(model.render, static_argnums=0)
