"""Slot Attention as a ``Method``: its config, optimizer and training iteration."""

import dataclasses
import functools
from typing import Any, ClassVar, NamedTuple

import chex
import flax.struct
import jax
import jax.numpy as jnp
import optax

from drc_jax.baselines import slot_attention_model as model
from drc_jax.baselines.slot_attention_model import SlotModelConfig
from drc_jax.baselines.slots import SlotRegions, to_floats
from drc_jax.config.fields import check, field
from drc_jax.config.run import DataConfig, RunConfig

# Folded into the seed for the fresh parameters: no training step has this number.
_START = 2**32 - 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class SlotOptimizerConfig:
    """Adam with a linear warm-up and an exponential decay; the defaults are the paper's.

    Attributes:
      learning_rate: the rate without warm-up and decay.
      warmup_steps: iterations until the warm-up has ended; 0 for none.
      decay_rate, decay_steps: every ``decay_steps`` iterations the rate falls to ``decay_rate``
        of what it was, smoothly.
      clip_norm: the largest norm of the gradient; 0 for no limit.
    """

    learning_rate: float = field(4e-4, least=1e-12, most=1.0)
    warmup_steps: int = field(10_000, least=0, most=10**9)
    decay_rate: float = field(0.5, least=1e-6, most=1.0)
    decay_steps: int = field(100_000, least=1, most=10**9)
    clip_norm: float = field(0.0, least=0.0, most=1e6)

    def __post_init__(self) -> None:
        check(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SlotAttentionConfig(RunConfig):
    """A training run of Slot Attention; the defaults are the paper's for CLEVR6.

    Attributes:
      model, optimizer: the parts above.
    """

    method: ClassVar[str] = "slot_attention"

    data: DataConfig = DataConfig(flip=False)
    model: SlotModelConfig = SlotModelConfig()
    optimizer: SlotOptimizerConfig = SlotOptimizerConfig()
    batch_size: int = field(64, least=1, most=2**20)
    iterations: int = field(500_000, least=1, most=10**12)

    @property
    def image_size(self) -> int:
        """Side of the images in pixels: the model's."""
        return self.model.image_size


class StepConfig(NamedTuple):
    """What an iteration is compiled for."""

    model: SlotModelConfig
    optimizer: SlotOptimizerConfig


@flax.struct.dataclass
class SlotState:
    """Everything a run needs to go on.

    Attributes:
      step: int32 scalar, iterations done.
      params: of ``slot_attention_model``.
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
    """Adam with beta 0.9 and 0.999 and the rate of ``learning_rate``, after clipping."""
    clip = optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity()
    return optax.chain(clip, optax.adam(functools.partial(learning_rate, config)))


@dataclasses.dataclass(frozen=True)
class SlotAttention:
    """See ``drc_jax.training.method.Method``; nothing belongs to single images."""

    name = "slot_attention"
    config_type = SlotAttentionConfig

    def check(self, config: SlotAttentionConfig) -> None:
        pass

    def step_config(self, config: SlotAttentionConfig) -> StepConfig:
        return StepConfig(config.model, config.optimizer)

    def keeps_in_files(self, config: SlotAttentionConfig) -> bool:
        return False

    def fresh_state(self, config: SlotAttentionConfig) -> SlotState:
        key = jax.random.fold_in(jax.random.key(jnp.asarray(config.seed, jnp.uint32)), _START)
        params = model.init_params(config.model, key)
        opt_state = make_optimizer(config.optimizer).init(params)
        return SlotState(jnp.zeros((), jnp.int32), params, opt_state)

    def fresh_chains(
        self, config: SlotAttentionConfig, seed: int | jax.Array, index: jax.Array
    ) -> tuple[()]:
        return ()

    def split_chains(self, state: SlotState) -> tuple[SlotState, tuple[()]]:
        return state, ()

    def join_chains(self, state: SlotState, chains: tuple[()]) -> SlotState:
        return state

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

        The metrics are the loss, the gradient's norm, the learning rate, and two numbers that say
        whether slots have separated, which the loss does not: ``attention_entropy``, of the
        attention over slots divided by log K (1: every slot has the same share of every feature),
        and ``largest_area``, the mean share of an image that its largest mask has.
        """
        config = step_config.model
        draws = model.training_draws(config, keys, state.step)
        gradient = jax.value_and_grad(model.loss, argnums=1, has_aux=True)
        (loss, output), gradients = gradient(config, state.params, to_floats(images), draws)
        entropy = jnp.sum(jax.scipy.special.entr(output.attention), axis=-1)
        metrics = {
            "loss": loss,
            "attention_entropy": jnp.mean(entropy) / jnp.log(float(config.num_slots)),
            "largest_area": jnp.mean(jnp.max(jnp.mean(output.regions.pi, axis=(2, 3)), axis=1)),
        }
        if axis_name is not None:
            gradients, metrics = jax.lax.pmean((gradients, metrics), axis_name)
        metrics["gradient_norm"] = optax.tree.norm(gradients)
        metrics["learning_rate"] = learning_rate(step_config.optimizer, state.step)
        # Optax mixes a weak float with its int32 step count.
        with jax.numpy_dtype_promotion("standard"):
            updates, opt_state = make_optimizer(step_config.optimizer).update(
                gradients, state.opt_state, state.params
            )
        params = optax.apply_updates(state.params, updates)
        return SlotState(state.step + 1, params, opt_state), (), metrics

    def test_steps(self, config: SlotAttentionConfig) -> int:
        return 0

    def segment(
        self,
        config: SlotAttentionConfig,
        params: Any,
        keys: chex.PRNGKey,
        images: Any,
        *,
        num_steps: int = 0,
        num_restarts: int = 1,
    ) -> SlotRegions:
        """The slots of images [B, S, S, 3] uint8; no foreground is chosen (``SlotRegions``)."""
        return _segment(config.model, params, keys, jnp.asarray(images))

    def show(
        self, config: SlotAttentionConfig, params: Any, chains: tuple[()], images: Any, seed: int
    ) -> SlotRegions:
        keys = jax.random.split(jax.random.key(jnp.asarray(seed, jnp.uint32)), len(images))
        return self.segment(config, params, keys, images)

    def advice(self, problem: str) -> str:
        return "try a smaller optimizer.learning_rate, optimizer.clip_norm or gradient 'implicit'"


@functools.partial(jax.jit, static_argnums=0)
def _segment(
    config: SlotModelConfig, params: Any, keys: chex.PRNGKey, images: jax.Array
) -> SlotRegions:
    return model.apply(config, params, to_floats(images), model.test_draws(config, keys)).regions
