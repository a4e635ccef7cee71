"""The model as pure functions of (config, params, z): rendering and the two energies.

``z`` is [B, D] with D = zf_dim + zb_dim + zs_dim, in that order. ``params`` is a plain pytree:
``{"generator": ..., "classifier": ..., "ebm": ...}``, each with one entry per region.
"""

from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from drc_jax import ops
from drc_jax.config import ModelConfig
from drc_jax.model import networks, regions

Params = dict[str, Any]

# The supplement's listings add this inside log pi and in gamma's denominator.
LISTING_EPSILON = 1e-8


class Regions(NamedTuple):
    """What a latent renders to. K regions, foregrounds first, the re-assigned background last.

    Attributes:
      images: [B, K, H, W, 3] in [-1, 1].
      pi: [B, K, H, W] mixing weights, summing to 1 over K.
      background_source: [B, H, W, 3], the background before re-assignment.
      grid: [B, H, W, 2] absolute coordinates in [-1, 1], x then y.
      reconstruction: [B, H, W, 3], the mixed image.
      log_pi: [B, K, H, W], log of ``pi``, finite where ``pi`` underflows.
      mask_logits: [B, K, H, W], as the generators painted them: the background's is not
        re-assigned.
    """

    images: jax.Array
    pi: jax.Array
    background_source: jax.Array
    grid: jax.Array
    reconstruction: jax.Array
    log_pi: jax.Array
    mask_logits: jax.Array

    @property
    def foreground_weight(self) -> jax.Array:
        """The weight of all foregrounds together, [B, H, W]."""
        return 1.0 - self.pi[:, -1]


class Energy(NamedTuple):
    """E(z) and its parts.

    Attributes:
      total: [B], LSE(F_f) + LSE(F_b) + F_s.
      foreground_logits: [B, K_f], F_f(z_f).
      background_logits: [B, K_b], F_b(z_b).
    """

    total: jax.Array
    foreground_logits: jax.Array
    background_logits: jax.Array


# What JAX calls the precisions of products of float32 arrays. With bfloat16 only the convolutions
# are rounded, so that the products left, those of the energies, are worth their full precision.
_MATMUL = {"float32": "float32", "tf32": "tensorfloat32", "bfloat16": "float32"}


def _dtype(config: ModelConfig) -> ops.DType:
    return jnp.bfloat16 if config.precision == "bfloat16" else None


def _generator(config: ModelConfig) -> networks.Generator:
    return networks.Generator(
        config.generator_channels, config.generator_base_slope, _dtype(config)
    )


def _reassignment(config: ModelConfig) -> networks.Reassignment:
    return networks.Reassignment(
        config.generator_channels, config.generator_base_slope, _dtype(config)
    )


def _ebms(config: ModelConfig) -> dict[str, networks.LatentEBM]:
    return {
        "foreground": networks.LatentEBM(config.ebm_width, 2, config.num_fg_categories),
        "background": networks.LatentEBM(config.ebm_width, 2, config.num_bg_categories),
        "reassignment": networks.LatentEBM(config.ebm_reassign_width, 3, 1),
    }


def _classifiers(config: ModelConfig) -> dict[str, networks.Classifier]:
    categories = {"foreground": config.num_fg_categories, "background": config.num_bg_categories}
    return {
        name: networks.Classifier(config.classifier_channels, number, _dtype(config))
        for name, number in categories.items()
    }


def _apply(config: ModelConfig, module: nn.Module, params: Params, *inputs: jax.Array) -> Any:
    with jax.default_matmul_precision(_MATMUL[config.precision]):
        return module.apply({"params": params}, *inputs)


def init_params(config: ModelConfig, key: chex.PRNGKey) -> Params:
    """Fresh parameters: orthogonal weights of gain 1, biases 0, norm scales 1 and shifts 0.

    Args:
      config: the model.
      key: JAX random key.

    Returns:
      A plain pytree of float32 arrays.
    """
    keys = iter(jax.random.split(key, 8))
    side = config.image_size
    z = dict(zip(("foreground", "background", "reassignment"), _zeros(config), strict=True))
    image = jnp.zeros((1, side, side, 3))
    base = jnp.zeros((1, networks.BASE_SIZE, networks.BASE_SIZE, config.generator_channels[0]))

    def fresh(module: Any, *inputs: jax.Array) -> Any:
        return module.init(next(keys), *inputs)["params"]

    return {
        "generator": {
            "foreground": fresh(_generator(config), z["foreground"]),
            "background": fresh(_generator(config), z["background"]),
            "reassignment": fresh(_reassignment(config), z["reassignment"], base),
        },
        "classifier": {name: fresh(net, image) for name, net in _classifiers(config).items()},
        "ebm": {name: fresh(net, z[name]) for name, net in _ebms(config).items()},
    }


def _zeros(config: ModelConfig) -> tuple[jax.Array, jax.Array, jax.Array]:
    return split_latents(config, jnp.zeros((1, config.latent_dim)))


def to_unit_range(image: jax.Array) -> jax.Array:
    """uint8 [0, 255] -> float32 [-1, 1]; floating point images pass through unchanged."""
    if image.dtype == jnp.uint8:
        return image.astype(jnp.float32) / 127.5 - 1.0
    return image


