"""Deep Region Competition in JAX: the public names."""

from drc_jax import interop, langevin, ops
from drc_jax.config import (
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    SamplerConfig,
    TrainConfig,
)
from drc_jax.errors import UserError
from drc_jax.losses import ebm_loss, generator_loss
from drc_jax.model import Regions, init_params, posterior_energy, prior_energy, render

__all__ = [
    "DataConfig",
    "ModelConfig",
    "OptimizerConfig",
    "Regions",
    "SamplerConfig",
    "TrainConfig",
    "UserError",
    "ebm_loss",
    "generator_loss",
    "init_params",
    "interop",
    "langevin",
    "ops",
    "posterior_energy",
    "prior_energy",
    "render",
]
