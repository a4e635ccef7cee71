"""IODINE (Greff et al., ICML 2019): object discovery by iterative amortised inference.

Every slot has a Gaussian posterior over a latent vector. A broadcast decoder paints a sample of
it, the slots' images and masks form a mixture (``iodine_likelihood``), and a recurrent network that
sees the errors and the gradients improves all posteriors, T times. Images here are in [0, 1].

Where the paper and the authors' release differ, the defaults follow the paper. Left out are the
release's constant channels, which the biases next to them absorb.
"""

import functools
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from drc_jax.baselines import iodine_likelihood as likelihood
from drc_jax.baselines import iodine_networks as networks
from drc_jax.baselines import slots as slot_parts
from drc_jax.baselines.iodine_networks import Gradients, IodineModelConfig, LstmState
from drc_jax.baselines.slots import SlotRegions

# Folded into an image's key for its draws after the first: no decode has such a number.
_DRAWS = 1_000


class Output(NamedTuple):
    """All T + 1 decodes of a batch.

    Attributes:
      regions: what the slots paint in the last one, in [-1, 1].
      posterior: [B, K, 2 Z], its mean and raw variance.
      nll: [T + 1, B], -log p(x) of each image, summed over pixels.
      kl: [T + 1, B], the KL divergence from the prior, summed over slots.
    """

    regions: SlotRegions
    posterior: jax.Array
    nll: jax.Array
    kl: jax.Array


def init_params(config: IodineModelConfig, key: chex.PRNGKey) -> dict:
    """Fresh parameters: ``decoder``, ``refiner`` and the first ``posterior`` [2 Z]; traceable."""
    decoder_key, refiner_key, posterior_key = jax.random.split(key, 3)
    size, slots, latent = config.image_size, config.num_slots, config.latent_size
    limit = (6 / (4 * latent)) ** 0.5
    posterior = jax.random.uniform(posterior_key, (2 * latent,), minval=-limit, maxval=limit)
    means, logits = jnp.zeros((1, slots, size, size, 3)), jnp.zeros((1, slots, size, size))
    flat = jnp.zeros((1, slots, 2 * latent))
    refiner = networks.Refiner(config).init(
        refiner_key, means[:, 0], means, logits, logits, flat, Gradients(means, logits, flat),
        networks.first_state(config, 1),
    )  # fmt: skip
    decoder = networks.decoder(config).init(decoder_key, jnp.zeros((1, 1, latent)))
    return {
        "decoder": decoder["params"],
        "refiner": refiner["params"],
        "posterior": posterior,
    }


def draw_noise(config: IodineModelConfig, keys: chex.PRNGKey) -> jax.Array:
    """Noise [B, T + 1, K, Z] from [B] keys, one per image.

    A decode's noise depends on its number alone, not on T.
    """
    shape = (config.num_slots, config.latent_size)

    def of_decode(key: chex.PRNGKey, number: jax.Array) -> jax.Array:
        return jax.random.normal(jax.random.fold_in(key, number), shape)

    numbers = jnp.arange(config.refinements + 1)
    return jax.vmap(lambda key: jax.vmap(functools.partial(of_decode, key))(numbers))(keys)


