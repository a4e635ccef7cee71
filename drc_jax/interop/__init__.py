"""Parameters from other programs."""

from drc_jax.interop.torch import params_from_torch

__all__ = ["params_from_torch"]
