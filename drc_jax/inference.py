"""Posterior inference on new images and samples from the prior."""

import functools
import hashlib

import chex
import jax
import jax.numpy as jnp
import numpy as np

from drc_jax import langevin
from drc_jax.config import ModelConfig
from drc_jax.model import render as model
from drc_jax.model.render import Params, Regions


def image_keys(key: chex.PRNGKey, images: np.ndarray) -> chex.PRNGKey:
    """A key for each image that depends on ``key`` and that image's pixels alone.

    Chains with these keys do not depend on batch size, order or number of devices.

    Args:
      key: JAX random key.
      images: uint8 [B, H, W, 3].

    Returns:
      Keys [B].
    """
    digests = [hashlib.sha256(image.tobytes()).digest()[:8] for image in images]
    words = np.frombuffer(b"".join(digests), np.uint32).reshape(-1, 2)
    return _image_keys(key, words)


@jax.jit
@functools.partial(jax.vmap, in_axes=(None, 0))
def _image_keys(key: chex.PRNGKey, words: jax.Array) -> chex.PRNGKey:
    return jax.random.fold_in(jax.random.fold_in(key, words[0]), words[1])


def infer(
    config: ModelConfig,
    params: Params,
    key: chex.PRNGKey,
    images: jax.typing.ArrayLike,
    *,
    num_steps: int,
    step_size: float = 0.1,
) -> Regions:
    """Posterior samples of new images: fresh chains from N(0, I), then Langevin on U1.

    Args:
      config: the model, static.
      params: trained parameters.
      key: JAX random key.
      images: [B, H, W, 3], uint8 or floats in [-1, 1].
      num_steps: Langevin steps, static; 300 to 5000 in the paper (Table 1).
      step_size: delta of the chains.

    Returns:
      ``Regions`` of the samples; the foreground mask is ``1 - pi[:, -1] > 0.5``.
    """
    z = infer_latents(config, params, key, images, num_steps=num_steps, step_size=step_size)
    return _render(config, params, z)


@functools.partial(jax.jit, static_argnames=("config", "num_steps"))
def infer_latents(
    config: ModelConfig,
    params: Params,
    key: chex.PRNGKey,
    images: jax.typing.ArrayLike,
    *,
    num_steps: int,
    step_size: float = 0.1,
) -> jax.Array:
    """The latents [B, D] behind ``infer``; see there for the arguments."""
    images = model.to_unit_range(jnp.asarray(images))
    if key.ndim:  # a key per image
        start_key, chain_key = jnp.moveaxis(jax.vmap(jax.random.split)(key), 1, 0)
        z = jax.vmap(lambda key: jax.random.normal(key, (config.latent_dim,)))(start_key)
    else:
        start_key, chain_key = jax.random.split(key)
        z = jax.random.normal(start_key, (images.shape[0], config.latent_dim))
    return langevin.sample(
        chain_key,
        lambda z: model.posterior_energy(config, params, z, images),
        z,
        num_steps=num_steps,
        step_size=step_size,
    )


@functools.partial(jax.jit, static_argnames=("config", "num_samples", "num_steps"))
def sample_prior(
    config: ModelConfig,
    params: Params,
    key: chex.PRNGKey,
    *,
    num_samples: int,
    num_steps: int = 60,
    step_size: float = 0.4,
) -> Regions:
    """Images from the prior alone (appendix G.3): fresh chains on U0, then one rendering.

    Args:
      config: the model, static.
      params: trained parameters.
      key: JAX random key.
      num_samples: B, static.
      num_steps: Langevin steps, static.
      step_size: delta of the chains.

    Returns:
      ``Regions`` of the samples.
    """
    start_key, chain_key = jax.random.split(key)
    z = langevin.sample(
        chain_key,
        lambda z: model.prior_energy(config, params, z),
        jax.random.normal(start_key, (num_samples, config.latent_dim)),
        num_steps=num_steps,
        step_size=step_size,
    )
    return model.render(config, params, z)


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
            _fold_in(key, restart),
            images,
            num_steps=num_steps,
            step_size=step_size,
        )
        chain = (_energy(config, params, z, images), z)
        best = chain if best is None else _lower(*best, *chain)
    assert best is not None
    return _render(config, params, best[1])


@jax.jit
def _fold_in(key: chex.PRNGKey, number: int | jax.Array) -> chex.PRNGKey:
    """Folds a number into one key or into each of keys [B]."""
    fold_in = jax.vmap(jax.random.fold_in, (0, None)) if key.ndim else jax.random.fold_in
    return fold_in(key, number)


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
