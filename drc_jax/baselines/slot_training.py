"""What the training of slot methods shares: the optimizer, the state and the ``Method``."""

import abc
import dataclasses
import functools
from typing import Any, ClassVar, NamedTuple

import chex
import flax.struct
import jax
import jax.numpy as jnp
import optax

from drc_jax.baselines.slots import SlotRegions, to_floats
from drc_jax.baselines.trained import TrainedMethod, start_key
from drc_jax.config.fields import check, field
from drc_jax.ops.optimizers import clipped_adam, updates_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class SlotOptimizerConfig:
    """Adam with a linear warm-up and an exponential decay; the defaults are Slot Attention's.

    Attributes:
      learning_rate: the rate without warm-up and decay.
      warmup_steps: iterations until the warm-up has ended; 0 for none.
      decay_rate, decay_steps: every ``decay_steps`` iterations the rate falls to ``decay_rate``
        of what it was, smoothly.
      clip_norm: the largest norm of the gradient; 0 for no limit.
      beta1: of Adam; beta2 is 0.999.
    """

    learning_rate: float = field(4e-4, least=1e-12, most=1.0)
    warmup_steps: int = field(10_000, least=0, most=10**9)
    decay_rate: float = field(0.5, least=1e-6, most=1.0)
    decay_steps: int = field(100_000, least=1, most=10**9)
    clip_norm: float = field(0.0, least=0.0, most=1e6)
    beta1: float = field(0.9, least=0.0, most=0.9999)

    def __post_init__(self) -> None:
        check(self)


class StepConfig(NamedTuple):
    """What an iteration is compiled for: the method's model, and the optimizer."""

    model: Any
    optimizer: SlotOptimizerConfig


@flax.struct.dataclass
class SlotState:
    """Everything a run needs to go on.

    Attributes:
      step: int32 scalar, iterations done.
      params: the model's.
      opt_state: Adam's.
    """

    step: jax.Array
    params: Any
    opt_state: Any


def learning_rate(config: SlotOptimizerConfig, step: jax.Array | int) -> jax.Array:
    """rate min(1, t / warmup_steps) decay_rate^(t / decay_steps) at iteration t = 0, 1, ..."""
    t = jnp.asarray(step, jnp.float32)
    warm = jnp.minimum(1.0, t / config.warmup_steps) if config.warmup_steps else jnp.ones(())
    return config.learning_rate * warm * config.decay_rate ** (t / config.decay_steps)


def make_optimizer(config: SlotOptimizerConfig) -> optax.GradientTransformation:
    """Adam with the rate of ``learning_rate``, after clipping."""
    rate = functools.partial(learning_rate, config)
    return clipped_adam(rate, clip_norm=config.clip_norm, b1=config.beta1)


class SlotMethod(TrainedMethod):
    """A ``drc_jax.runs.method.Method`` of slots; nothing belongs to single images.

    A subclass is a frozen dataclass without fields and adds ``name``, ``config_type``, ``advice``
    and three functions of its model's config. The run's config has ``model`` and ``optimizer``.
    """

    name: ClassVar[str]
    config_type: ClassVar[type]

    @abc.abstractmethod
    def init_params(self, config: Any, key: chex.PRNGKey) -> Any:
        """Fresh parameters of a model config; traceable."""

    @abc.abstractmethod
    def loss(
        self, config: Any, params: Any, images: jax.Array, keys: chex.PRNGKey, step: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The loss on images [B, S, S, 3] in [-1, 1], a mean over them, and more such means.

        ``keys`` are [B]; ``step`` counts iterations.
        """

    def step_config(self, config: Any) -> StepConfig:
        return StepConfig(config.model, config.optimizer)

    def fresh_state(self, config: Any) -> SlotState:
        params = self.init_params(config.model, start_key(config.seed))
        opt_state = make_optimizer(config.optimizer).init(params)
        return SlotState(jnp.zeros((), jnp.int32), params, opt_state)

    def update(
        self,
        step_config: StepConfig,
        state: SlotState,
        images: jax.Array,
        keys: chex.PRNGKey,
        chains: tuple[()],
        axis_name: str | None = None,
    ) -> tuple[SlotState, tuple[()], dict[str, jax.Array]]:
        """One Adam step on the loss; see ``Method.update``.

        The metrics are the method's own (see its ``loss``), the loss, the gradient's norm before
        clipping, and the learning rate.
        """

        def loss(params: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
            return self.loss(step_config.model, params, to_floats(images), keys, state.step)

        (value, metrics), gradients = jax.value_and_grad(loss, has_aux=True)(state.params)
        metrics = {"loss": value, **metrics}
        if axis_name is not None:
            gradients, metrics = jax.lax.pmean((gradients, metrics), axis_name)
        metrics["gradient_norm"] = optax.tree.norm(gradients)
        metrics["learning_rate"] = learning_rate(step_config.optimizer, state.step)
        optimizer = make_optimizer(step_config.optimizer)
        updates, opt_state = updates_of(optimizer, gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return SlotState(state.step + 1, params, opt_state), (), metrics


def largest_area(regions: SlotRegions) -> jax.Array:
    """The mean share of an image that its largest mask has: 1 / K where slots are all alike."""
    return jnp.mean(jnp.max(jnp.mean(regions.pi, axis=(2, 3)), axis=1))
