"""Region competition: mixing, likelihood, responsibilities and J, for any number of regions.

Everything is made of ``ops.Planes``: planes [B, H, W] with an axis ``region``, and an axis
``channel`` where a quantity has one per colour. A mixing weight has none, and is broadcast.
The equations are those of docs/method.md, "1 Model".
"""

import math

import jax
import jax.numpy as jnp

from drc_jax.ops import Planes, each, log_sum_exp


def log_mixing_weights(logits: Planes) -> Planes:
    """log pi = log softmax over the regions of their mask logits (1.3)."""
    return logits - log_sum_exp(logits, "region")


def mix(pi: Planes, images: Planes) -> Planes:
    """x_hat = sum_k pi_k I_k (1.4)."""
    return (pi * images).sum("region")


def log_likelihood(
    images: Planes, x: Planes, *, sigma: float, likelihood: str = "laplace"
) -> Planes:
    """log p_k = -|x - I_k| / (2 sigma^2) per region, pixel and channel, up to a constant (1.7).

    Args:
      images: what each region paints, in [-1, 1].
      x: the observed image in [-1, 1], without regions.
      sigma: scale of the likelihood.
      likelihood: ``laplace``, or ``gaussian``: -(x - I_k)^2 / (2 sigma^2).
    """
    distance = each(jnp.abs if likelihood == "laplace" else jnp.square, x - images)
    return -1.0 / (2.0 * sigma**2) * distance


def responsibilities(log_pi: Planes, log_p: Planes, *, epsilon: float = 0.0) -> Planes:
    """gamma_k = pi_k p_k / sum_j pi_j p_j, in log space and without gradient (1.8).

    Args:
      log_pi: log mixing weights.
      log_p: from ``log_likelihood``; summed over channels first, it gives one responsibility per
        pixel.
      epsilon: the supplement's listings add 1e-8 to the denominator and leave the last region,
        the background, what the others do not claim; so this much of the joint density counts
        as the background's. 0 is the plain definition.
    """
    joint = log_pi + log_p
    highest = joint.max("region")
    if epsilon:
        highest = each(jnp.maximum, highest, math.log(epsilon))
    density = each(jnp.exp, joint - highest)
    if epsilon:
        density = density.added("region", -1, each(jnp.exp, -highest) * epsilon)
    return jax.lax.stop_gradient(density / density.sum("region"))


def expected_log_likelihood(
    gamma: Planes, log_pi: Planes, log_p: Planes, *, epsilon: float = 0.0
) -> Planes:
    """J = sum_k gamma_k (log pi_k + log p_k) (1.9).

    Args:
      gamma: from ``responsibilities``.
      log_pi, log_p: as given there.
      epsilon: added inside log pi: 1e-8 in the supplement's listings; 0 is the plain definition.
    """
    if epsilon:
        log_pi = each(jnp.log, each(jnp.exp, log_pi) + epsilon)
    return (gamma * (log_pi + log_p)).sum("region")
