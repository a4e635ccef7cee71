"""What a run of DRC carries from one iteration to the next, and how it begins."""

import dataclasses
from typing import Any, NamedTuple

import chex
import flax.struct
import jax
import jax.numpy as jnp
import optax

from drc_jax.config import ModelConfig, OptimizerConfig, TrainConfig
from drc_jax.errors import UserError
from drc_jax.model.networks import Params
from drc_jax.model.render import init_params

# Folded into the seed for what a run begins with: no training step has this number.
_START = 2**32 - 1


class Chains(NamedTuple):
    """Langevin chains: of a batch [B, D] each, or of all images and their mirrors [N, 2, D].

    Attributes:
      posterior: float32, z+.
      prior: float32, z-.
    """

    posterior: jax.Array
    prior: jax.Array


@flax.struct.dataclass
class TrainState:
    """Everything a run needs to go on.

    Attributes:
      step: int32 scalar, iterations done.
      params: from ``drc_jax.init_params``.
      generator_opt_state: of the generators and classifiers.
      ebm_opt_state: of the energy MLPs.
      posterior_chains, prior_chains: [N, 2, D] float32, one chain per (image, mirrored or not);
        None where the chains are kept elsewhere, as with ``config.chain_bank`` ``host``.
      encoder_opt_state: of the encoder, whose parameters are ``params["encoder"]``; None without.
    """

    step: jax.Array
    params: Params
    generator_opt_state: Any
    ebm_opt_state: Any
    posterior_chains: jax.Array | None
    prior_chains: jax.Array | None
    encoder_opt_state: Any = None


def optimizers(
    config: OptimizerConfig,
) -> tuple[optax.GradientTransformation, optax.GradientTransformation]:
    """Adam for generators with classifiers, and Adam for the energies (docs/method.md 4)."""

    def adam(rate: float) -> optax.GradientTransformation:
        clip = optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity()
        return optax.chain(clip, optax.adam(rate, b1=config.beta1, b2=config.beta2))

    return adam(config.generator_learning_rate), adam(config.ebm_learning_rate)


def split_params(params: Params) -> tuple[Params, Params]:
    """Parameters under the generator loss, and those under the EBM loss."""
    return {k: v for k, v in params.items() if k != "ebm"}, {"ebm": params["ebm"]}


def split_chains(state: TrainState) -> tuple[TrainState, Chains]:
    """A state without its chains, and the chains.

    Raises:
      UserError: if the state has none.
    """
    if state.posterior_chains is None or state.prior_chains is None:
        raise UserError(
            "this state has no chains: chain_bank 'host' keeps them in files, which the loop reads"
        )
    chains = Chains(state.posterior_chains, state.prior_chains)
    return dataclasses.replace(state, posterior_chains=None, prior_chains=None), chains


def join_chains(state: TrainState, chains: Chains) -> TrainState:
    """What ``split_chains`` undoes."""
    return dataclasses.replace(state, posterior_chains=chains.posterior, prior_chains=chains.prior)


def start_keys(seed: int | jax.Array) -> tuple[chex.PRNGKey, chex.PRNGKey, chex.PRNGKey]:
    """Keys of the fresh parameters, posterior chains and prior chains of a run."""
    root = jax.random.fold_in(jax.random.key(jnp.asarray(seed, jnp.uint32)), _START)
    params_key, posterior_key, prior_key = jax.random.split(root, 3)
    return params_key, posterior_key, prior_key


def fresh_chains(config: ModelConfig, seed: int | jax.Array, index: jax.Array) -> Chains:
    """The chains with which images begin, N(0, I); each depends on (seed, image) alone.

    Args:
      config: the model.
      seed: the run's.
      index: int [n], places of the images in their set.

    Returns:
      ``Chains`` of [n, 2, D]: first of the image, then of its mirror.
    """

    def of_one(key: chex.PRNGKey, image: jax.Array) -> jax.Array:
        return jax.random.normal(jax.random.fold_in(key, image), (2, config.latent_dim))

    _, posterior_key, prior_key = start_keys(seed)
    draw = jax.vmap(of_one, in_axes=(None, 0))
    return Chains(draw(posterior_key, index), draw(prior_key, index))


def fresh_state(
    config: TrainConfig,
    optimizer_pair: tuple[optax.GradientTransformation, optax.GradientTransformation],
) -> TrainState:
    """A state at step 0 without chains: orthogonal parameters, optimizers at rest."""
    params = init_params(config.model, start_keys(config.seed)[0])
    generator, ebm = optimizer_pair
    generator_params, ebm_params = split_params(params)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        generator_opt_state=generator.init(generator_params),
        ebm_opt_state=ebm.init(ebm_params),
        posterior_chains=None,
        prior_chains=None,
    )
