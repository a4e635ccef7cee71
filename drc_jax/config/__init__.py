"""Frozen, hashable configuration: what is built, sampled, trained, and on which data.

Every value is checked when a dataclass is made, so a config that exists is one that can run.
Defaults follow the paper's supplement (Tables 1 and 2, appendix B).
"""

from drc_jax.config.fields import differing_fields, field, from_dict, to_dict
from drc_jax.config.model import EncoderConfig, ModelConfig, OptimizerConfig, SamplerConfig
from drc_jax.config.run import (
    LARGEST_SEED,
    SYNTHETIC_DATASETS,
    DataConfig,
    RunConfig,
    SceneOptions,
    TrainConfig,
)

__all__ = [
    "LARGEST_SEED",
    "SYNTHETIC_DATASETS",
    "DataConfig",
    "EncoderConfig",
    "ModelConfig",
    "OptimizerConfig",
    "RunConfig",
    "SamplerConfig",
    "SceneOptions",
    "TrainConfig",
    "differing_fields",
    "field",
    "from_dict",
    "to_dict",
]