def sample_posterior(
    config: IodineModelConfig, posterior: jax.Array, noise: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Latents z = loc + sqrt(v) eps with v = softplus(raw), and their divergence from the prior.

    KL = 1/2 sum [v / v0 + loc^2 / v0 - 1 - log(v / v0)] over slots and latents.

    Args:
      config: static.
      posterior: [B, K, 2 Z], loc and raw.
      noise: eps, [B, K, Z].

    Returns:
      z [B, K, Z], and KL [B].
    """
    loc, raw = jnp.split(posterior, 2, axis=-1)
    variance = jax.nn.softplus(raw)
    ratio = variance / config.prior_variance
    each = ratio + jnp.square(loc) / config.prior_variance - 1.0 - jnp.log(ratio)
    return loc + jnp.sqrt(variance) * noise, 0.5 * jnp.sum(each, axis=(1, 2))


def decode(config: IodineModelConfig, params: dict, latents: jax.Array) -> Any:
    """Latents [B, K, Z] to means [B, K, S, S, 3], which nothing bounds, and mask logits."""
    return networks.decoder(config).apply({"params": params["decoder"]}, latents)


def iterate(
    config: IodineModelConfig,
    params: dict,
    images: jax.Array,
    noise: jax.Array,
    kl_weight: float | jax.Array = 1.0,
) -> Output:
    """T refinements, and T + 1 decodes: one before each and one after the last; pure.

    Args:
      config: static.
      params: from ``init_params``.
      images: [B, S, S, 3] in [0, 1].
      noise: [B, T + 1, K, Z].
      kl_weight: weight of KL in the gradients that the refinement network sees.

    Returns:
      The last decode, and both terms of the loss at every one.
    """

    def refinement(params: dict, posterior: jax.Array, state: LstmState, noise: jax.Array) -> Any:
        (latents, kl), to_posterior = jax.vjp(
            lambda p: sample_posterior(config, p, noise), posterior
        )
        (means, logits), to_latents = jax.vjp(lambda z: decode(config, params, z), latents)
        densities = likelihood.log_density(config.density, config.scale, images, means)
        nll = -jnp.sum(likelihood.log_likelihood(logits, densities), axis=(1, 2))
        of_means, of_logits = likelihood.pixel_gradients(
            config.density, config.scale, images, means, logits, densities
        )
        (of_latents,) = to_latents((of_means, of_logits))
        (of_posterior,) = to_posterior((of_latents, kl_weight * jnp.ones_like(kl)))
        gradients = jax.lax.stop_gradient(Gradients(of_means, of_logits, of_posterior))
        output: Any = networks.Refiner(config).apply(
            {"params": params["refiner"]},
            images, means, logits, densities, posterior, gradients, state,
        )  # fmt: skip
        change, next_state = output
        return posterior + change, next_state, nll, kl

    if config.rematerialise:
        refinement = jax.checkpoint(refinement)
    batch = len(images)
    posterior = jnp.broadcast_to(
        params["posterior"][None, None], (batch, config.num_slots, 2 * config.latent_size)
    )
    state, terms = networks.first_state(config, batch), []
    for number in range(config.refinements):
        posterior, state, nll, kl = refinement(params, posterior, state, noise[:, number])
        terms.append((nll, kl))
    latents, kl = sample_posterior(config, posterior, noise[:, -1])
    means, logits = decode(config, params, latents)
    densities = likelihood.log_density(config.density, config.scale, images, means)
    nll = -jnp.sum(likelihood.log_likelihood(logits, densities), axis=(1, 2))
    nlls, kls = (jnp.stack(term) for term in zip(*terms, (nll, kl), strict=True))
    return Output(slot_parts.mix(2.0 * means - 1.0, logits), posterior, nlls, kls)


def infer(
    config: IodineModelConfig, params: dict, images: jax.Array, keys: chex.PRNGKey
) -> SlotRegions:
    """The last decode of ``test_draws`` draws; for each image that of the lowest NLL + KL.

    Args:
      config: static.
      params: from ``init_params``.
      images: [B, S, S, 3] in [0, 1].
      keys: [B]; the first draw is that of ``draw_noise`` with these.
    """

    def draw(number: jax.Array) -> tuple[SlotRegions, jax.Array]:
        others = jax.vmap(lambda key: jax.random.fold_in(key, _DRAWS + number))(keys)
        output = iterate(
            config, params, images, draw_noise(config, jnp.where(number == 0, keys, others))
        )
        return output.regions, output.nll[-1] + output.kl[-1]

    found, losses = jax.lax.map(draw, jnp.arange(config.test_draws))
    best = jnp.argmin(losses, axis=0)
    return SlotRegions(*(part[best, jnp.arange(len(images))] for part in found))


def kl_weight(config: IodineModelConfig, step: jax.Array | int) -> jax.Array:
    """The weight of KL at iteration 0, 1, ..."""
    if not config.kl_warmup_steps:
        return jnp.ones(())
    return jnp.minimum(jnp.asarray(step, jnp.float32) / config.kl_warmup_steps, 1.0)


def loss(
    config: IodineModelConfig,
    params: dict,
    images: jax.Array,
    noise: jax.Array,
    weight: float | jax.Array = 1.0,
) -> tuple[jax.Array, Output]:
    """sum_t (t / T) (NLL_t + weight KL_t) over the decodes t = 0, ..., T, a mean over images.

    The first decode has no weight, yet its posterior is trained through those after it.

    Args:
      config: static.
      params: from ``init_params``.
      images: [B, S, S, 3] in [0, 1].
      noise: from ``draw_noise``.
      weight: of KL.

    Returns:
      The scalar loss and the decodes.
    """
    output = iterate(config, params, images, noise, weight)
    each = jnp.mean(output.nll + weight * output.kl, axis=1)
    weights = jnp.arange(config.refinements + 1, dtype=jnp.float32) / config.refinements
    return jnp.sum(weights * each), output
