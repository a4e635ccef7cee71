"""Posterior inference on new images and samples from the prior."""

import functools
import hashlib
import warnings
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from drc_jax import langevin
from drc_jax.config import ModelConfig
from drc_jax.config.model import MASK_SOURCES
from drc_jax.errors import NonFiniteError, UserError
from drc_jax.model import posterior
from drc_jax.model.consensus import consensus
from drc_jax.model.energies import prior_energy, responsibilities
from drc_jax.model.images import as_images
from drc_jax.model.latents import part_sizes, sizes
from drc_jax.model.networks import Params
from drc_jax.model.render import Regions, render

# A weight of 0 has no finite logarithm.
_LEAST_PI = 1e-37

Progress = Callable[[int, int], None]
"""Called with the steps done and all steps."""


def image_keys(key: chex.PRNGKey, images: np.ndarray) -> chex.PRNGKey:
    """A key for each image that depends on ``key`` and that image's pixels alone.

    Chains with these keys do not depend on batch size, order or number of devices.

    Args:
      key: JAX random key.
      images: uint8 [B, H, W, 3].

    Returns:
      Keys [B].

    Raises:
      UserError: if the images are not uint8: bytes of floats differ where pixels do not.
    """
    images = np.asarray(images)
    if images.dtype != np.uint8:
        raise UserError(f"image_keys takes images as uint8, got {images.dtype}")
    digests = [hashlib.sha256(image.tobytes()).digest()[:8] for image in images]
    words = np.frombuffer(b"".join(digests), np.uint32).reshape(-1, 2)
    return _image_keys(key, words)


@jax.jit
@functools.partial(jax.vmap, in_axes=(None, 0))
def _image_keys(key: chex.PRNGKey, words: Array) -> chex.PRNGKey:
    return jax.random.fold_in(jax.random.fold_in(key, words[0]), words[1])


