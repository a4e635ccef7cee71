"""The two losses of SPEC section 4; each returns (loss, aux) with unweighted terms in aux."""

from typing import Any

import jax
import jax.numpy as jnp

from drc_jax import ops
from drc_jax.config import ModelConfig
from drc_jax.model import render as model
from drc_jax.model.render import Params

# |x - image| / (2 sigma^2) is the plain error at this sigma.
UNIT_SIGMA = 0.5**0.5

Aux = dict[str, jax.Array]


def orthogonality(config: ModelConfig, kernel: jax.Array) -> jax.Array:
    """||W W^T * (1 - I)||, eq. 11: how far a convolution's filters are from orthogonal.

    Args:
      config: ``orthogonality`` chooses the Frobenius norm or its square.
      kernel: [kh, kw, in, out]; W is the [out, in * kh * kw] matrix.

    Returns:
      A scalar.
    """
    rows = kernel.reshape(-1, kernel.shape[-1])
    gram = jnp.matmul(rows.T, rows, precision="highest")
    off_diagonal = gram * (1.0 - jnp.eye(gram.shape[0], dtype=gram.dtype))
    total = jnp.sum(jnp.square(off_diagonal))
    if config.orthogonality == "squared":
        return total
    # The norm's gradient at an exactly orthogonal kernel is taken as 0, not 0 / 0.
    return jnp.where(total > 0, jnp.sqrt(jnp.where(total > 0, total, 1.0)), 0.0)


def _convolutions(tree: Any) -> list[jax.Array]:
    """All [kh, kw, in, out] kernels of a parameter tree."""
    return [leaf for leaf in jax.tree.leaves(tree) if leaf.ndim == 4]


def _cross_entropy(target_logits: jax.Array, logits: jax.Array) -> jax.Array:
    """-<softmax(target), log softmax(logits)>, mean over the batch (eq. 9)."""
    target = jax.nn.softmax(jax.lax.stop_gradient(target_logits), axis=-1)
    return -jnp.mean(jnp.sum(target * jax.nn.log_softmax(logits, axis=-1), axis=-1))


def generator_loss(
    config: ModelConfig, params: Params, z: jax.Array, image: jax.Array
) -> tuple[jax.Array, Aux]:
    """The loss of generators and classifiers at fixed posterior samples (SPEC section 4).

        - mean J + tv_weight * mean TV + pseudo_label_weight * (H_f + H_b)
        + orthogonality_weight * sum over convolutions of orthogonality(W)

    Args:
      config: the model.
      params: from ``init_params``; no gradient reaches ``params["ebm"]``.
      z: [B, D], posterior samples; no gradient flows into them.
      image: [B, H, W, 3] in [-1, 1].

    Returns:
      The scalar loss, and the unweighted terms ``log_likelihood`` (mean J),
      ``total_variation``, ``orthogonality``, ``pseudo_label_foreground`` and
      ``pseudo_label_background`` with the monitors ``mean_pi_foreground`` and
      ``reconstruction_error`` (mean absolute error), all scalars.
    """
    z = jax.lax.stop_gradient(z)
    rendered = model.render(config, params, z)
    sigma = config.sigma if config.scale_loss_likelihood else UNIT_SIGMA
    j = model.expected_log_likelihood(config, rendered, image, sigma=sigma)

    batch, side = image.shape[:2]
    pairs = batch * side * (side - 1) * image.shape[-1]
    variation = jnp.sum(ops.total_variation(rendered.images[:, -1])) / pairs

    energies = model.energy(config, params, z)
    guesses = model.classify(config, params, rendered)
    nets = [params["generator"]["foreground"], params["generator"]["background"]]
    if config.orthogonality_classifiers:
        nets.append(params["classifier"])
    aux = {
        "log_likelihood": jnp.mean(j),
        "total_variation": variation,
        "orthogonality": jnp.sum(
            jnp.stack([orthogonality(config, kernel) for kernel in _convolutions(nets)])
        ),
        "pseudo_label_foreground": _cross_entropy(
            energies.foreground_logits, guesses["foreground"]
        ),
        "pseudo_label_background": _cross_entropy(
            energies.background_logits, guesses["background"]
        ),
        "mean_pi_foreground": 1.0 - jnp.mean(rendered.pi[:, -1]),
        "reconstruction_error": jnp.mean(jnp.abs(rendered.reconstruction - image)),
    }
    loss = (
        -aux["log_likelihood"]
        + config.tv_weight * aux["total_variation"]
        + config.pseudo_label_weight
        * (aux["pseudo_label_foreground"] + aux["pseudo_label_background"])
        + config.orthogonality_weight * aux["orthogonality"]
    )
    return loss, aux


def ebm_loss(
    config: ModelConfig, params: Params, z_posterior: jax.Array, z_prior: jax.Array
) -> tuple[jax.Array, Aux]:
    """mean E(z+) - mean E(z-), eq. 7: lowers E on posterior samples, raises it on prior ones.

    Args:
      config: the model.
      params: from ``init_params``; only ``params["ebm"]`` matters.
      z_posterior, z_prior: [B, D], samples; no gradient flows into them.

    Returns:
      The scalar loss, and its terms ``energy_posterior`` and ``energy_prior``.
    """
    positive = jnp.mean(model.energy(config, params, jax.lax.stop_gradient(z_posterior)).total)
    negative = jnp.mean(model.energy(config, params, jax.lax.stop_gradient(z_prior)).total)
    return positive - negative, {"energy_posterior": positive, "energy_prior": negative}
