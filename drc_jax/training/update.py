"""One training iteration of DRC on given chains, as a pure function of arrays."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from drc_jax import langevin
from drc_jax.config import ModelConfig, OptimizerConfig, SamplerConfig
from drc_jax.model import energies, losses
from drc_jax.model.images import to_unit_range
from drc_jax.model.latents import Latents, part_sizes, split_latents
from drc_jax.model.networks import Params
from drc_jax.ops.optimizers import updates_of
from drc_jax.runs.method import Metrics
from drc_jax.training import state as train_state
from drc_jax.training.state import Chains, TrainState, split_params

# What some images of a batch give: gradients of both losses, metrics, new chains.
Given = tuple[tuple[Params, Params], Metrics, Chains]
Optimizers = tuple[optax.GradientTransformation, optax.GradientTransformation]


@dataclasses.dataclass(frozen=True)
class StepConfig:
    """What a training step is compiled for; runs that agree in it share a program.

    Attributes:
      model, sampler, optimizer: parts of a ``TrainConfig``.
      images_at_once: images of a device's share that it takes at a time, a divisor of their
        number; 0 for all.
    """

    model: ModelConfig
    sampler: SamplerConfig
    optimizer: OptimizerConfig
    images_at_once: int = 0


@dataclasses.dataclass(frozen=True)
class Terms:
    """The functions that an iteration is made of; replace one to try your own.

    Attributes:
      posterior_energy: (config, params, z [B, D], image [B, H, W, 3]) -> [B], U1.
      prior_energy: (config, params, z) -> [B], U0.
      generator_loss: (config, params, z, image) -> (loss, aux).
      ebm_loss: (config, params, z_posterior, z_prior) -> (loss, aux).
      optimizers: ``OptimizerConfig`` -> the optax optimizers of generators with classifiers, and
        of the energies.
    """

    posterior_energy: Callable[..., Array] = energies.posterior_energy
    prior_energy: Callable[..., Array] = energies.prior_energy
    generator_loss: Callable[..., tuple[Array, Metrics]] = losses.generator_loss
    ebm_loss: Callable[..., tuple[Array, Metrics]] = losses.ebm_loss
    optimizers: Callable[[OptimizerConfig], Optimizers] = train_state.optimizers


def update(
    terms: Terms,
    config: StepConfig,
    state: TrainState,
    images: Array,
    keys: Array,
    chains: Chains,
    axis_name: str | None = None,
) -> tuple[TrainState, Chains, Metrics]:
    """One iteration (docs/method.md 5); pure, and jitted by its callers.

    Posterior chains take K1 steps on U1 and prior chains K0 steps on U0; one forward pass at
    the new posterior samples gives both losses; both optimizers step. Both losses average
    per-image terms, plus terms that depend on parameters only, and every image has its own noise.
    So means over equal parts of the batch, and over devices with equal shares, are the whole
    batch's to rounding.

    Args:
      terms: energies, losses and optimizers, static.
      config: static.
      state: without chains.
      images: [B, H, W, 3], uint8 or floats in [-1, 1]. B is this device's share of the batch.
      keys: [B] random keys, one per image.
      chains: the images' chains, [B, D] each.
      axis_name: mesh axis of the devices that share the batch; None for one device.

    Returns:
      The state and the chains after the iteration, and the metrics of ``train_step`` over all
      devices.
    """
    part = functools.partial(_sampled_gradients, terms, config, state.params)
    num_parts = len(images) // config.images_at_once if config.images_at_once else 1
    gradients, metrics, new_chains = _in_turn(part, num_parts, (images, keys, chains))
    means = (gradients, metrics, *_monitors(config.model, chains, new_chains))
    if axis_name is not None:
        means = jax.lax.pmean(means, axis_name)
    gradients, metrics, squares, displacements, finite = means
    metrics = {
        **metrics,
        "generator_gradient_norm": optax.tree.norm(gradients[0]),
        "ebm_gradient_norm": optax.tree.norm(gradients[1]),
        **squares,
        **{name: jnp.sqrt(square) for name, square in displacements.items()},
        "latents_finite": (finite == 1.0).astype(jnp.float32),
    }
    return _stepped(terms.optimizers(config.optimizer), state, gradients), new_chains, metrics


def _sampled(
    terms: Terms, config: StepConfig, params: Params, image: Array, keys: Array, chains: Chains
) -> Chains:
    """Runs the chains of some images: K1 steps on U1, K0 steps on U0."""
    sampler = config.sampler
    limit: Any = {"drift_limit": sampler.drift_limit, "parts": part_sizes(config.model)}
    posterior_keys, prior_keys = jnp.moveaxis(jax.vmap(jax.random.split)(keys), 1, 0)
    posterior = langevin.sample(
        posterior_keys,
        lambda z: terms.posterior_energy(config.model, params, z, image),
        chains.posterior,
        num_steps=sampler.posterior_steps,
        step_size=sampler.posterior_step_size,
        **limit,
    )
    # One after the other: on XLA's CPU backend two loops that do not depend on each other took more
    # than twice as long, seemingly each on one thread. A barrier did not help; 0 * x does.
    finite = jnp.nan_to_num(posterior[0, 0], posinf=0.0, neginf=0.0)
    prior = langevin.sample(
        prior_keys,
        lambda z: terms.prior_energy(config.model, params, z),
        chains.prior + 0.0 * finite,
        num_steps=sampler.prior_steps,
        step_size=sampler.prior_step_size,
        **limit,
    )
    return Chains(posterior, prior)


def _sampled_gradients(
    terms: Terms, config: StepConfig, params: Params, image: Array, keys: Array, chains: Chains
) -> Given:
    """Samples the chains of some images; gradients and metrics of both losses there."""
    image = to_unit_range(image)
    z = _sampled(terms, config, params, image, keys, chains)
    trained, trained_ebm = split_params(params)
    (generator_loss, generator_aux), generator_gradient = jax.value_and_grad(
        lambda p: terms.generator_loss(config.model, p | trained_ebm, z.posterior, image),
        has_aux=True,
    )(trained)
    (ebm_loss, ebm_aux), ebm_gradient = jax.value_and_grad(
        lambda p: terms.ebm_loss(config.model, p, z.posterior, z.prior), has_aux=True
    )(trained_ebm)
    both = {"generator_loss": generator_loss, "ebm_loss": ebm_loss}
    return (generator_gradient, ebm_gradient), {**both, **generator_aux, **ebm_aux}, z


def in_parts(inputs: Any, num_parts: int) -> Any:
    """Arrays [B, ...] as [num_parts, B / num_parts, ...], for a loop over parts of a batch."""
    return jax.tree.map(lambda x: x.reshape(num_parts, -1, *x.shape[1:]), inputs)


def _in_turn(part: Callable[..., Given], num_parts: int, inputs: Any) -> Given:
    """``part`` on equal parts of the batch in turn: mean gradients and metrics, all chains."""
    if num_parts == 1:
        return part(*inputs)

    def body(total: Any, inputs: Any) -> tuple[Any, Any]:
        gradients, *others = part(*inputs)
        return jax.tree.map(jnp.add, total, gradients), others

    pieces = in_parts(inputs, num_parts)
    first = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), pieces)
    zeros = jax.tree.map(jnp.zeros_like, jax.eval_shape(part, *first)[0])
    total, (metrics, chains) = jax.lax.scan(body, zeros, pieces)
    return (
        jax.tree.map(lambda x: x / num_parts, total),
        jax.tree.map(functools.partial(jnp.mean, axis=0), metrics),
        jax.tree.map(lambda z: z.reshape(-1, z.shape[-1]), chains),
    )


def _stepped(pair: Optimizers, state: TrainState, gradients: tuple[Params, Params]) -> TrainState:
    """The state after one step of both optimizers."""
    (generator, ebm), (trained, trained_ebm) = pair, split_params(state.params)
    updates, opt_state = updates_of(generator, gradients[0], state.generator_opt_state, trained)
    ebm_updates, ebm_opt_state = updates_of(ebm, gradients[1], state.ebm_opt_state, trained_ebm)
    return dataclasses.replace(
        state,
        step=state.step + 1,
        params=optax.apply_updates(trained | trained_ebm, updates | ebm_updates),
        generator_opt_state=opt_state,
        ebm_opt_state=ebm_opt_state,
    )


def _monitors(config: ModelConfig, old: Chains, new: Chains) -> tuple[Metrics, Metrics, Array]:
    """Means over the images of a share, so that means over shares are the whole batch's.

    Returns:
      Mean z^2 of every latent part and mean squared move of every part, both by metric name, and
      whether all chains are finite, 1 or 0.
    """
    squares: Metrics = {}
    displacements: Metrics = {}
    for name, z in new._asdict().items():
        squares |= _mean_squares(config, f"{name}_mean_square", z)
    for name, z in new._asdict().items():
        displacements |= _mean_squares(config, f"{name}_displacement", z - getattr(old, name))
    finite = jnp.all(jnp.isfinite(new.posterior)) & jnp.all(jnp.isfinite(new.prior))
    return squares, displacements, finite.astype(jnp.float32)


def _mean_squares(config: ModelConfig, name: str, z: Array) -> Metrics:
    """Mean z^2 of every latent part."""
    parts = zip(Latents._fields, split_latents(config, z), strict=True)
    return {f"{name}_{part}": jnp.mean(jnp.square(latents)) for part, latents in parts}