def infer(
    config: ModelConfig,
    params: Params,
    key: chex.PRNGKey,
    images: jax.typing.ArrayLike,
    *,
    num_steps: int,
    step_size: float = 0.1,
    num_restarts: int = 1,
    num_chains: int = 1,
    mask_from: str = "pi",
    drift_limit: float = 0.0,
    warm_up_steps: int = 0,
    warm_up_step_size: float = 0.01,
    start: str = "prior",
    progress: Progress | None = None,
) -> Regions:
    """Posterior samples of new images: fresh chains from N(0, I), then Langevin on U1.

    With several restarts independent chains run one after the other, and image by image the one of
    lowest U1 is kept; memory and compiled programs are those of one. The first chain has ``key``
    itself, so more restarts never raise the energy.

    With several chains the same is done, but the regions' weights are those that all chains agree
    on, (6.2) and (6.3): chains of one image differ, and their mean is a better mask than any.

    Called on its own, a chain runs in pieces of about a second, so that Ctrl-C is noticed. All
    pieces are the same program, so their lengths change no bit of the result. Under ``jit`` it is
    one loop.

    Args:
      config: the model, static.
      params: trained parameters.
      key: JAX random key, or a [B] array of keys, one per image, as from ``image_keys``: an image's
        chain then does not depend on its batch.
      images: [B, H, W, 3], uint8 or floats in [-1, 1].
      num_steps: Langevin steps per chain, static; 300 to 5000 in the paper (Table 1).
      step_size: delta of the chains.
      num_restarts: chains per image of which one is kept, at least 1, static.
      num_chains: chains per image whose weights are averaged, at least 1, static.
      mask_from: what the regions' weights are: ``pi``, the mixing weights, as in the paper, or
        ``gamma``, the responsibilities for the pixels of the image (1.8), which follow its edges.
      drift_limit: largest drift of a latent part in units of the noise, static; 0 for none. See
        ``langevin.limited``.
      warm_up_steps: how many of the first steps have ``warm_up_step_size`` as their delta, static.
      warm_up_step_size: see there.
      start: where chains begin: ``prior``, N(0, I), or ``encoder``, the mean of the q(z | x) that
        was trained beside the model (3.5), and draws from it for further restarts.
      progress: called after each piece with the steps done and all steps of all restarts; not under
        ``jit``.

    Returns:
      ``Regions`` of the kept samples; the foreground mask is ``foreground_weight > 0.5``. With
      several chains or ``gamma`` the weights are in the place of ``pi`` and ``log_pi``, and all
      else is that of the kept sample; slots of several chains show what its slots paint together.

    Raises:
      UserError: if the images are not what the model takes, a number is out of range, a name
        is unknown, chains are both to be averaged and chosen from, there is no encoder, or several
        chains of several slots are under ``jit``.
      NonFiniteError: if no chain is finite in the end; not under ``jit``.

    Warns:
      RuntimeWarning: if some images' chains are not finite; their regions are not numbers.
    """
    if mask_from not in MASK_SOURCES:
        raise UserError(f"mask_from must be one of {', '.join(MASK_SOURCES)}; got {mask_from!r}")
    if num_chains < 1:
        raise UserError(f"num_chains must be at least 1, got {num_chains}")
    if num_chains > 1 and num_restarts > 1:
        raise UserError(
            f"give num_restarts ({num_restarts}), to keep one chain, or num_chains ({num_chains}), "
            "to average their masks; not both"
        )
    count = num_chains if num_chains > 1 else num_restarts
    x = as_images(config, images)
    chains = posterior.chains(
        config,
        params,
        key,
        x,
        num_steps=num_steps,
        step_size=step_size,
        num_restarts=count,
        drift_limit=drift_limit,
        warm_up_steps=warm_up_steps,
        warm_up_step_size=warm_up_step_size,
        start=start,
    )
    traced = posterior.is_traced((params, key, x, step_size))
    if traced and num_chains > 1 and config.num_slots > 1:
        raise UserError(
            f"what {num_chains} chains of {config.num_slots} slots agree on is found on the host; "
            "call infer outside of jit"
        )
    z: Any = None
    best: Any = None
    weights: list[Any] = []
    for restart, step, new in chains:
        if step and progress is not None and not traced:
            progress(restart * num_steps + step, count * num_steps)
        if step < num_steps:
            continue
        if count == 1:
            z = new
            continue
        energy = posterior.energy(config, params, new, x)
        best, z = (energy, new) if restart == 0 else _lower(best, z, energy, new)
        if num_chains > 1:
            weights.append(_weights(config, params, new, x, mask_from))
    if not traced:
        _check_finite(z, num_steps, step_size)
    regions = rendered(config, params, z)
    if weights:
        return _with_consensus(regions, weights)
    if mask_from == "gamma":
        return _with_weights(regions, _weights(config, params, z, x, mask_from))
    return regions


def sample_prior(
    config: ModelConfig,
    params: Params,
    key: chex.PRNGKey,
    *,
    num_samples: int,
    num_steps: int = 60,
    step_size: float = 0.4,
    drift_limit: float = 0.0,
    progress: Progress | None = None,
) -> Regions:
    """Images from the prior alone (appendix G.3): fresh chains on U0, then one rendering.

    The chains run in pieces, as those of ``infer``.

    Args:
      config: the model, static.
      params: trained parameters.
      key: JAX random key.
      num_samples: B, static.
      num_steps: Langevin steps, static.
      step_size: delta of the chains.
      drift_limit: as for ``infer``.
      progress: called after each piece with the steps done and all steps; not under ``jit``.

    Returns:
      ``Regions`` of the samples.

    Raises:
      UserError: if a number is out of range.
      NonFiniteError: if no chain is finite in the end; not under ``jit``.
    """
    langevin.check_numbers(num_steps, step_size)
    if num_samples < 1:
        raise UserError(f"num_samples must be at least 1, got {num_samples}")
    sizes(config)
    chain_key, start = _prior_start(config, key, num_samples)

    def advance(z: Array, first: int, last: int) -> Array:
        return _prior_advance(config, params, chain_key, z, first, last, step_size, drift_limit)

    if posterior.is_traced((params, start, step_size)):
        return rendered(config, params, advance(start, 0, num_steps))
    for step, z in posterior.in_pieces(advance, start, 0, num_steps):  # noqa: B007
        if progress is not None:
            progress(step, num_steps)
    _check_finite(z, num_steps, step_size)
    return rendered(config, params, z)


