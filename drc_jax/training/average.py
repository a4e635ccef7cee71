"""The running average of the model's parameters, beside the training, which it does not change."""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from drc_jax.model.average import NAME
from drc_jax.model.networks import Params
from drc_jax.training.state import TrainState

_AVERAGED = ("generator", "ebm")  # what inference needs of the model; an encoder stays as it is


def added(state: TrainState) -> TrainState:
    """A fresh state with averages of nothing yet."""
    average = {name: jax.tree.map(jnp.zeros_like, state.params[name]) for name in _AVERAGED}
    return joined(state, average)


def apart(state: TrainState) -> tuple[TrainState, Params]:
    """The state as of a run without averages, and the averages."""
    params = dict(state.params)
    average = params.pop(NAME)
    return dataclasses.replace(state, params=params), average


def joined(state: TrainState, average: Params) -> TrainState:
    """What ``apart`` undoes."""
    return dataclasses.replace(state, params={**state.params, NAME: average})


@functools.partial(jax.jit, donate_argnums=1)
def updated(decay: float, average: Params, params: Params, step: jax.Array) -> Params:
    """The averages after an iteration, (5.1).

    They begin with the first iteration's parameters, and early ones are soon forgotten.

    Args:
      decay: ``optimizer.average_decay``.
      average: before the iteration.
      params: the model's after it.
      step: t, iterations done, from 1 on.
    """
    d = jnp.minimum(decay, (step - 1) / (step + 9))
    new = {name: params[name] for name in average}
    return jax.tree.map(lambda a, theta: d * a + (1.0 - d) * theta, average, new)
