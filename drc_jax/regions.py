"""Region competition: likelihoods, responsibilities and mixing over a region axis of any size.

Shapes throughout: images [B, K, H, W, C] of K regions, mixing weights [B, K, H, W], one
observed image [B, H, W, C]. Per-channel quantities keep the axis C; per-pixel ones have C = 1.
"""

import math

import jax
import jax.numpy as jnp


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
    error = target[:, None] - images
    distance = jnp.abs(error) if likelihood == "laplace" else jnp.square(error)
    return -distance / (2.0 * sigma**2)


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
    joint = log_pi[..., None] + log_p
    if epsilon:
        last = jnp.logaddexp(joint[:, -1:], math.log(epsilon))
        joint = jnp.concatenate([joint[:, :-1], last], axis=1)
    return jax.lax.stop_gradient(jax.nn.softmax(joint, axis=1))


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
        log_pi = jnp.logaddexp(log_pi, math.log(epsilon))
    return jnp.sum(gamma * (log_pi[..., None] + log_p), axis=1)


def mix(pi: jax.Array, images: jax.Array) -> jax.Array:
    """x_hat = sum_k pi_k image_k.

    Args:
      pi: [B, K, H, W], summing to 1 over K.
      images: [B, K, H, W, C].

    Returns:
      [B, H, W, C].
    """
    return jnp.sum(pi[..., None] * images, axis=1)
