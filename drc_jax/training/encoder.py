"""The encoder's training, beside the model's: a program of its own, after every iteration.

It reads the batch's images and their posterior chains as the iteration left them, and changes
neither these nor anything of the model. So a model learns the same, bit for bit, with it and
without.
"""

import dataclasses
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
from drc_jax.ops.optimizers import updates_of
from drc_jax.training.state import Chains, TrainState


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


def added(config: TrainConfig, state: TrainState, key: chex.PRNGKey) -> TrainState:
    """A state with a fresh encoder."""
    params = init_encoder(config.model, config.encoder.width, key)
    opt_state = optax.adam(config.encoder.learning_rate).init(params)
    return joined(state, EncoderState(state.step, params, opt_state))


def apart(state: TrainState) -> tuple[TrainState, EncoderState]:
    """The model's state, as of a run without encoder, and the encoder's."""
    params = dict(state.params)
    encoder = EncoderState(jnp.zeros((), jnp.int32), params.pop(NAME), state.encoder_opt_state)
    return dataclasses.replace(state, params=params, encoder_opt_state=None), encoder


def joined(state: TrainState, encoder: EncoderState) -> TrainState:
    """What ``apart`` undoes."""
    params = {**state.params, NAME: encoder.params}
    return dataclasses.replace(state, params=params, encoder_opt_state=encoder.opt_state)


class EncoderUpdate:
    """What ``drc_jax.training.step.step`` asks of a method: one update."""

    @staticmethod
    def update(
        step_config: tuple[ModelConfig, EncoderConfig],
        state: EncoderState,
        images: jax.Array,
        keys: chex.PRNGKey,
        chains: Chains,
        axis_name: str | None = None,
    ) -> tuple[EncoderState, Chains, dict[str, jax.Array]]:
        """Some steps of Adam on ``encoder_loss``; the chains are returned as they are.

        The metrics are those before the first of them.
        """
        model, config = step_config
        optimizer = optax.adam(config.learning_rate)
        x = to_unit_range(images)
        loss_and_gradient = jax.value_and_grad(
            lambda params: encoder_loss(model, params, x, chains.posterior), has_aux=True
        )
        params, opt_state, seen = state.params, state.opt_state, []
        for _ in range(config.updates):
            (loss, aux), gradient = loss_and_gradient(params)
            metrics = {"encoder_loss": loss, **aux}
            if axis_name is not None:
                gradient, metrics = jax.lax.pmean((gradient, metrics), axis_name)
            seen.append(metrics)
            updates, opt_state = updates_of(optimizer, gradient, opt_state, params)
            params = optax.apply_updates(params, updates)
        return EncoderState(state.step + 1, params, opt_state), chains, seen[0]
