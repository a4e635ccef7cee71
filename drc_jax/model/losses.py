"""The two losses of docs/method.md, "4 Losses"; each returns (loss, aux), aux unweighted."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from drc_jax import ops
from drc_jax.config import ModelConfig
from drc_jax.model import energies
from drc_jax.model.images import as_images
from drc_jax.model.networks import Params
from drc_jax.model.render import classify, render

# |x - image| / (2 sigma^2) is the plain error at this sigma.
UNIT_SIGMA = 0.5**0.5

# A slot is active where its mixing weights sum to more than this share of the pixels.
ACTIVE_SHARE = 0.005

Aux = dict[str, jax.Array]


def orthogonality(config: ModelConfig, kernel: Float[Array, "h w i o"]) -> Float[Array, ""]:
    """||W W^T * (1 - I)|| (4.3): how far a convolution's filters are from orthogonal.

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


def _cross_entropy(
    target_logits: Float[Array, "b k"], logits: Float[Array, "b k"]
) -> Float[Array, ""]:
    """-<softmax(target), log softmax(logits)>, mean over the rows (4.2)."""
    target = jax.nn.softmax(jax.lax.stop_gradient(target_logits), axis=-1)
    return -jnp.mean(jnp.sum(target * jax.nn.log_softmax(logits, axis=-1), axis=-1))


def generator_loss(
    config: ModelConfig, params: Params, z: Float[Array, "b d"], image: jax.typing.ArrayLike
) -> tuple[Float[Array, ""], Aux]:
    """The loss of generators and classifiers at fixed posterior samples (4.1).

        - mean J + tv_weight * mean TV + pseudo_label_weight * (H_f + H_b)
        + orthogonality_weight * sum over convolutions of orthogonality(W)

    Args:
      config: the model.
      params: from ``init_params``; no gradient reaches ``params["ebm"]``.
      z: [B, D], posterior samples; no gradient flows into them.
      image: [B, H, W, 3], uint8 or floats in [-1, 1].

    Returns:
      The scalar loss, and the unweighted terms ``log_likelihood`` (mean J),
      ``total_variation``, ``orthogonality``, ``pseudo_label_foreground`` and
      ``pseudo_label_background`` with the monitors ``mean_pi_foreground`` and
      ``reconstruction_error`` (mean absolute error), all scalars. With several slots also
      ``active_slots``, how many have a share of the pixels, and ``largest_slot``, the largest
      share; both are means over images. With a ``slot_area_weight`` or ``slot_contact_weight`` also
      ``slot_cost``, their weighted terms (1.15) and (1.16) per pixel.

    Raises:
      UserError: if images or latents are not what ``as_images`` takes.
    """
    x = as_images(config, image, z)
    z = jax.lax.stop_gradient(z)
    rendered = render(config, params, z)
    sigma = config.sigma if config.scale_loss_likelihood else UNIT_SIGMA
    images, log_pi = rendered.planes()
    j = energies.expected_log_likelihood(config, images, log_pi, x, sigma=sigma)

    batch, side, _, channels = x.shape
    pairs = batch * side * (side - 1) * channels
    variation = jnp.sum(ops.total_variation(images.at("region", -1))) / pairs

    prior = energies.energy(config, params, z)
    guesses = classify(config, params, rendered)
    nets = [params["generator"]["foreground"], params["generator"]["background"]]
    if config.orthogonality_classifiers:
        nets.append(params["classifier"])
    aux = {
        "log_likelihood": j.mean(),
        "total_variation": variation,
        "orthogonality": jnp.sum(
            jnp.stack([orthogonality(config, kernel) for kernel in _convolutions(nets)])
        ),
        "pseudo_label_foreground": _cross_entropy(prior.foreground_logits, guesses["foreground"]),
        "pseudo_label_background": _cross_entropy(prior.background_logits, guesses["background"]),
        "mean_pi_foreground": jnp.mean(rendered.foreground_weight),
        "reconstruction_error": jnp.mean(jnp.abs(rendered.reconstruction - x)),
    }
    if config.num_slots > 1:
        shares = jnp.mean(rendered.pi[:, :-1], axis=(2, 3))
        is_active = (shares > ACTIVE_SHARE).astype(shares.dtype)
        aux["active_slots"] = jnp.mean(jnp.sum(is_active, axis=1))
        aux["largest_slot"] = jnp.mean(jnp.max(shares, axis=1))
    loss = (
        -aux["log_likelihood"]
        + config.tv_weight * aux["total_variation"]
        + config.pseudo_label_weight
        * (aux["pseudo_label_foreground"] + aux["pseudo_label_background"])
        + config.orthogonality_weight * aux["orthogonality"]
    )
    slot_cost = energies.slot_cost(config, log_pi)
    if slot_cost is not None:
        aux["slot_cost"] = jnp.mean(slot_cost) / side**2
        loss = loss + aux["slot_cost"]
    return loss, aux


def ebm_loss(
    config: ModelConfig,
    params: Params,
    z_posterior: Float[Array, "b d"],
    z_prior: Float[Array, "b d"],
) -> tuple[Float[Array, ""], Aux]:
    """mean E(z+) - mean E(z-) (4.4): lowers E on posterior samples, raises it on prior ones.

    With ``config.energy_penalty_weight`` its multiple of mean E(z+)^2 + mean E(z-)^2 is added
    (4.5; Du & Mordatch 2019).

    Args:
      config: the model.
      params: from ``init_params``; only ``params["ebm"]`` matters.
      z_posterior, z_prior: [B, D], samples; no gradient flows into them.

    Returns:
      The scalar loss, and its terms ``energy_posterior`` and ``energy_prior``, with a penalty also
      the unweighted ``energy_penalty``.
    """
    z_posterior, z_prior = jax.lax.stop_gradient((z_posterior, z_prior))
    posterior = energies.energy(config, params, z_posterior).total
    positive = jnp.mean(posterior)
    prior = energies.energy(config, params, z_prior).total
    negative = jnp.mean(prior)
    loss, aux = positive - negative, {"energy_posterior": positive, "energy_prior": negative}
    if config.energy_penalty_weight:
        aux["energy_penalty"] = jnp.mean(jnp.square(posterior)) + jnp.mean(jnp.square(prior))
        loss += config.energy_penalty_weight * aux["energy_penalty"]
    return loss, aux
