"""The parts of z, named once."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from drc_jax.config import ModelConfig
from drc_jax.errors import UserError


class Latents(NamedTuple):
    """Something for each part of z, in its order; ``Latents._fields`` are the names.

    Attributes:
      foreground: z_f or what belongs to it.
      background: z_b.
      reassignment: z_s, the pixel re-assignment.
    """

    foreground: Any
    background: Any
    reassignment: Any


def sizes(config: ModelConfig) -> Latents:
    """D_f, D_b and D_s.

    Raises:
      UserError: if ``config`` is no ``ModelConfig``.
    """
    if not isinstance(config, ModelConfig):
        raise UserError(
            f"config must be a ModelConfig, got {type(config).__name__}"
            + ("; pass config.model" if hasattr(config, "model") else "")
        )
    return Latents(config.zf_dim, config.zb_dim, config.zs_dim)


def split_latents(config: ModelConfig, z: Float[Array, "*n d"]) -> Latents:
    """z [..., D] -> (z_f, z_b, z_s), split on the last axis.

    Raises:
      UserError: where the last axis is not ``config.latent_dim``, or z holds no floats.
    """
    foreground, background, reassignment = sizes(config)
    if z.ndim == 0 or z.shape[-1] != config.latent_dim:
        raise UserError(
            f"z must have {config.latent_dim} = {foreground} + {background} + {reassignment} "
            f"latents on its last axis, got shape {z.shape}"
        )
    if not jnp.issubdtype(z.dtype, jnp.floating):
        raise UserError(f"z must hold floats, got {z.dtype}")
    end = foreground + background
    return Latents(z[..., :foreground], z[..., foreground:end], z[..., end:])


def join_latents(parts: Latents) -> Float[Array, "*n d"]:
    """What ``split_latents`` undoes."""
    return jnp.concatenate(parts, axis=-1)
