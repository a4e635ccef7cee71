"""One training iteration as a pure, jitted, donated function of (config, state, batch)."""

import functools
from typing import Any

import chex
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from drc_jax import langevin, losses, model
from drc_jax.config import ModelConfig, OptimizerConfig, SamplerConfig, TrainConfig
from drc_jax.errors import UserError
from drc_jax.model import Params

Metrics = dict[str, jax.Array]
LATENT_PARTS = ("foreground", "background", "reassignment")


@flax.struct.dataclass
class TrainState:
    """Everything a run needs to go on.

    Attributes:
      step: int32 scalar, iterations done.
      params: from ``drc_jax.init_params``.
      generator_opt_state: of the generators and classifiers.
      ebm_opt_state: of the energy MLPs.
      posterior_chains, prior_chains: [N, 2, D] float32, one chain per (image, flipped or not).
    """

    step: jax.Array
    params: Params
    generator_opt_state: Any
    ebm_opt_state: Any
    posterior_chains: jax.Array
    prior_chains: jax.Array


def _optimizers(
    config: OptimizerConfig,
) -> tuple[optax.GradientTransformation, optax.GradientTransformation]:
    """Adam for generators with classifiers, and Adam for the energies (appendix B)."""

    def adam(rate: float) -> optax.GradientTransformation:
        clip = optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity()
        return optax.chain(clip, optax.adam(rate, b1=config.beta1, b2=config.beta2))

    return adam(config.generator_learning_rate), adam(config.ebm_learning_rate)


def _split_params(params: Params) -> tuple[Params, Params]:
    """Parameters under the generator loss, and those under the EBM loss."""
    return {k: v for k, v in params.items() if k != "ebm"}, {"ebm": params["ebm"]}


def init_state(config: TrainConfig, num_images: int) -> TrainState:
    """A fresh state: orthogonal parameters and chains drawn once from N(0, I).

    Args:
      config: the run; everything random derives from ``config.seed``.
      num_images: N, images in the training set.

    Returns:
      ``TrainState`` at step 0.

    Raises:
      UserError: where a batch has more images than the set.
    """
    if config.batch_size > num_images:
        raise UserError(
            f"batch_size {config.batch_size} is larger than the data set's {num_images} images; "
            f"set config.batch_size to at most {num_images}"
        )
    return _init_state(config, num_images)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _init_state(config: TrainConfig, num_images: int) -> TrainState:
    # No training step has this number, so that no key is used twice.
    root = jax.random.key(config.seed)
    params_key, posterior_key, prior_key = jax.random.split(jax.random.fold_in(root, 2**32 - 1), 3)
    params = model.init_params(config.model, params_key)
    generator_optimizer, ebm_optimizer = _optimizers(config.optimizer)
    generator_params, ebm_params = _split_params(params)
    chains = (num_images, 2, config.model.latent_dim)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        generator_opt_state=generator_optimizer.init(generator_params),
        ebm_opt_state=ebm_optimizer.init(ebm_params),
        posterior_chains=jax.random.normal(posterior_key, chains),
        prior_chains=jax.random.normal(prior_key, chains),
    )


def train_step(
    config: TrainConfig, state: TrainState, batch: dict[str, Any]
) -> tuple[TrainState, Metrics]:
    """One iteration of SPEC section 5; ``state`` is donated and must not be used again.

    Posterior chains take K1 steps on U1 and prior chains K0 steps on U0; one forward pass at
    the new posterior samples gives both losses; both optimizers step; the chains are written
    back. Everything random derives from (config.seed, state.step).

    Args:
      config: the run, static.
      state: from ``init_state`` or an earlier step.
      batch: ``image`` [B, H, W, 3], uint8 or floats in [-1, 1], already mirrored where ``flip``
        [B] bool says so; ``index`` [B] int, which images these are, without repeats.

    Returns:
      The next state and scalar metrics: both losses and their terms, E(z+) and E(z-), mean z^2
      and root mean square displacement of every latent part, gradient norms, mean pi_f, the
      reconstruction error, and ``latents_finite`` (1, or 0 if any sample is not finite).

    Raises:
      UserError: if indices repeat or lie outside the chain banks, or shapes disagree. JAX itself
        would clamp or drop them silently. Device arrays are checked for shape only.
    """
    _check_batch(config, state, batch)
    used = {name: batch[name] for name in ("image", "index", "flip")}
    return unchecked_train_step(
        config.model, config.sampler, config.optimizer, state, used, config.seed
    )


