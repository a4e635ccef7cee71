"""IODINE as a ``Method``: its config, and what its iterations report."""

import dataclasses
from typing import ClassVar

import chex
import jax
import jax.numpy as jnp

from drc_jax.baselines import iodine_model as model
from drc_jax.baselines.iodine_networks import IodineModelConfig
from drc_jax.baselines.slot_training import SlotMethod, SlotOptimizerConfig, largest_area
from drc_jax.baselines.slots import SlotRegions
from drc_jax.config.fields import field
from drc_jax.config.run import DataConfig, RunConfig

_OPTIMIZER = SlotOptimizerConfig(
    learning_rate=3e-4, warmup_steps=0, decay_rate=1.0, decay_steps=1_000_000, clip_norm=5.0
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class IodineConfig(RunConfig):
    """A training run of IODINE; the defaults are the paper's for CLEVR6.

    Attributes:
      model, optimizer: the parts above; the rate is constant and the gradient's norm at most 5.
    """

    method: ClassVar[str] = "iodine"

    data: DataConfig = DataConfig(flip=False)
    model: IodineModelConfig = IodineModelConfig()
    optimizer: SlotOptimizerConfig = _OPTIMIZER
    batch_size: int = field(32, least=1, most=2**20)
    iterations: int = field(1_000_000, least=1, most=10**12)


@dataclasses.dataclass(frozen=True)
class Iodine(SlotMethod):
    """IODINE (``iodine_model``) for the training loop."""

    name = "iodine"
    config_type = IodineConfig

    def init_params(self, config: IodineModelConfig, key: chex.PRNGKey) -> dict:
        return model.init_params(config, key)

    def loss(
        self,
        config: IodineModelConfig,
        params: dict,
        images: jax.Array,
        keys: chex.PRNGKey,
        step: jax.Array,
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The weighted loss of all decodes, and what the last of them achieves.

        ``nll`` and ``kl`` are the last decode's, per image; ``nll_gain`` is by how much
        refinements have lowered ``nll`` since the first decode; ``largest_area`` is the mean share
        of an image that its largest mask has (1 / K: nothing has separated).
        """
        noise, weight = model.draw_noise(config, keys), model.kl_weight(config, step)
        value, output = model.loss(config, params, _unit(images), noise, weight)
        return value, {
            "nll": jnp.mean(output.nll[-1]),
            "kl": jnp.mean(output.kl[-1]),
            "nll_gain": jnp.mean(output.nll[0] - output.nll[-1]),
            "largest_area": largest_area(output.regions),
        }

    def regions(
        self, config: IodineModelConfig, params: dict, images: jax.Array, keys: chex.PRNGKey
    ) -> SlotRegions:
        """The last decode; its latents are sampled, as in the authors' release."""
        return model.infer(config, params, _unit(images), keys)

    def advice(self, problem: str) -> str:
        return "try a smaller optimizer.learning_rate, or optimizer.warmup_steps"


def _unit(images: jax.Array) -> jax.Array:
    """Images in [-1, 1] as IODINE has them, in [0, 1]."""
    return 0.5 * (images + 1.0)
