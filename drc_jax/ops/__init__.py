"""Array operations without parameters; ``drc_jax.ops.definitions`` says what each one is."""

from drc_jax.ops.convolutions import conv3x3, upsample_conv
from drc_jax.ops.grid import grid_sample
from drc_jax.ops.norm import instance_norm
from drc_jax.ops.planes import Planes, each, log_sum_exp
from drc_jax.ops.variation import total_variation
from drc_jax.ops.xla import DType, on_cpu, stored

__all__ = [
    "DType",
    "Planes",
    "conv3x3",
    "each",
    "grid_sample",
    "instance_norm",
    "log_sum_exp",
    "on_cpu",
    "stored",
    "total_variation",
    "upsample_conv",
]