def _check_batch(config: TrainConfig, state: TrainState, batch: dict[str, Any]) -> None:
    side = config.model.image_size
    size = len(batch["index"])
    if batch["image"].shape != (size, side, side, 3):
        raise UserError(
            f"batch['image'] must have shape {(size, side, side, 3)} for this model and index, "
            f"got {batch['image'].shape}"
        )
    if batch["flip"].shape != (size,):
        raise UserError(f"batch['flip'] must have shape {(size,)}, got {batch['flip'].shape}")
    index = batch["index"]
    if isinstance(index, jax.Array):  # fetching it would make every step wait for the device
        return
    index = np.asarray(index)
    num_images = state.posterior_chains.shape[0]
    if index.min() < 0 or index.max() >= num_images:
        raise UserError(
            f"batch['index'] must lie in [0, {num_images}), got {index.min()} to {index.max()}"
        )
    if len(np.unique(index)) != size:
        raise UserError("batch['index'] must not repeat an image: two chains would be one")


@functools.partial(jax.jit, static_argnums=(0, 1, 2), donate_argnums=3)
def unchecked_train_step(
    config: ModelConfig,
    sampler: SamplerConfig,
    optimizer: OptimizerConfig,
    state: TrainState,
    batch: dict[str, jax.Array],
    seed: int | jax.Array,
) -> tuple[TrainState, Metrics]:
    """``train_step`` behind its checks, compiled for just those configs that it depends on."""
    image = model.to_unit_range(batch["image"])
    rows, sides = batch["index"].astype(jnp.int32), batch["flip"].astype(jnp.int32)
    key = jax.random.fold_in(jax.random.key(seed), state.step)
    posterior_key, prior_key = jax.random.split(key)

    start_posterior = state.posterior_chains[rows, sides]
    start_prior = state.prior_chains[rows, sides]
    z_posterior = langevin.sample(
        posterior_key,
        lambda z: model.posterior_energy(config, state.params, z, image),
        start_posterior,
        num_steps=sampler.posterior_steps,
        step_size=sampler.posterior_step_size,
    )
    # One after the other: on XLA's CPU backend two loops that do not depend on each other took more
    # than twice as long, seemingly each on one thread. A barrier did not help; 0 * x does.
    finite = jnp.nan_to_num(z_posterior[0, 0], posinf=0.0, neginf=0.0)
    start_prior = start_prior + 0.0 * finite
    z_prior = langevin.sample(
        prior_key,
        lambda z: model.prior_energy(config, state.params, z),
        start_prior,
        num_steps=sampler.prior_steps,
        step_size=sampler.prior_step_size,
    )

    trained, trained_ebm = _split_params(state.params)
    (generator_loss, generator_aux), generator_grad = jax.value_and_grad(
        lambda p: losses.generator_loss(config, p | trained_ebm, z_posterior, image),
        has_aux=True,
    )(trained)
    (ebm_loss, ebm_aux), ebm_grad = jax.value_and_grad(
        lambda p: losses.ebm_loss(config, p, z_posterior, z_prior), has_aux=True
    )(trained_ebm)

    generator_optimizer, ebm_optimizer = _optimizers(optimizer)
    # Optax raises floats to integer powers, which callers with strict promotion could not run.
    with jax.numpy_dtype_promotion("standard"):
        updates, generator_opt_state = generator_optimizer.update(
            generator_grad, state.generator_opt_state, trained
        )
        ebm_updates, ebm_opt_state = ebm_optimizer.update(
            ebm_grad, state.ebm_opt_state, trained_ebm
        )
    params = optax.apply_updates(trained | trained_ebm, updates | ebm_updates)

    metrics = {
        "generator_loss": generator_loss,
        "ebm_loss": ebm_loss,
        **generator_aux,
        **ebm_aux,
        "generator_gradient_norm": optax.tree.norm(generator_grad),
        "ebm_gradient_norm": optax.tree.norm(ebm_grad),
        **_latent_metrics(config, "posterior", start_posterior, z_posterior),
        **_latent_metrics(config, "prior", start_prior, z_prior),
        "latents_finite": (
            jnp.all(jnp.isfinite(z_posterior)) & jnp.all(jnp.isfinite(z_prior))
        ).astype(jnp.float32),
    }
    return TrainState(
        step=state.step + 1,
        params=params,
        generator_opt_state=generator_opt_state,
        ebm_opt_state=ebm_opt_state,
        posterior_chains=state.posterior_chains.at[rows, sides].set(z_posterior),
        prior_chains=state.prior_chains.at[rows, sides].set(z_prior),
    ), metrics


def _latent_metrics(config: ModelConfig, chain: str, start: chex.Array, end: chex.Array) -> Metrics:
    """Mean z^2 and root mean square displacement of every latent part of one kind of chain."""
    metrics = {}
    parts = zip(
        LATENT_PARTS,
        model.split_latents(config, start),
        model.split_latents(config, end),
        strict=True,
    )
    for name, before, after in parts:
        metrics[f"{chain}_mean_square_{name}"] = jnp.mean(jnp.square(after))
        metrics[f"{chain}_displacement_{name}"] = jnp.sqrt(jnp.mean(jnp.square(after - before)))
    return metrics
