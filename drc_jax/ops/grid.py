"""Sampling an image at given places."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from drc_jax.ops.planes import taken_apart
from drc_jax.ops.slices import total
from drc_jax.ops.xla import stored


def grid_sample(
    image: Float[Array, "b h w c"], grid: Float[Array, "b i j 2"]
) -> Float[Array, "b i j c"]:
    """Samples an image at given places: bilinear, zeros outside, pixel centres at half integers.

    Equation (1.2) of docs/method.md. A coordinate g in [-1, 1] lies at pixel
    ((g + 1) * size - 1) / 2, so that -1 and 1 are the outer edges of the border pixels
    (``align_corners=False`` elsewhere). Differentiable in both arguments.

    Args:
      image: [B, H, W, C].
      grid: [B, H', W', 2]; grid[..., 0] is x (width), grid[..., 1] is y (height).

    Returns:
      [B, H', W', C].
    """
    batch, height, width, channels = image.shape
    x, y = taken_apart(grid)
    x, y = ((x + 1.0) * width - 1.0) / 2.0, ((y + 1.0) * height - 1.0) / 2.0
    # One ring of zeros stands for everything outside; corners beyond it weigh nothing.
    padded = jnp.pad(image, ((0, 0), (1, 1), (1, 1), (0, 0)))
    left = jnp.clip(jnp.floor(x), -1.0, width - 1.0)
    top = jnp.clip(jnp.floor(y), -1.0, height - 1.0)
    # One flat axis for the batch too: batched gathers are slower, and so are their gradients.
    stride = width + 2
    first = jnp.arange(batch, dtype=jnp.int32)[:, None, None] * ((height + 2) * stride)
    corner = first + ((top + 1.0) * stride + left + 1.0).astype(jnp.int32)
    pixels = padded.reshape(-1, channels)

    def contribution(dy: int, dx: int) -> list[Array]:
        weight = jnp.maximum(1.0 - jnp.abs(x - left - dx), 0.0)
        weight *= jnp.maximum(1.0 - jnp.abs(y - top - dy), 0.0)
        # Clipped once more: what is not a number lands anywhere as an index.
        values = pixels.at[corner + (dy * stride + dx)].get(mode="clip")
        return [weight.astype(image.dtype) * value for value in taken_apart(values)]

    corners = [contribution(dy, dx) for dy in (0, 1) for dx in (0, 1)]
    return jnp.stack([stored(total(channel)) for channel in zip(*corners, strict=True)], axis=-1)
