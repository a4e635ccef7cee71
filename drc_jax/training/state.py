"""What a run carries from one iteration to the next, and how it begins."""

import dataclasses
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from drc_jax.config import OptimizerConfig, TrainConfig
from drc_jax.errors import UserError
from drc_jax.model import render as model
from drc_jax.model.render import Params


@flax.struct.dataclass
class TrainState:
    """Everything a run needs to go on.

    Attributes:
      step: int32 scalar, iterations done.
      params: from ``drc_jax.init_params``.
      generator_opt_state: of the generators and classifiers.
      ebm_opt_state: of the energy MLPs.
      posterior_chains, prior_chains: [N, 2, D] float32, one chain per (image, flipped or not);
        None where ``config.chain_bank`` is ``host``.
    """

    step: jax.Array
    params: Params
    generator_opt_state: Any
    ebm_opt_state: Any
    posterior_chains: jax.Array | None
    prior_chains: jax.Array | None


def optimizers(
    config: OptimizerConfig,
) -> tuple[optax.GradientTransformation, optax.GradientTransformation]:
    """Adam for generators with classifiers, and Adam for the energies (appendix B)."""

    def adam(rate: float) -> optax.GradientTransformation:
        clip = optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity()
        return optax.chain(clip, optax.adam(rate, b1=config.beta1, b2=config.beta2))

    return adam(config.generator_learning_rate), adam(config.ebm_learning_rate)


def split_params(params: Params) -> tuple[Params, Params]:
    """Parameters under the generator loss, and those under the EBM loss."""
    return {k: v for k, v in params.items() if k != "ebm"}, {"ebm": params["ebm"]}


def init_state(config: TrainConfig, num_images: int) -> TrainState:
    """A fresh state: orthogonal parameters, and chains drawn once from N(0, I) where it has them.

    Args:
      config: the run; everything random derives from ``config.seed``.
      num_images: N, images in the training set.

    Returns:
      ``TrainState`` at step 0.

    Raises:
      UserError: where a batch has more images than the set.
    """
    check_size(config, num_images)
    return _jitted_init_state(config, num_images)


def check_size(config: TrainConfig, num_images: int) -> None:
    """Refuses batches with more images than the set.

    Raises:
      UserError: naming both numbers.
    """
    if config.batch_size > num_images:
        raise UserError(
            f"batch_size {config.batch_size} is larger than the data set's {num_images} images; "
            f"set config.batch_size to at most {num_images}"
        )


def unchecked_init_state(config: TrainConfig, num_images: int) -> TrainState:
    """``init_state`` behind its check, for callers that jit by themselves."""
    # No training step has this number, so that no key is used twice.
    root = jax.random.key(config.seed)
    params_key, posterior_key, prior_key = jax.random.split(jax.random.fold_in(root, 2**32 - 1), 3)
    params = model.init_params(config.model, params_key)
    generator_optimizer, ebm_optimizer = optimizers(config.optimizer)
    generator_params, ebm_params = split_params(params)
    chains = (num_images, 2, config.model.latent_dim)
    on_device = config.chain_bank == "device"
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        generator_opt_state=generator_optimizer.init(generator_params),
        ebm_opt_state=ebm_optimizer.init(ebm_params),
        posterior_chains=jax.random.normal(posterior_key, chains) if on_device else None,
        prior_chains=jax.random.normal(prior_key, chains) if on_device else None,
    )


_jitted_init_state = jax.jit(unchecked_init_state, static_argnums=(0, 1))


def with_chains(
    state: TrainState,
    rows: jax.Array,
    sides: jax.Array,
    z_posterior: jax.Array,
    z_prior: jax.Array,
) -> TrainState:
    """The state with the chains of some images replaced.

    Args:
      state: with chain banks.
      rows, sides: [B] int32, the images and whether each is mirrored.
      z_posterior, z_prior: [B, D], their chains.
    """
    assert state.posterior_chains is not None and state.prior_chains is not None
    return dataclasses.replace(
        state,
        posterior_chains=state.posterior_chains.at[rows, sides].set(z_posterior),
        prior_chains=state.prior_chains.at[rows, sides].set(z_prior),
    )
