"""The encoder's training, beside the model's: a program of its own, after every iteration.

It reads the batch's images and their posterior chains as the iteration left them, and changes
neither these nor anything of the model. So a model learns the same, bit for bit, with it and
without.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import chex
import flax.struct
import jax
import jax.numpy as jnp
import optax

from drc_jax.config import EncoderConfig, ModelConfig, TrainConfig
from drc_jax.model.encoder import NAME, encoder_loss, init_encoder
from drc_jax.model.images import to_unit_range
from drc_jax.model.networks import Params
from drc_jax.training.state import Chains, TrainState, start_keys

RunStep = Callable[..., tuple[Any, Any, Any]]


@dataclasses.dataclass(frozen=True)
class EncoderStepConfig:
    """What the encoder's program is compiled for."""

    model: ModelConfig
    encoder: EncoderConfig


@flax.struct.dataclass
class EncoderState:
    """The encoder's part of a run's state.

    Attributes:
      step: int32 scalar; nothing random depends on it.
      params: from ``init_encoder``.
      opt_state: Adam's.
    """

    step: jax.Array
    params: Params
    opt_state: Any


def is_on(config: Any) -> bool:
    """Whether a run trains an encoder."""
    return isinstance(config, TrainConfig) and config.encoder.enabled


def added(config: TrainConfig, state: TrainState) -> TrainState:
    """A fresh state with a fresh encoder, where the run trains one."""
    if not is_on(config):
        return state
    # Folded in, so that the model's own keys stay.
    key = jax.random.fold_in(start_keys(config.seed)[0], 0)
    params = init_encoder(config.model, config.encoder.width, key)
    opt_state = _optimizer(config.encoder).init(params)
    return _joined(state, EncoderState(state.step, params, opt_state))


def after(run_step: RunStep, run_encoder: RunStep) -> RunStep:
    """One iteration of the model, then one of the encoder on the chains that it gave.

    Args:
      run_step: (state, chains, images, seed) -> (state, chains, metrics), on a state without
        encoder.
      run_encoder: the same of ``EncoderUpdate`` on an ``EncoderState``.

    Returns:
      The same of both, on a state with an encoder.
    """

    def run(state: TrainState, chains: Chains, images: jax.Array, seed: Any) -> Any:
        model, encoder = _apart(state)
        model, chains, metrics = run_step(model, chains, images, seed)
        encoder, chains, more = run_encoder(encoder, chains, images, seed)
        return _joined(model, encoder), chains, {**metrics, **more}

    return run


@dataclasses.dataclass(frozen=True)
class EncoderUpdate:
    """What ``drc_jax.training.step.step`` asks of a method: one update."""

    def update(
        self,
        step_config: EncoderStepConfig,
        state: EncoderState,
        images: jax.Array,
        keys: chex.PRNGKey,
        chains: Chains,
        axis_name: str | None = None,
    ) -> tuple[EncoderState, Chains, dict[str, jax.Array]]:
        """Some steps of Adam on ``encoder_loss``; the chains are returned as they are.

        The metrics are those before the first of them.
        """
        optimizer = _optimizer(step_config.encoder)
        x = to_unit_range(images)
        loss_and_gradient = jax.value_and_grad(
            lambda params: encoder_loss(step_config.model, params, x, chains.posterior),
            has_aux=True,
        )
        params, opt_state, seen = state.params, state.opt_state, []
        for _ in range(step_config.encoder.updates):
            (loss, aux), gradient = loss_and_gradient(params)
            metrics = {"encoder_loss": loss, **aux}
            if axis_name is not None:
                gradient, metrics = jax.lax.pmean((gradient, metrics), axis_name)
            seen.append(metrics)
            # Optax raises floats to integer powers, which callers with strict promotion could not
            # run.
            with jax.numpy_dtype_promotion("standard"):
                updates, opt_state = optimizer.update(gradient, opt_state, params)
            params = optax.apply_updates(params, updates)
        return EncoderState(state.step + 1, params, opt_state), chains, seen[0]


def _optimizer(config: EncoderConfig) -> optax.GradientTransformation:
    return optax.adam(config.learning_rate)


def _apart(state: TrainState) -> tuple[TrainState, EncoderState]:
    """The model's state, as of a run without encoder, and the encoder's."""
    params = dict(state.params)
    encoder = EncoderState(jnp.zeros((), jnp.int32), params.pop(NAME), state.encoder_opt_state)
    return dataclasses.replace(state, params=params, encoder_opt_state=None), encoder


def _joined(state: TrainState, encoder: EncoderState) -> TrainState:
    params = {**state.params, NAME: encoder.params}
    return dataclasses.replace(state, params=params, encoder_opt_state=encoder.opt_state)
