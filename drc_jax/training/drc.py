"""Deep Region Competition as a ``Method``."""

import dataclasses
import functools
from typing import Any

import chex
import jax
import jax.numpy as jnp

from drc_jax import inference
from drc_jax.config import TrainConfig
from drc_jax.errors import UserError
from drc_jax.model import posterior
from drc_jax.model.networks import Params
from drc_jax.model.render import Regions, init_params, render
from drc_jax.training import encoder
from drc_jax.training import update as updates
from drc_jax.training.state import Chains, TrainState, split_params
from drc_jax.training.update import Metrics, StepConfig, Terms

# Folded into the seed for what a run begins with: no training step has this number.
_START = 2**32 - 1


@dataclasses.dataclass(frozen=True)
class DRC:
    """See ``drc_jax.runs.method.Method``.

    Attributes:
      terms: energies, losses and optimizers; give your own to train something else.
    """

    terms: Terms = Terms()

    name = "drc"
    config_type = TrainConfig

    def check(self, config: TrainConfig) -> None:
        count = jax.process_count()
        if config.chain_bank == "host" and count > 1:
            raise UserError(
                f"chain_bank 'host' works in one process only, and these are {count}; set "
                "chain_bank to 'device', or start one process with all of a machine's devices"
            )

    def step_config(self, config: TrainConfig) -> StepConfig:
        return StepConfig(config.model, config.sampler, config.optimizer, config.images_at_once)

    def keeps_in_files(self, config: TrainConfig) -> bool:
        return config.chain_bank == "host"

    def fresh_state(self, config: TrainConfig) -> TrainState:
        """Orthogonal parameters and optimizers at rest, the encoder's too where there is one."""
        key, _, _ = _start_keys(config.seed)
        params = init_params(config.model, key)
        generator, ebm = self.terms.optimizers(config.optimizer)
        trained, trained_ebm = split_params(params)
        zero = jnp.zeros((), jnp.int32)
        state = TrainState(zero, params, generator.init(trained), ebm.init(trained_ebm))
        if not config.encoder.enabled:
            return state
        # Folded in, so that the model's own keys stay.
        return encoder.added(config, state, jax.random.fold_in(key, 0))

    def fresh_chains(self, config: TrainConfig, seed: int | jax.Array, index: jax.Array) -> Chains:
        """N(0, I); a chain depends on (seed, image) alone."""

        def of_one(key: chex.PRNGKey, image: jax.Array) -> jax.Array:
            key = jax.random.fold_in(key, image)
            return jax.random.normal(key, (2, config.model.latent_dim))

        draw = jax.vmap(of_one, in_axes=(None, 0))
        _, posterior_key, prior_key = _start_keys(seed)
        return Chains(draw(posterior_key, index), draw(prior_key, index))

    def split_chains(self, state: TrainState) -> tuple[TrainState, Chains]:
        if state.posterior_chains is None or state.prior_chains is None:
            raise UserError(
                "this state has no chains: chain_bank 'host' keeps them in files, which the loop "
                "reads"
            )
        chains = Chains(state.posterior_chains, state.prior_chains)
        return dataclasses.replace(state, posterior_chains=None, prior_chains=None), chains

    def join_chains(self, state: TrainState, chains: Chains) -> TrainState:
        posterior, prior = chains
        return dataclasses.replace(state, posterior_chains=posterior, prior_chains=prior)

    def update(
        self,
        step_config: StepConfig,
        state: TrainState,
        images: jax.Array,
        keys: chex.PRNGKey,
        chains: Chains,
        axis_name: str | None = None,
    ) -> tuple[TrainState, Chains, Metrics]:
        return updates.update(self.terms, step_config, state, images, keys, chains, axis_name)

    def test_steps(self, config: TrainConfig) -> int:
        return config.sampler.test_steps

    def segment(
        self,
        config: TrainConfig,
        params: Params,
        keys: chex.PRNGKey,
        images: jax.Array,
        *,
        num_steps: int = 0,
        num_restarts: int = 1,
        num_chains: int = 0,
        mask_from: str = "",
        start: str = "prior",
        progress: inference.Progress | None = None,
    ) -> Regions:
        return inference.infer(
            config.test_model,
            params,
            keys,
            images,
            num_steps=num_steps or self.test_steps(config),
            num_restarts=num_restarts,
            # Who asks for restarts wants one chain's answer, whatever the config says.
            num_chains=num_chains or (config.sampler.test_chains if num_restarts == 1 else 1),
            mask_from=mask_from or config.sampler.test_mask_from,
            progress=progress,
            **posterior.options(config.sampler, start),
        )

    def show(
        self, config: TrainConfig, params: Params, chains: Chains, images: Any, seed: int
    ) -> Regions:
        return _render(config.model, params, jnp.asarray(chains.posterior))

    def advice(self, problem: str) -> str:
        if "latent" in problem or "energy" in problem:
            return "try a smaller sampler.posterior_step_size or sampler.prior_step_size"
        if "ebm" in problem:
            return "try a smaller optimizer.ebm_learning_rate"
        return "try a smaller optimizer.generator_learning_rate, or optimizer.clip_norm"


def _start_keys(seed: int | jax.Array) -> chex.PRNGKey:
    """Keys [3] of a run's fresh parameters, posterior chains and prior chains."""
    root = jax.random.fold_in(jax.random.key(jnp.asarray(seed, jnp.uint32)), _START)
    return jax.random.split(root, 3)


_render = functools.partial(jax.jit, static_argnums=0)(render)
