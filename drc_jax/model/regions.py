"""Region competition: likelihoods, responsibilities and mixing over a region axis of any size.

Shapes throughout: images [B, K, H, W, C] of K regions, mixing weights [B, K, H, W], one
observed image [B, H, W, C]. Per-channel quantities keep the axis C; per-pixel ones have C = 1.
"""

import functools
import math

import jax
import jax.numpy as jnp

from drc_jax.ops import planes, stored_planes
from drc_jax.ops.interpolation import total

# Everything here works on planes [B, H, W], one for each region and channel: see ``ops.planes``.


def split(x: jax.Array) -> list[list[jax.Array]]:
    """[B, K, H, W, C] -> K lists of C planes [B, H, W]."""
    return [planes(region) for region in planes(x, 1)]


def join(parts: list[list[jax.Array]]) -> jax.Array:
    """What ``split`` undoes."""
    return jnp.stack([jnp.stack(region, axis=-1) for region in parts], axis=1)


def _sum_regions(parts: list[list[jax.Array]]) -> jax.Array:
    """K lists of C planes -> [B, H, W, C]."""
    return jnp.stack([total(channel) for channel in zip(*parts, strict=True)], axis=-1)


def _highest(parts: list[jax.Array]) -> jax.Array:
    return functools.reduce(jnp.maximum, parts)


def log_mixing_weights(logits: jax.Array) -> jax.Array:
    """log pi = log softmax over the regions of their mask logits.

    Args:
      logits: [B, K, H, W].

    Returns:
      [B, K, H, W].
    """
    parts = planes(logits, 1)
    highest = jax.lax.stop_gradient(_highest(parts))
    log_sum = highest + jnp.log(total(jnp.exp(logit - highest) for logit in parts))
    return jnp.stack([logit - log_sum for logit in parts], axis=1)


def log_likelihood(
    images: jax.Array, target: jax.Array, *, sigma: float, likelihood: str = "laplace"
) -> jax.Array:
    """log p_k up to a constant, per region, pixel and channel (SPEC section 1).

    Args:
      images: [B, K, H, W, C], what each region paints, in [-1, 1].
      target: [B, H, W, C], the observed image in [-1, 1].
      sigma: scale of the likelihood.
      likelihood: ``laplace``: -|x - image| / (2 sigma^2); ``gaussian``:
        -(x - image)^2 / (2 sigma^2).

    Returns:
      [B, K, H, W, C].
    """
    distance = jnp.abs if likelihood == "laplace" else jnp.square
    factor = -1.0 / (2.0 * sigma**2)
    observed = stored_planes(target)
    return join(
        [
            [factor * distance(x - painted) for x, painted in zip(observed, region, strict=True)]
            for region in split(images)
        ]
    )


def responsibilities(log_pi: jax.Array, log_p: jax.Array, *, epsilon: float = 0.0) -> jax.Array:
    """Posterior responsibilities gamma_k = pi_k p_k / sum_j pi_j p_j, in log space.

    Args:
      log_pi: [B, K, H, W], log mixing weights.
      log_p: [B, K, H, W, C], from ``log_likelihood``; summed over channels first, C = 1, it
        gives one responsibility per pixel.
      epsilon: the supplement's listings add 1e-8 to the denominator and leave the last region,
        the background, what the others do not claim; so this much of the joint density counts
        as the background's. 0 is the plain definition.

    Returns:
      gamma [B, K, H, W, C], summing to 1 over K, without gradient.
    """

    def share(joint: list[jax.Array]) -> list[jax.Array]:
        highest = _highest(joint)
        if epsilon:
            highest = jnp.maximum(highest, math.log(epsilon))
        *others, last = [jnp.exp(each - highest) for each in joint]
        if epsilon:
            last += epsilon * jnp.exp(-highest)
        densities = [*others, last]
        whole = total(densities)
        return [density / whole for density in densities]

    weights = planes(log_pi, 1)
    joint = [[w + p for p in region] for w, region in zip(weights, split(log_p), strict=True)]
    shares = [share(list(channel)) for channel in zip(*joint, strict=True)]
    return jax.lax.stop_gradient(join([list(region) for region in zip(*shares, strict=True)]))


def expected_log_likelihood(
    gamma: jax.Array, log_pi: jax.Array, log_p: jax.Array, *, epsilon: float = 0.0
) -> jax.Array:
    """J = sum_k gamma_k (log(pi_k + epsilon) + log p_k), eq. 3 without the prior term.

    Args:
      gamma, log_p: [B, K, H, W, C].
      log_pi: [B, K, H, W].
      epsilon: 1e-8 in the supplement's listings; 0 is the plain definition.

    Returns:
      [B, H, W, C].
    """
    if epsilon:
        log_pi = jnp.log(jnp.exp(log_pi) + epsilon)
    terms = [
        [g * (weight + p) for g, p in zip(gammas, densities, strict=True)]
        for weight, gammas, densities in zip(
            planes(log_pi, 1), split(gamma), split(log_p), strict=True
        )
    ]
    return _sum_regions(terms)


def mix(pi: jax.Array, images: jax.Array) -> jax.Array:
    """x_hat = sum_k pi_k image_k.

    Args:
      pi: [B, K, H, W], summing to 1 over K.
      images: [B, K, H, W, C].

    Returns:
      [B, H, W, C].
    """
    painted = [
        [weight * channel for channel in region]
        for weight, region in zip(planes(pi, 1), split(images), strict=True)
    ]
    return _sum_regions(painted)