@functools.partial(jax.jit, static_argnums=(0, 2))
def _prior_start(
    config: ModelConfig, key: chex.PRNGKey, num_samples: int
) -> tuple[chex.PRNGKey, Float[Array, "b d"]]:
    """The key of the chains' noise, and their start from N(0, I)."""
    start_key, chain_key = jax.random.split(key)
    return chain_key, jax.random.normal(start_key, (num_samples, config.latent_dim))


@functools.partial(jax.jit, static_argnums=(0, 7))
def _prior_advance(
    config: ModelConfig,
    params: Params,
    key: chex.PRNGKey,
    z: Float[Array, "b d"],
    first_step: int | Array,
    last_step: int | Array,
    step_size: float | Array,
    drift_limit: float,
) -> Float[Array, "b d"]:
    """Steps ``first_step`` to ``last_step`` of chains on U0; one program for all numbers."""
    return langevin.sample(
        key,
        lambda z: prior_energy(config, params, z),
        z,
        num_steps=last_step - first_step,
        step_size=step_size,
        first_step=first_step,
        drift_limit=drift_limit,
        parts=part_sizes(config),
    )


def _check_finite(z: Array, num_steps: int, step_size: Any) -> None:
    bad = np.flatnonzero(~np.isfinite(np.asarray(z)).all(axis=1))
    if len(bad) == len(z):
        raise NonFiniteError(
            f"no chain is finite after {num_steps} steps of step_size {step_size}; take a smaller "
            "step_size, or other parameters"
        )
    if len(bad):
        warnings.warn(
            f"the chains of images {bad.tolist()} are not finite after {num_steps} steps of "
            f"step_size {step_size}; their regions are not numbers",
            RuntimeWarning,
            stacklevel=3,
        )


@jax.jit
def _lower(
    energy: Float[Array, " b"],
    z: Float[Array, "b d"],
    new_energy: Float[Array, " b"],
    new_z: Float[Array, "b d"],
) -> tuple[Float[Array, " b"], Float[Array, "b d"]]:
    """The energies and latents of the better of two chains per image; NaN never wins."""
    is_better = (new_energy < energy) | jnp.isnan(energy)
    return jnp.where(is_better, new_energy, energy), jnp.where(is_better[:, None], new_z, z)


@functools.partial(jax.jit, static_argnums=(0, 4))
def _weights(
    config: ModelConfig,
    params: Params,
    z: Float[Array, "b d"],
    x: Float[Array, "b h w 3"],
    mask_from: str,
) -> Float[Array, "b k h w"]:
    """pi or gamma of latents."""
    regions = render(config, params, z)
    return regions.pi if mask_from == "pi" else responsibilities(config, regions, x)


@jax.jit
def _with_weights(regions: Regions, pi: Float[Array, "b k h w"]) -> Regions:
    """``regions`` with other weights."""
    return regions._replace(pi=pi, log_pi=jnp.log(jnp.maximum(pi, _LEAST_PI)))


def _with_consensus(regions: Regions, weights: list[Float[Array, "b k h w"]]) -> Regions:
    """``regions`` with the weights that several chains agree on.

    Slots of the consensus are none of this chain's: each is shown with what this chain's slots
    paint together.
    """
    slots = regions.pi[:, :-1]
    share = (slots / jnp.maximum(slots.sum(1, keepdims=True), _LEAST_PI))[..., None]
    together = (share * regions.images[:, :-1]).sum(1, keepdims=True)
    together = jnp.broadcast_to(together, regions.images[:, :-1].shape)
    images = jnp.concatenate([together, regions.images[:, -1:]], axis=1)
    images = regions.images if slots.shape[1] == 1 else images
    return _with_weights(regions._replace(images=images), consensus(jnp.stack(weights)))


rendered = jax.jit(render, static_argnums=0)
"""``render``, compiled."""
