"""ReDO's training state: fresh networks, their optimizers, and when a run begins anew."""

import dataclasses
import functools
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import optax

from drc_jax.baselines import redo_model as model
from drc_jax.baselines.redo_model import ReDOModelConfig, Variables
from drc_jax.baselines.trained import start_key
from drc_jax.config.fields import check, field

CRITICS = ("discriminator", "estimator")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReDOOptimizerConfig:
    """Adam with beta 0 and 0.9 and constant rates; the defaults are the released code's.

    Attributes:
      learning_rate: of the generators, D and Z.
      mask_learning_rate: of M.
      mask_weight_decay: times M's parameters, added to their gradients before Adam scales them.
      noise_weight: lambda_z, the weight of Z's error in the redrawing loss.
    """

    learning_rate: float = field(1e-4, least=1e-12, most=1.0)
    mask_learning_rate: float = field(1e-5, least=1e-12, most=1.0)
    mask_weight_decay: float = field(1e-4, least=0.0, most=1.0)
    noise_weight: float = field(5.0, least=0.0, most=1e6)

    def __post_init__(self) -> None:
        check(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReDORestartConfig:
    """When a run whose one region has taken the whole image begins anew; needs no true masks.

    All networks and optimizers begin anew, with random numbers of their own, and a run's
    ``iterations`` include those before a restart. The released code keeps Z's kernels, measures the
    regions on the last batch alone, of training and of other images, restarts as often as it takes
    and then counts iterations from 0; its rule is off by default.

    Attributes:
      below: it does where the smaller region's mean share of the images is less than this; 0 for
        never. It must be less than the true foreground's share: 0.1 for one large object, 0.02
        for CLEVR6 and TM-dSprites.
      every: iterations between checks.
      until: iterations, since the last start, after which no check is made.
      most: restarts in a run.
    """

    below: float = field(0.1, least=0.0, most=0.5)
    every: int = field(500, least=1, most=10**9)
    until: int = field(7_000, least=0, most=10**9)
    most: int = field(3, least=0, most=10**6)

    def __post_init__(self) -> None:
        check(self)


class StepConfig(NamedTuple):
    """What an iteration is compiled for."""

    model: ReDOModelConfig
    optimizer: ReDOOptimizerConfig
    restart: ReDORestartConfig


@flax.struct.dataclass
class ReDOState:
    """Everything a run needs to go on.

    Attributes:
      step: int32 scalar, iterations done.
      params: variables of M and the generators by name, spectral norms included.
      critics: those of D and Z.
      opt_state: Adam's, by network.
      seed: uint32 scalar, the run's; fresh networks derive from it and from ``restarts``.
      age: int32 scalar, iterations since the last start.
      restarts: int32 scalar, how often the run has begun anew.
      area: float32 scalar, the sum of m_0's shares since the middle between two checks.
    """

    step: jax.Array
    params: dict[str, Variables]
    critics: dict[str, Variables]
    opt_state: dict[str, Any]
    seed: jax.Array
    age: jax.Array
    restarts: jax.Array
    area: jax.Array


def make_optimizers(config: ReDOOptimizerConfig) -> dict[str, optax.GradientTransformation]:
    """Adam for each network by name; for M after adding weight_decay times the parameters.

    So the decay is scaled as gradients are (L2), unlike in AdamW.
    """
    adam = functools.partial(optax.adam, b1=0.0, b2=0.9)
    decay = optax.add_decayed_weights(config.mask_weight_decay)
    generators = [f"generator_{k}" for k in range(model.NUM_REGIONS)]
    return {
        "mask": optax.chain(decay, adam(config.mask_learning_rate)),
        **{name: adam(config.learning_rate) for name in (*generators, *CRITICS)},
    }


def start(config: StepConfig, step: jax.Array, seed: jax.Array, restarts: jax.Array) -> ReDOState:
    """Fresh networks and optimizers; a run's first, or those after a restart; traceable."""
    networks = model.init(config.model, jax.random.fold_in(start_key(seed), restarts))
    optimizers = make_optimizers(config.optimizer)
    critics = {name: networks.pop(name) for name in CRITICS}
    opt_state = {
        name: optimizers[name].init(variables["params"])
        for name, variables in {**networks, **critics}.items()
    }
    age, area = jnp.zeros((), jnp.int32), jnp.zeros(())
    return ReDOState(step, networks, critics, opt_state, seed, age, restarts, area)


def with_area(
    config: ReDORestartConfig, state: ReDOState, area: jax.Array
) -> tuple[ReDOState, jax.Array]:
    """Counts an iteration in which m_0 had the mean share ``area``, and checks for a collapse.

    The share is a mean over the images of the second half of the iterations between two checks,
    as the masks were then.

    Args:
      config: the rule.
      state: before the iteration.
      area: scalar in [0, 1], over all devices.

    Returns:
      The state one iteration older, and whether it has to begin anew, a bool scalar.
    """
    since = state.age % config.every
    first = config.every // 2
    total = state.area + jnp.where(since >= first, area, 0.0)
    age, is_check = state.age + 1, since == config.every - 1
    mean = total / (config.every - first)
    is_due = is_check & (age <= config.until) & (state.restarts < config.most)
    is_collapsed = jnp.minimum(mean, 1.0 - mean) < config.below
    total = jnp.where(is_check, 0.0, total)
    return dataclasses.replace(state, age=age, area=total), is_due & is_collapsed
