"""Deep Region Competition in JAX: the public names."""

import importlib.metadata

from drc_jax import interop, langevin, ops
from drc_jax.config import (
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    SamplerConfig,
    TrainConfig,
)
from drc_jax.data.packed.format import open_split
from drc_jax.errors import UserError
from drc_jax.inference import infer, sample_prior
from drc_jax.model.energies import posterior_energy, prior_energy
from drc_jax.model.losses import ebm_loss, generator_loss
from drc_jax.model.render import Regions, init_params, render
from drc_jax.runs.trained import load_run
from drc_jax.training.drc import DRC
from drc_jax.training.state import TrainState
from drc_jax.training.step import init_state, train_step
from drc_jax.training.update import Terms
from drc_jax.zoo.models import load_pretrained

try:
    __version__ = importlib.metadata.version("drc_jax")
except importlib.metadata.PackageNotFoundError:  # run from a folder, not installed
    __version__ = "0+unknown"

__all__ = [
    "DRC",
    "DataConfig",
    "ModelConfig",
    "OptimizerConfig",
    "Regions",
    "SamplerConfig",
    "Terms",
    "TrainConfig",
    "TrainState",
    "UserError",
    "ebm_loss",
    "generator_loss",
    "infer",
    "init_params",
    "init_state",
    "interop",
    "langevin",
    "load_pretrained",
    "load_run",
    "open_split",
    "ops",
    "posterior_energy",
    "prior_energy",
    "render",
    "sample_prior",
    "train_step",
]
