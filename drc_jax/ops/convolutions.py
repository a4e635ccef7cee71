"""Two equal forms of each convolution: XLA's own, and matrix products with sums around them.

``drc_jax.ops`` chooses between them. Arrays are NHWC, kernels HWIO.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from drc_jax.ops.interpolation import interpolate, moved, padded, sums_dtype, total

_DIMS = ("NHWC", "HWIO", "NHWC")

DType = jax.typing.DTypeLike | None


def upsample(x: jax.Array) -> jax.Array:
    """Doubles height and width, bilinear with half-pixel centres and clamped edges.

    Args:
      x: [B, H, W, C].

    Returns:
      [B, 2H, 2W, C].
    """
    batch, height, width, channels = x.shape
    return jax.image.resize(x, (batch, 2 * height, 2 * width, channels), "bilinear")


def conv3x3_direct(x: jax.Array, kernel: jax.Array, dtype: DType = None) -> jax.Array:
    """``conv3x3`` as XLA's convolution."""
    convolve = functools.partial(
        jax.lax.conv_general_dilated,
        window_strides=(1, 1),
        padding="SAME",
        dimension_numbers=_DIMS,
    )
    return _rounded(convolve, x, kernel, dtype)


def conv3x3_product(x: jax.Array, kernel: jax.Array, dtype: DType = None) -> jax.Array:
    """``conv3x3`` as one matrix product of strips of pixels, then sums of what they overlap.

    A strip of g pixels of a row paints g + 2 pixels of three rows. Longer strips make less to
    sum, and add zeros to multiply. Good where C_out is small, as in the generators' heads.
    """
    batch, height, width, channels = x.shape
    # As far as products with so few channels are no slower for the zeros (docs/performance.md).
    strip = math.gcd(width, max(1, 32 // channels), 2)
    matrix = _strip_matrix(kernel, strip)
    painted = _rounded(jnp.matmul, x.reshape(-1, strip * channels), matrix, dtype)
    shape = (batch, height, width // strip, 3, strip + 2, kernel.shape[-1])
    painted = painted.reshape(shape).astype(sums_dtype(painted))
    image = _overlap_and_sum(painted).reshape(batch, height, width, kernel.shape[-1])
    return image.astype(dtype or x.dtype)


def upsample_conv_direct(x: jax.Array, kernel: jax.Array, dtype: DType = None) -> jax.Array:
    """``upsample_conv`` as it is defined: up-sample, then convolve."""
    return conv3x3_direct(upsample(x), kernel, dtype)


def upsample_conv_product(x: jax.Array, kernel: jax.Array, dtype: DType = None) -> jax.Array:
    """``upsample_conv`` with the channels mixed at low resolution (SPEC section 10).

    Up-sampling acts on each channel alone, so conv(up(x)) = sum_t shift_t(up(W_t x)): a quarter
    of the multiply-adds, exactly, borders included. What up-sampling and shift do along one axis
    reads three neighbours; both axes are done so, one after the other.
    """
    batch, height, width, channels = x.shape
    features = kernel.shape[-1]
    # Concatenated rather than transposed: XLA moves this out of a sampler's loop.
    matrix = jnp.concatenate([kernel[dy, dx] for dx in range(3) for dy in range(3)], axis=1)
    taps = _rounded(jnp.matmul, x.reshape(-1, channels), matrix, dtype)
    return interpolate(taps.reshape(batch, height, width, 3, 3, features))


def _rounded(
    product: Callable[[jax.Array, jax.Array], jax.Array], a: jax.Array, b: jax.Array, dtype: DType
) -> jax.Array:
    """product(a, b) with both and the result rounded to ``dtype``, or to a's own for None.

    So are the slopes of a backward pass; sums inside a product are float32 on every backend.
    """
    dtype = dtype or a.dtype
    return product(a.astype(dtype), b.astype(dtype))


def _strip_matrix(kernel: jax.Array, strip: int) -> jax.Array:
    """[3, 3, C_in, C_out] -> [strip C_in, 3 (strip + 2) C_out], what a strip paints, rows first."""
    place = np.zeros((strip, 3, strip + 2), np.float32)
    for pixel, dx in np.ndindex(strip, 3):
        place[pixel, dx, pixel + 2 - dx] = 1.0
    matrix = jnp.einsum("pxq,yxio->piyqo", place, kernel, precision="highest")
    return matrix.reshape(strip * kernel.shape[2], -1)


# Its transpose is written out: the one autodiff would make pads and adds every slice by itself, at
# twice the time.
@jax.custom_vjp
def _overlap_and_sum(painted: jax.Array) -> jax.Array:
    """[B, H, n, 3, strip + 2, C], rows above first -> [B, H, n, strip, C]: all at its place."""
    strip = painted.shape[4] - 2
    rows = total(moved(painted[:, :, :, dy], 1, dy - 1) for dy in range(3))
    before, after = moved(rows[:, :, :, strip + 1 :], 2, -1), moved(rows[:, :, :, :1], 2, 1)
    return rows[:, :, :, 1:-1] + padded(before, 3, 0, strip - 1) + padded(after, 3, strip - 1, 0)


def _overlap_and_sum_forward(painted: jax.Array) -> tuple[jax.Array, None]:
    return _overlap_and_sum(painted), None


def _overlap_and_sum_transposed(_: None, slope: jax.Array) -> tuple[jax.Array]:
    height = slope.shape[1]
    tall = padded(slope, 1, 1, 1)
    before, after = moved(tall[:, :, :, -1:], 2, -1), moved(tall[:, :, :, :1], 2, 1)
    wide = jnp.concatenate([before, tall, after], axis=3)
    return (jnp.stack([wide[:, 2 - dy : 2 - dy + height] for dy in range(3)], 3),)


_overlap_and_sum.defvjp(_overlap_and_sum_forward, _overlap_and_sum_transposed)
