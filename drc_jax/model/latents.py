"""The parts of z, named once, and its slots as rows of a batch."""

from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from drc_jax.config import ModelConfig
from drc_jax.errors import UserError
from drc_jax.ops.planes import taken_apart

T = TypeVar("T")


class Latents(NamedTuple):
    """Something for each part of z, in its order; ``Latents._fields`` are the names.

    Attributes:
      foreground: z_f or what belongs to it; of several slots those of all, one after the other.
      background: z_b.
      reassignment: z_s, the pixel re-assignment.
    """

    foreground: Any
    background: Any
    reassignment: Any


def sizes(config: ModelConfig) -> Latents:
    """D_f of one slot, D_b and D_s.

    Raises:
      UserError: if ``config`` is no ``ModelConfig``.
    """
    if not isinstance(config, ModelConfig):
        raise UserError(
            f"config must be a ModelConfig, got {type(config).__name__}"
            + ("; pass config.model" if hasattr(config, "model") else "")
        )
    return Latents(config.zf_dim, config.zb_dim, config.zs_dim)


def part_sizes(config: ModelConfig) -> tuple[int, ...]:
    """Sizes of the parts along z, a slot's z_f being one: n times D_f, D_b, D_s."""
    foreground, background, reassignment = sizes(config)
    return (foreground,) * config.num_slots + (background, reassignment)


def split_latents(config: ModelConfig, z: Float[Array, "*n d"]) -> Latents:
    """z [..., D] -> (z_f, z_b, z_s), split on the last axis; z_f [..., n D_f].

    Raises:
      UserError: where the last axis is not ``config.latent_dim``, or z holds no floats.
    """
    foreground, background, reassignment = sizes(config)
    if z.ndim == 0 or z.shape[-1] != config.latent_dim:
        slots = f"{config.num_slots} * {foreground}" if config.num_slots > 1 else f"{foreground}"
        raise UserError(
            f"z must have {config.latent_dim} = {slots} + {background} + {reassignment} "
            f"latents on its last axis, got shape {z.shape}"
        )
    if not jnp.issubdtype(z.dtype, jnp.floating):
        raise UserError(f"z must hold floats, got {z.dtype}")
    start = config.num_slots * foreground
    end = start + background
    return Latents(z[..., :start], z[..., start:end], z[..., end:])


def join_latents(parts: Latents) -> Float[Array, "*n d"]:
    """What ``split_latents`` undoes."""
    return jnp.concatenate(parts, axis=-1)


def slots_as_rows(config: ModelConfig, z_f: Float[Array, "b nd"]) -> Float[Array, "bn d"]:
    """z_f [B, n D_f] -> [B n, D_f]: the slots of an image are rows one after the other."""
    return z_f.reshape(-1, config.zf_dim)


def rows_by_slot(config: ModelConfig, tree: T) -> list[T]:
    """What belongs to the rows of ``slots_as_rows``, slot by slot.

    Args:
      config: the model.
      tree: a pytree of arrays [B n, ...].

    Returns:
      n such pytrees of arrays [B, ...].
    """
    leaves, structure = jax.tree.flatten(tree)
    parts = [taken_apart(x.reshape(-1, config.num_slots, *x.shape[1:]), axis=1) for x in leaves]
    return [jax.tree.unflatten(structure, slot) for slot in zip(*parts, strict=True)]
