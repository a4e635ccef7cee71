"""Total variation."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from drc_jax.ops.planes import Planes
from drc_jax.ops.slices import total


def total_variation(image: Float[Array, "b h w c"] | Planes) -> Float[Array, " b"]:
    """Sum of |dx| + |dy| over all pairs of neighbouring pixels and channels, TV in (1.10).

    Args:
      image: [B, H, W, C], or its planes.

    Returns:
      [B].
    """

    def variation(plane: Float[Array, "b h w"]) -> Float[Array, " b"]:
        across = jnp.abs(plane[:, :, 1:] - plane[:, :, :-1])
        down = jnp.abs(plane[:, 1:] - plane[:, :-1])
        return jnp.sum(across, axis=(1, 2)) + jnp.sum(down, axis=(1, 2))

    planes = image if isinstance(image, Planes) else Planes.of(image, channel=-1)
    return total(variation(plane) for plane in planes.planes)
