"""Slot Attention as a ``Method``: its config, and what its iterations report."""

import dataclasses
from typing import ClassVar

import chex
import jax
import jax.numpy as jnp

from drc_jax.baselines import slot_attention_model as model
from drc_jax.baselines.slot_attention_model import SlotModelConfig
from drc_jax.baselines.slot_training import SlotMethod, SlotOptimizerConfig, largest_area
from drc_jax.baselines.slots import SlotRegions
from drc_jax.config.fields import field
from drc_jax.config.run import DataConfig, RunConfig


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


@dataclasses.dataclass(frozen=True)
class SlotAttention(SlotMethod):
    """Slot Attention (``slot_attention_model``) for the training loop."""

    name = "slot_attention"
    config_type = SlotAttentionConfig

    def init_params(self, config: SlotModelConfig, key: chex.PRNGKey) -> dict:
        return model.init_params(config, key)

    def loss(
        self,
        config: SlotModelConfig,
        params: dict,
        images: jax.Array,
        keys: chex.PRNGKey,
        step: jax.Array,
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The squared error, and two numbers that say whether slots have separated.

        The loss does not say that. ``attention_entropy`` is of the attention over slots, divided by
        log K (1: every slot has the same share of every feature); ``largest_area`` is the mean
        share of an image that its largest mask has.
        """
        draws = model.training_draws(config, keys, step)
        value, output = model.loss(config, params, images, draws)
        entropy = jnp.sum(jax.scipy.special.entr(output.attention), axis=-1)
        return value, {
            "attention_entropy": jnp.mean(entropy) / jnp.log(float(config.num_slots)),
            "largest_area": largest_area(output.regions),
        }

    def regions(
        self, config: SlotModelConfig, params: dict, images: jax.Array, keys: chex.PRNGKey
    ) -> SlotRegions:
        return model.apply(config, params, images, model.test_draws(config, keys)).regions

    def advice(self, problem: str) -> str:
        return "try a smaller optimizer.learning_rate, optimizer.clip_norm or gradient 'implicit'"
