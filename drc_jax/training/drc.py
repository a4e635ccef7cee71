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
from drc_jax.model.render import Regions, render
from drc_jax.training import encoder
from drc_jax.training import state as train_state
from drc_jax.training import update as updates
from drc_jax.training.state import Chains, TrainState
from drc_jax.training.update import DEFAULT_TERMS, Metrics, StepConfig, Terms


@dataclasses.dataclass(frozen=True)
class DRC:
    """See ``drc_jax.runs.method.Method``.

    Attributes:
      terms: energies, losses and optimizers; give your own to train something else.
    """

    terms: Terms = DEFAULT_TERMS

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
        return StepConfig.of(config)

    def keeps_in_files(self, config: TrainConfig) -> bool:
        return config.chain_bank == "host"

    def fresh_state(self, config: TrainConfig) -> TrainState:
        state = train_state.fresh_state(config, self.terms.optimizers(config.optimizer))
        return encoder.added(config, state)

    def fresh_chains(self, config: TrainConfig, seed: int | jax.Array, index: jax.Array) -> Chains:
        return train_state.fresh_chains(config.model, seed, index)

    split_chains = staticmethod(train_state.split_chains)
    join_chains = staticmethod(train_state.join_chains)

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
        start: str = "prior",
        progress: inference.Progress | None = None,
    ) -> Regions:
        return inference.infer(
            config.model,
            params,
            keys,
            images,
            num_steps=num_steps or self.test_steps(config),
            num_restarts=num_restarts,
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


_render = functools.partial(jax.jit, static_argnums=0)(render)

DEFAULT = DRC()
