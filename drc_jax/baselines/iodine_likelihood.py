"""IODINE's likelihood: each pixel is one draw from a mixture over the slots.

Slot k has a mask logit m_k and a mean mu_k of three channels, which belong to the mixture component
together: with pi = softmax over k of m and l_k = sum_c log p(x_c; mu_kc),

    log p(x) = logsumexp_k (log pi_k + l_k),     gamma_k = pi_k exp(l_k) / p(x).

Shapes: images [B, H, W, 3], means [B, K, H, W, 3], logits and l [B, K, H, W], all float32.
"""

import math

import jax
import jax.numpy as jnp

DENSITIES = ("gaussian", "logistic")


def log_density(density: str, scale: float, images: jax.Array, means: jax.Array) -> jax.Array:
    """l_k, the log density of each pixel under each slot alone.

    Args:
      density: ``gaussian`` or ``logistic``.
      scale: the Gaussian's standard deviation, or the logistic's scale.
      images: [B, H, W, 3].
      means: [B, K, H, W, 3].

    Returns:
      [B, K, H, W].
    """
    z = (images[:, None] - means) / scale
    if density == "gaussian":
        each = -0.5 * jnp.square(z) - 0.5 * math.log(2.0 * math.pi)
    else:
        each = -z - 2.0 * jax.nn.softplus(-z)
    return jnp.sum(each - math.log(scale), axis=-1)


def log_likelihood(logits: jax.Array, log_densities: jax.Array) -> jax.Array:
    """log p(x) of each pixel, [B, H, W], from m and l [B, K, H, W]."""
    joint = jax.nn.log_softmax(logits, axis=1) + log_densities
    return jax.nn.logsumexp(joint, axis=1)


def pixel_gradients(
    density: str,
    scale: float,
    images: jax.Array,
    means: jax.Array,
    logits: jax.Array,
    log_densities: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Gradients of -sum log p(x), in closed form.

    d/dm_k = pi_k - gamma_k; d/dmu_k = -gamma_k (x - mu_k) / scale^2 for the Gaussian and
    -gamma_k tanh((x - mu_k) / (2 scale)) / scale for the logistic.

    Returns:
      The gradients of the means [B, K, H, W, 3] and of the logits [B, K, H, W].
    """
    pi = jax.nn.softmax(logits, axis=1)
    gamma = jax.nn.softmax(logits + log_densities, axis=1)
    z = (images[:, None] - means) / scale
    slope = z if density == "gaussian" else jnp.tanh(0.5 * z)
    return -gamma[..., None] * slope / scale, pi - gamma


def leave_one_out(logits: jax.Array, log_densities: jax.Array) -> jax.Array:
    """log p_-k(x), [B, K, H, W]: the mixture without slot k, whose masks sum to 1 again.

    logsumexp_(j != k) (m_j + l_j) - logsumexp_(j != k) m_j.
    """
    count = logits.shape[1]
    itself = jnp.eye(count, dtype=bool)[None, :, :, None, None]

    def over_others(values: jax.Array) -> jax.Array:
        return jax.nn.logsumexp(jnp.where(itself, -jnp.inf, values[:, None]), axis=2)

    return over_others(logits + log_densities) - over_others(logits)
