"""One training iteration on given chains, as a pure function of arrays."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import optax

from drc_jax import langevin
from drc_jax.config import ModelConfig, OptimizerConfig, SamplerConfig
from drc_jax.model import losses
from drc_jax.model import render as model
from drc_jax.model.render import Params
from drc_jax.training.state import TrainState, optimizers, split_params

Metrics = dict[str, jax.Array]
LATENT_PARTS = ("foreground", "background", "reassignment")


def update(
    config: ModelConfig,
    sampler: SamplerConfig,
    optimizer: OptimizerConfig,
    state: TrainState,
    image: jax.Array,
    keys: chex.PRNGKey,
    start_posterior: jax.Array,
    start_prior: jax.Array,
    *,
    images_at_once: int,
    axis_name: str | None = None,
) -> tuple[TrainState, jax.Array, jax.Array, Metrics]:
    """One iteration of SPEC section 5 on given chains; pure, and jitted by its callers.

    Posterior chains take K1 steps on U1 and prior chains K0 steps on U0; one forward pass at
    the new posterior samples gives both losses; both optimizers step. Both losses are means over
    images of terms of one image each, but for those of the parameters alone, and every image has
    its own noise. So the means over equal parts of the batch, and over devices with equal shares,
    are those of the whole batch to rounding.

    Args:
      config, sampler, optimizer: static.
      state: its chain banks are not looked at.
      image: [B, H, W, 3], uint8 or floats in [-1, 1]. B is this device's share of the batch.
      keys: [B] random keys, one per image.
      start_posterior, start_prior: [B, D], the images' chains.
      images_at_once: images in one part, a divisor of B; 0 for all.
      axis_name: mesh axis of the devices that share the batch; None for one device.

    Returns:
      The state after the iteration, with the chain banks as given; the posterior and prior
      chains [B, D] after it; and the metrics of ``train_step``, over all devices.
    """
    num_parts = len(image) // images_at_once if images_at_once else 1
    part = functools.partial(_part_of_batch, config, sampler, state.params)
    inputs = (image, keys, start_posterior, start_prior)
    if num_parts == 1:
        gradients, metrics, (z_posterior, z_prior) = part(*inputs)
    else:
        gradients, metrics, (z_posterior, z_prior) = _mean_over_parts(
            part, split_params(state.params), num_parts, inputs
        )
    squares = {
        **_mean_squares(config, "posterior_mean_square", z_posterior),
        **_mean_squares(config, "prior_mean_square", z_prior),
    }
    displacements = {
        **_mean_squares(config, "posterior_displacement", z_posterior - start_posterior),
        **_mean_squares(config, "prior_displacement", z_prior - start_prior),
    }
    finite = jnp.all(jnp.isfinite(z_posterior)) & jnp.all(jnp.isfinite(z_prior))
    means = (gradients, metrics, squares, displacements, finite.astype(jnp.float32))
    if axis_name is not None:
        means = jax.lax.pmean(means, axis_name)
    (generator_grad, ebm_grad), metrics, squares, displacements, share_finite = means

    trained, trained_ebm = split_params(state.params)
    generator_optimizer, ebm_optimizer = optimizers(optimizer)
    # Optax raises floats to integer powers, which callers with strict promotion could not run.
    with jax.numpy_dtype_promotion("standard"):
        updates, generator_opt_state = generator_optimizer.update(
            generator_grad, state.generator_opt_state, trained
        )
        ebm_updates, ebm_opt_state = ebm_optimizer.update(
            ebm_grad, state.ebm_opt_state, trained_ebm
        )
    state = dataclasses.replace(
        state,
        step=state.step + 1,
        params=optax.apply_updates(trained | trained_ebm, updates | ebm_updates),
        generator_opt_state=generator_opt_state,
        ebm_opt_state=ebm_opt_state,
    )
    metrics = {
        **metrics,
        "generator_gradient_norm": optax.tree.norm(generator_grad),
        "ebm_gradient_norm": optax.tree.norm(ebm_grad),
        **squares,
        **{name: jnp.sqrt(square) for name, square in displacements.items()},
        "latents_finite": (share_finite == 1.0).astype(jnp.float32),
    }
    return state, z_posterior, z_prior, metrics


_Gradients = tuple[Params, Params]
_PartResult = tuple[_Gradients, Metrics, tuple[jax.Array, jax.Array]]


def _part_of_batch(
    config: ModelConfig,
    sampler: SamplerConfig,
    params: Params,
    image: jax.Array,
    keys: chex.PRNGKey,
    start_posterior: jax.Array,
    start_prior: jax.Array,
) -> _PartResult:
    """Samples the chains of some images; gradients and metrics of both losses there."""
    image = model.to_unit_range(image)
    posterior_keys, prior_keys = jnp.moveaxis(jax.vmap(jax.random.split)(keys), 1, 0)
    z_posterior = langevin.sample(
        posterior_keys,
        lambda z: model.posterior_energy(config, params, z, image),
        start_posterior,
        num_steps=sampler.posterior_steps,
        step_size=sampler.posterior_step_size,
    )
    # One after the other: on XLA's CPU backend two loops that do not depend on each other took more
    # than twice as long, seemingly each on one thread. A barrier did not help; 0 * x does.
    finite = jnp.nan_to_num(z_posterior[0, 0], posinf=0.0, neginf=0.0)
    z_prior = langevin.sample(
        prior_keys,
        lambda z: model.prior_energy(config, params, z),
        start_prior + 0.0 * finite,
        num_steps=sampler.prior_steps,
        step_size=sampler.prior_step_size,
    )
    trained, trained_ebm = split_params(params)
    (generator_loss, generator_aux), generator_grad = jax.value_and_grad(
        lambda p: losses.generator_loss(config, p | trained_ebm, z_posterior, image),
        has_aux=True,
    )(trained)
    (ebm_loss, ebm_aux), ebm_grad = jax.value_and_grad(
        lambda p: losses.ebm_loss(config, p, z_posterior, z_prior), has_aux=True
    )(trained_ebm)
    metrics = {
        "generator_loss": generator_loss,
        "ebm_loss": ebm_loss,
        **generator_aux,
        **ebm_aux,
    }
    return (generator_grad, ebm_grad), metrics, (z_posterior, z_prior)


def in_parts(inputs: tuple[jax.Array, ...], num_parts: int) -> tuple[jax.Array, ...]:
    """Arrays [B, ...] as [num_parts, B / num_parts, ...], for a loop over parts of a batch."""
    return jax.tree.map(lambda x: x.reshape(num_parts, -1, *x.shape[1:]), inputs)


def _mean_over_parts(
    part: Callable[..., _PartResult],
    params: tuple[Params, Params],
    num_parts: int,
    inputs: tuple[jax.Array, ...],
) -> _PartResult:
    """``part`` on equal parts of the batch in turn: mean gradients and metrics, all chains."""

    def body(total: _Gradients, inputs: Any) -> tuple[_Gradients, Any]:
        gradients, metrics, chains = part(*inputs)
        return jax.tree.map(jnp.add, total, gradients), (metrics, chains)

    parts = in_parts(inputs, num_parts)
    zeros = jax.tree.map(jnp.zeros_like, params)
    total, (metrics, chains) = jax.lax.scan(body, zeros, parts)
    return (
        jax.tree.map(lambda x: x / num_parts, total),
        jax.tree.map(functools.partial(jnp.mean, axis=0), metrics),
        jax.tree.map(lambda z: z.reshape(-1, z.shape[-1]), chains),
    )


def _mean_squares(config: ModelConfig, name: str, z: jax.Array) -> Metrics:
    """Mean z^2 of every latent part."""
    parts = zip(LATENT_PARTS, model.split_latents(config, z), strict=True)
    return {f"{name}_{part}": jnp.mean(jnp.square(latents)) for part, latents in parts}


def step_keys(seed: int | jax.Array, step: jax.Array, batch_size: int) -> chex.PRNGKey:
    """[B] keys, one for each image of the whole batch of a step."""
    return jax.random.split(jax.random.fold_in(jax.random.key(seed), step), batch_size)
