"""What a latent renders to: the regions, and their categories. Pure functions of (config, params).

``params`` is a plain pytree from ``init_params``; ``z`` is [B, D].
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from drc_jax import ops
from drc_jax.config import ModelConfig
from drc_jax.model import networks, regions
from drc_jax.model.latents import Latents, rows_by_slot, sizes, slots_as_rows, split_latents
from drc_jax.model.networks import Params
from drc_jax.ops import Planes


class Regions(NamedTuple):
    """What a latent renders to. K = n + 1 regions, slots first, the re-assigned background last.

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
        """[B, H, W] in [0, 1], the weight of all foregrounds together; above 0.5 is the mask."""
        return 1.0 - self.pi[:, -1]

    def planes(self) -> tuple[Planes, Planes]:
        """``images`` and ``log_pi`` as planes, for the arithmetic of ``regions``."""
        return Planes.of(self.images, region=1, channel=-1), Planes.of(self.log_pi, region=1)


def init_params(config: ModelConfig, key: chex.PRNGKey) -> Params:
    """Fresh parameters: orthogonal weights of gain 1, biases 0, norm scales 1 and shifts 0.

    Docs/method.md, "2 Networks (Table 2)".

    Args:
      config: the model.
      key: JAX random key.

    Returns:
      A plain pytree of float32 arrays.

    Raises:
      UserError: if ``config`` is no ``ModelConfig``.
    """
    z = Latents(*(jnp.zeros((1, size)) for size in sizes(config)))
    keys = iter(jax.random.split(key, 8))
    side = config.image_size
    image = jnp.zeros((1, side, side, 3))
    base = jnp.zeros((1, networks.BASE_SIZE, networks.BASE_SIZE, config.generator_channels[0]))
    inputs = Latents((z.foreground,), (z.background,), (z.reassignment, base))
    nets = networks.generators(config)
    return {
        "generator": {
            name: networks.fresh(net, next(keys), *arrays)
            for name, net, arrays in zip(Latents._fields, nets, inputs, strict=True)
        },
        "classifier": {
            name: networks.fresh(net, next(keys), image)
            for name, net in networks.classifiers(config).items()
        },
        "ebm": {
            name: networks.fresh(net, next(keys), part)
            for name, net, part in zip(Latents._fields, networks.energies(config), z, strict=True)
        },
    }


def render(config: ModelConfig, params: Params, z: Float[Array, "b d"]) -> Regions:
    """Paints the regions of each latent and mixes them, (1.1) to (1.4) and (1.12).

    Args:
      config: the model.
      params: from ``init_params``.
      z: [B, D].

    Returns:
      ``Regions`` with K = ``config.num_slots`` + 1.

    Raises:
      UserError: if z has another size, or ``config`` is no ``ModelConfig``.
    """
    z_f, z_b, z_s = split_latents(config, z)
    g_f, g_b, g_s = networks.generators(config)
    nets = params["generator"]
    painted = networks.apply(config, g_f, nets["foreground"], slots_as_rows(config, z_f))
    slots = rows_by_slot(config, painted)
    background = networks.apply(config, g_b, nets["background"], z_b)
    if config.pixel_reassignment:
        base = jax.lax.stop_gradient(background.base)
        grid = networks.apply(config, g_s, nets["reassignment"], z_s, base)
    else:
        grid = jnp.broadcast_to(_where_pixels_are(config), (len(z), *[config.image_size] * 2, 2))
    moved_image, moved_logit = _reassigned(background, grid)

    images = Planes.stack("region", [*(slot.image for slot in slots), moved_image])
    logits = [*(slot.logit - config.slot_offset for slot in slots), moved_logit]
    log_pi = regions.log_mixing_weights(Planes.stack("region", logits))
    pi = ops.each(jnp.exp, log_pi)
    return Regions(
        images=images.array(region=1, channel=-1),
        pi=pi.array(region=1),
        background_source=background.image.array(channel=-1),
        grid=grid,
        reconstruction=regions.mix(pi, images).array(channel=-1),
        log_pi=log_pi.array(region=1),
        mask_logits=Planes.stack(
            "region", [*(slot.logit for slot in slots), background.logit]
        ).array(region=1),
    )


def _where_pixels_are(config: ModelConfig) -> Float[Array, "s s 2"]:
    """The grid that moves nothing: the centre of every pixel."""
    centres = (jnp.arange(config.image_size, dtype=jnp.float32) + 0.5) * (2 / config.image_size) - 1
    return jnp.stack(jnp.meshgrid(centres, centres), axis=-1)


def _reassigned(
    background: networks.Painted, grid: Float[Array, "b h w 2"]
) -> tuple[Planes, Planes]:
    """I_b' and m_b' (1.2): one sampling moves the background's image and its mask logit."""
    source = Planes.stack("channel", [*background.image.along("channel"), background.logit])
    moved = Planes.of(ops.grid_sample(source.array(channel=-1), grid), channel=-1)
    return moved.at("channel", slice(3)), moved.at("channel", 3)


def classify(config: ModelConfig, params: Params, rendered: Regions) -> dict[str, jax.Array]:
    """Category logits of the generated foregrounds and of the background before re-assignment.

    C_k(I_k) in (4.2) of docs/method.md.

    Args:
      config: the model.
      params: from ``init_params``.
      rendered: from ``render``.

    Returns:
      ``{"foreground": [B n, K_f], "background": [B, K_b]}``, slots as in ``slots_as_rows``.
    """
    slots, background = rendered.images[:, :-1], rendered.background_source
    if config.mask_classifier_input:
        gates = jax.nn.sigmoid(rendered.mask_logits)[..., None]
        slots, background = slots * gates[:, :-1], background * gates[:, -1]
    seen = {"foreground": slots.reshape(-1, *slots.shape[2:]), "background": background}
    return {
        name: networks.apply(config, net, params["classifier"][name], seen[name])
        for name, net in networks.classifiers(config).items()
    }
