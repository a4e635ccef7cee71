"""The energies of docs/method.md, "1 Model": E, U0 and U1."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from drc_jax import ops
from drc_jax.config import ModelConfig
from drc_jax.model import networks, regions
from drc_jax.model.images import as_images
from drc_jax.model.latents import Latents, rows_by_slot, slots_as_rows, split_latents
from drc_jax.model.networks import Params
from drc_jax.model.render import Regions, render
from drc_jax.ops import Planes

# The supplement's listings add this inside log pi and in gamma's denominator.
LISTING_EPSILON = 1e-8


class Energy(NamedTuple):
    """E(z) and its parts.

    Attributes:
      total: [B], sum over slots of LSE(F_f) + LSE(F_b) + F_s.
      foreground_logits: [B n, K_f], F_f(z_f) of all slots as in ``slots_as_rows``.
      background_logits: [B, K_b], F_b(z_b).
    """

    total: jax.Array
    foreground_logits: jax.Array
    background_logits: jax.Array


def energy(config: ModelConfig, params: Params, z: Float[Array, "b d"]) -> Energy:
    """E(z) = sum over slots of LSE(F_f(z_f)) + LSE(F_b(z_b)) + F_s(z_s) (1.5), (1.13).

    Args:
      config: the model.
      params: from ``init_params``.
      z: [B, D].

    Returns:
      ``Energy``.
    """
    parts = split_latents(config, z)
    parts = parts._replace(foreground=slots_as_rows(config, parts.foreground))
    f, b, s = (
        networks.apply(config, net, params["ebm"][name], part)
        for name, net, part in zip(Latents._fields, networks.energies(config), parts, strict=True)
    )
    slots = rows_by_slot(config, jax.nn.logsumexp(f, axis=-1))
    total = functools.reduce(jnp.add, slots) + jax.nn.logsumexp(b, axis=-1) + s[:, 0]
    return Energy(total, f, b)


def prior_energy(config: ModelConfig, params: Params, z: Float[Array, "b d"]) -> Float[Array, " b"]:
    """U0(z) = E(z) + |z|^2 / 2 (1.6).

    Args:
      config: the model.
      params: from ``init_params``.
      z: [B, D].

    Returns:
      [B].

    Raises:
      UserError: if z has another size or holds no floats.
    """
    return energy(config, params, z).total + 0.5 * jnp.sum(jnp.square(z), axis=-1)


def posterior_energy(
    config: ModelConfig, params: Params, z: Float[Array, "b d"], image: jax.typing.ArrayLike
) -> Float[Array, " b"]:
    """U1(z) = U0(z) + w (tv_weight TV(I_b') - sum_i J_i(z, x)), w = langevin_weight (1.10).

    With a ``slot_area_weight`` also w times (1.15), with a ``slot_contact_weight`` (1.16).

    Args:
      config: the model.
      params: from ``init_params``.
      z: [B, D].
      image: [B, H, W, 3], uint8 or floats in [-1, 1].

    Returns:
      [B].

    Raises:
      UserError: if images or latents are not what ``as_images`` takes.
    """
    x = as_images(config, image, z)
    misfit = image_energy(config, render(config, params, z), x)
    return prior_energy(config, params, z) + config.langevin_weight * misfit


class ImageTerms(NamedTuple):
    """What an image adds to U1, before ``langevin_weight``; ``slots`` is ``None`` where off.

    Attributes:
      variation: [B], tv_weight TV(I_b').
      log_likelihood: [B], sum_i J_i.
      slots: [B], slot_area_weight times (1.15) and slot_contact_weight times (1.16).
    """

    variation: jax.Array
    log_likelihood: jax.Array
    slots: jax.Array | None

    def energy(self) -> jax.Array:
        """tv_weight TV(I_b') - sum_i J_i, and what slots cost, [B]."""
        misfit = self.variation - self.log_likelihood
        return misfit if self.slots is None else misfit + self.slots


class EnergyParts(NamedTuple):
    """The terms that U1 sums, [B] each, weights included.

    Attributes:
      prior: E(z), as learned.
      norm: |z|^2 / 2.
      likelihood: - w sum_i J_i.
      variation: w tv_weight TV(I_b').
      slots: w times (1.15) and (1.16), each with its weight; 0 where both are off.
    """

    prior: jax.Array
    norm: jax.Array
    likelihood: jax.Array
    variation: jax.Array
    slots: jax.Array


def energy_parts(
    config: ModelConfig,
    params: Params,
    z: Float[Array, "b d"],
    rendered: Regions,
    x: Float[Array, "b h w 3"],
) -> EnergyParts:
    """The terms of ``posterior_energy``, to be looked at one by one.

    Args:
      config: the model.
      params: from ``init_params``.
      z: [B, D].
      rendered: what ``render`` makes of z.
      x: [B, H, W, 3] in [-1, 1].

    Returns:
      ``EnergyParts``; their sum is U1 (1.10).
    """
    prior = energy(config, params, z).total
    terms = image_terms(config, rendered, x)
    weight = config.langevin_weight
    return EnergyParts(
        prior=prior,
        norm=0.5 * jnp.sum(jnp.square(z), axis=-1),
        likelihood=-weight * terms.log_likelihood,
        variation=weight * terms.variation,
        slots=jnp.zeros_like(prior) if terms.slots is None else weight * terms.slots,
    )


def image_energy(
    config: ModelConfig, rendered: Regions, x: Float[Array, "b h w 3"]
) -> Float[Array, " b"]:
    """tv_weight TV(I_b') - sum_i J_i, (1.15) and (1.16): what U1 has beyond U0.

    Args:
      config: the model.
      rendered: from ``render``.
      x: [B, H, W, 3] in [-1, 1].

    Returns:
      [B].
    """
    return image_terms(config, rendered, x).energy()


def image_terms(config: ModelConfig, rendered: Regions, x: Float[Array, "b h w 3"]) -> ImageTerms:
    """The terms of ``image_energy``; arguments as there."""
    # Taken apart once for all terms, so that their cotangents meet plane by plane.
    images, log_pi = rendered.planes()
    j = expected_log_likelihood(config, images, log_pi, x, sigma=config.sigma)
    return ImageTerms(
        variation=config.tv_weight * ops.total_variation(images.at("region", -1)),
        log_likelihood=j.pixel_sums(),
        slots=slot_cost(config, log_pi),
    )


def slot_cost(config: ModelConfig, log_pi: Planes) -> Float[Array, " b"] | None:
    """What dividing pixels among slots costs: (1.15) and (1.16), each with its weight.

    Args:
      config: the model.
      log_pi: from ``Regions.planes``.

    Returns:
      [B]; ``None`` where both weights are 0.
    """
    terms = ((config.slot_area_weight, slot_area), (config.slot_contact_weight, slot_contact))
    costs = [weight * term(log_pi) for weight, term in terms if weight]
    return functools.reduce(jnp.add, costs) if costs else None


def slot_area(log_pi: Planes) -> Float[Array, " b"]:
    """sum over slots of sqrt(1 + a_s), less sqrt(1 + sum of all a_s) (1.15).

    a_s is the sum of a slot's mixing weights over pixels. What one slot has alone costs nothing.

    Args:
      log_pi: from ``Regions.planes``.

    Returns:
      [B].
    """
    slots = ops.each(jnp.exp, log_pi.at("region", slice(0, -1)))
    areas = [jnp.sum(plane, axis=(1, 2)) for plane in slots.planes]
    parts = functools.reduce(jnp.add, [jnp.sqrt(1.0 + area) for area in areas])
    return parts - jnp.sqrt(1.0 + functools.reduce(jnp.add, areas))


def slot_contact(log_pi: Planes) -> Float[Array, " b"]:
    """Expected number of neighbouring pixels that are in different slots (1.16).

    Each pixel's region is drawn from pi. Neighbours are beside or below each other. A slot that
    touches the background only costs nothing, and one slot costs 0 to the bit.

    Args:
      log_pi: from ``Regions.planes``.

    Returns:
      [B].
    """
    slots = ops.each(jnp.exp, log_pi.at("region", slice(0, -1)))

    def both(plane: Float[Array, "b h w"]) -> Float[Array, " b"]:
        """Expected number of neighbours that are both in the slots of a plane."""
        across = jnp.sum(plane[:, :, 1:] * plane[:, :, :-1], axis=(1, 2))
        return across + jnp.sum(plane[:, 1:] * plane[:, :-1], axis=(1, 2))

    (any_slot,) = slots.sum("region").planes
    return both(any_slot) - functools.reduce(jnp.add, [both(plane) for plane in slots.planes])


def expected_log_likelihood(
    config: ModelConfig, images: Planes, log_pi: Planes, x: Float[Array, "b h w 3"], *, sigma: float
) -> Planes:
    """J per pixel, and per channel where responsibilities are, (1.7) to (1.9).

    Args:
      config: the model.
      images, log_pi: from ``Regions.planes``.
      x: [B, H, W, 3] in [-1, 1].
      sigma: scale of the likelihood; ``sqrt(0.5)`` leaves errors undivided.

    Returns:
      Planes with a channel axis, or none with one responsibility per pixel.
    """
    log_p, epsilon = _log_densities(config, images, x, sigma)
    gamma = regions.responsibilities(log_pi, log_p, epsilon=epsilon)
    return regions.expected_log_likelihood(gamma, log_pi, log_p, epsilon=epsilon)


def responsibilities(
    config: ModelConfig, rendered: Regions, x: Float[Array, "b h w 3"]
) -> Float[Array, "b k h w"]:
    """gamma (1.8), which region each observed pixel is due to; the mean over colour channels.

    Args:
      config: the model.
      rendered: from ``render``.
      x: [B, H, W, 3] in [-1, 1].

    Returns:
      [B, K, H, W] in [0, 1], summing to 1 over K.
    """
    images, log_pi = rendered.planes()
    log_p, epsilon = _log_densities(config, images, x, config.sigma)
    gamma = regions.responsibilities(log_pi, log_p, epsilon=epsilon)
    if config.responsibility == "pixel":
        return gamma.array(region=1)
    return jnp.mean(gamma.array(region=1, channel=-1), axis=-1)


def _log_densities(
    config: ModelConfig, images: Planes, x: Float[Array, "b h w 3"], sigma: float
) -> tuple[Planes, float]:
    """log p_k (1.7) of what shares a responsibility, and the epsilon that goes with it."""
    observed = ops.stored(Planes.of(x, channel=-1))
    log_p = regions.log_likelihood(images, observed, sigma=sigma, likelihood=config.likelihood)
    if config.responsibility == "pixel":
        # Three channels' densities multiply to far below the listing's epsilon, which would hand
        # every badly fitted pixel to the background.
        return log_p.sum("channel"), 0.0
    return log_p, LISTING_EPSILON