def split_latents(config: ModelConfig, z: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """z [..., D] -> (z_f, z_b, z_s), split on the last axis.

    Raises:
      ValueError: where the last axis is not ``config.latent_dim``.
    """
    if z.shape[-1] != config.latent_dim:
        raise ValueError(
            f"z must have {config.latent_dim} = {config.zf_dim} + {config.zb_dim} + "
            f"{config.zs_dim} latents on its last axis, got shape {z.shape}"
        )
    end = config.zf_dim + config.zb_dim
    return z[..., : config.zf_dim], z[..., config.zf_dim : end], z[..., end:]


def render(config: ModelConfig, params: Params, z: jax.Array) -> Regions:
    """Paints the regions of each latent and mixes them (SPEC section 1).

    Args:
      config: the model.
      params: from ``init_params``.
      z: [B, D].

    Returns:
      ``Regions`` with K = 2.
    """
    z_f, z_b, z_s = split_latents(config, z)
    nets = params["generator"]
    generator = _generator(config)
    fg_image, fg_logit, _ = _apply(config, generator, nets["foreground"], z_f)
    bg_image, bg_logit, base = _apply(config, generator, nets["background"], z_b)
    mover = _reassignment(config)
    grid = _apply(config, mover, nets["reassignment"], z_s, jax.lax.stop_gradient(base))
    # One gather moves the background's colours and its mask logit together.
    source = jnp.concatenate([bg_image, bg_logit[..., None]], axis=-1)
    *moved_colours, moved_logit = ops.planes(ops.grid_sample(source, grid))
    logits = jnp.stack([fg_logit, moved_logit], axis=1)
    images = jnp.stack([fg_image, jnp.stack(moved_colours, axis=-1)], axis=1)
    log_pi = regions.log_mixing_weights(logits)
    pi = jnp.exp(log_pi)
    return Regions(
        images=images,
        pi=pi,
        background_source=bg_image,
        grid=grid,
        reconstruction=regions.mix(pi, images),
        log_pi=log_pi,
        mask_logits=jnp.stack([fg_logit, bg_logit], axis=1),
    )


def energy(config: ModelConfig, params: Params, z: jax.Array) -> Energy:
    """E(z) = LSE(F_f(z_f)) + LSE(F_b(z_b)) + F_s(z_s) (SPEC section 1).

    Args:
      config: the model.
      params: from ``init_params``.
      z: [B, D].

    Returns:
      ``Energy``.
    """
    parts = dict(
        zip(("foreground", "background", "reassignment"), split_latents(config, z), strict=True)
    )
    logits = {
        name: _apply(config, net, params["ebm"][name], parts[name])
        for name, net in _ebms(config).items()
    }
    total = (
        jax.nn.logsumexp(logits["foreground"], axis=-1)
        + jax.nn.logsumexp(logits["background"], axis=-1)
        + logits["reassignment"][:, 0]
    )
    return Energy(total, logits["foreground"], logits["background"])


def classify(config: ModelConfig, params: Params, rendered: Regions) -> dict[str, jax.Array]:
    """Category logits of the generated foreground and of the background before re-assignment.

    Args:
      config: the model.
      params: from ``init_params``.
      rendered: from ``render``.

    Returns:
      ``{"foreground": [B, K_f], "background": [B, K_b]}``.
    """
    seen = {"foreground": rendered.images[:, 0], "background": rendered.background_source}
    if config.mask_classifier_input:
        gates = jax.nn.sigmoid(rendered.mask_logits)[..., None]
        seen = {"foreground": seen["foreground"] * gates[:, 0],
                "background": seen["background"] * gates[:, 1]}  # fmt: skip
    return {
        name: _apply(config, net, params["classifier"][name], seen[name])
        for name, net in _classifiers(config).items()
    }


def expected_log_likelihood(
    config: ModelConfig, rendered: Regions, image: jax.Array, *, sigma: float
) -> jax.Array:
    """J per pixel, and per channel where responsibilities are (SPEC section 1).

    Args:
      config: the model.
      rendered: from ``render``.
      image: [B, H, W, 3] in [-1, 1].
      sigma: scale of the likelihood; ``sqrt(0.5)`` leaves errors undivided.

    Returns:
      [B, H, W, 3], or [B, H, W, 1] with responsibilities per pixel.
    """
    log_p = regions.log_likelihood(
        rendered.images, image, sigma=sigma, likelihood=config.likelihood
    )
    epsilon = LISTING_EPSILON
    if config.responsibility == "pixel":
        # Three channels' densities multiply to far below the listing's epsilon, which would hand
        # every badly fitted pixel to the background.
        log_p, epsilon = jnp.sum(log_p, axis=-1, keepdims=True), 0.0
    gamma = regions.responsibilities(rendered.log_pi, log_p, epsilon=epsilon)
    return regions.expected_log_likelihood(gamma, rendered.log_pi, log_p, epsilon=epsilon)


def prior_energy(config: ModelConfig, params: Params, z: jax.Array) -> jax.Array:
    """U0(z) = E(z) + |z|^2 / 2.

    Args:
      config: the model.
      params: from ``init_params``.
      z: [B, D].

    Returns:
      [B].
    """
    return energy(config, params, z).total + 0.5 * jnp.sum(jnp.square(z), axis=-1)


def posterior_energy(
    config: ModelConfig, params: Params, z: jax.Array, image: jax.Array
) -> jax.Array:
    """U1(z) = E(z) + |z|^2 / 2 - w sum_i J_i(z, x) + 0.01 w TV(b_img'), w = langevin_weight.

    Args:
      config: the model.
      params: from ``init_params``.
      z: [B, D].
      image: [B, H, W, 3] in [-1, 1].

    Returns:
      [B].
    """
    rendered = render(config, params, z)
    # Taken apart once for both terms, so that their slopes meet plane by plane.
    parts = regions.split(rendered.images)
    rendered = rendered._replace(images=regions.join(parts))
    j = expected_log_likelihood(config, rendered, image, sigma=config.sigma)
    variation = ops.total_variation(jnp.stack(parts[-1], axis=-1))
    misfit = config.tv_weight * variation - jnp.sum(j, axis=(1, 2, 3))
    return prior_energy(config, params, z) + config.langevin_weight * misfit
