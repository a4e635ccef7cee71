"""The convolutions: each as XLA's own, or as a matrix product with sums around it.

Both forms are equal; backend and shape decide. Arrays are NHWC, kernels HWIO.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from drc_jax.ops import definitions
from drc_jax.ops.interpolation import interpolate
from drc_jax.ops.slices import moved, padded, total
from drc_jax.ops.xla import DType, on_cpu, sums_dtype

Map = Float[Array, "b h w i"]
Kernel = Float[Array, "3 3 i o"]


def upsample_conv(x: Map, kernel: Kernel, dtype: DType = None) -> Float[Array, "b 2*h 2*w o"]:
    """Bilinear 2x up-sampling, then a 3x3 convolution without bias, zero padding 1.

    Args:
      x: [B, H, W, C_in].
      kernel: [3, 3, C_in, C_out].
      dtype: what operands and results of the sums are rounded to, as ``jnp.bfloat16``; None is
        that of x. Sums are float32 at least.

    Returns:
      [B, 2H, 2W, C_out] in ``dtype``.
    """
    # With few input channels the nine taps are more to move than a convolution costs. On CPUs the
    # product is 1.4 to 17 times as fast for all widths but 4; on GPUs its compiler counts less.
    if kernel.shape[2] >= 8:
        return upsample_conv_product(x, kernel, dtype)
    return _rounded(definitions.conv3x3, definitions.upsample(x), kernel, dtype)


def conv3x3(x: Map, kernel: Kernel, dtype: DType = None) -> Float[Array, "b h w o"]:
    """A 3x3 convolution, stride 1, zero padding 1, for the generators' heads.

    Args:
      x: [B, H, W, C_in].
      kernel: [3, 3, C_in, C_out].
      dtype: as in ``upsample_conv``.

    Returns:
      [B, H, W, C_out] in ``dtype``.
    """
    # Elsewhere the nine taps of a product are more to move than XLA's convolution reads and writes.
    if kernel.shape[2] >= 8 and on_cpu():
        return conv3x3_product(x, kernel, dtype)
    return _rounded(definitions.conv3x3, x, kernel, dtype)


def upsample_conv_product(
    x: Map, kernel: Kernel, dtype: DType = None
) -> Float[Array, "b 2*h 2*w o"]:
    """``upsample_conv`` with the channels mixed at low resolution (docs/method.md, "9 Cost").

    Up-sampling acts on each channel alone, so conv(up(x)) = sum_t shift_t(up(W_t x)): a quarter
    of the multiply-adds, exactly, borders included. ``interpolate`` is the sum over t.
    """
    batch, height, width, channels = x.shape
    features = kernel.shape[-1]
    # Concatenated rather than transposed: XLA moves this out of a sampler's loop.
    matrix = jnp.concatenate([kernel[dy, dx] for dx in range(3) for dy in range(3)], axis=1)
    taps = _rounded(jnp.matmul, x.reshape(-1, channels), matrix, dtype)
    return interpolate(taps.reshape(batch, height, width, 3, 3, features))


def conv3x3_product(x: Map, kernel: Kernel, dtype: DType = None) -> Float[Array, "b h w o"]:
    """``conv3x3`` as one matrix product of strips of pixels, then sums of what they overlap.

    A strip of g pixels of a row paints g + 2 pixels of three rows. Longer strips make less to
    sum, and add zeros to multiply. Good where C_out is small, as in the generators' heads.
    """
    batch, height, width, channels = x.shape
    # As far as products with so few channels are no slower for the zeros.
    strip = math.gcd(width, max(1, 32 // channels), 2)
    matrix = _strip_matrix(kernel, strip)
    painted = _rounded(jnp.matmul, x.reshape(-1, strip * channels), matrix, dtype)
    shape = (batch, height, width // strip, 3, strip + 2, kernel.shape[-1])
    painted = painted.reshape(shape).astype(sums_dtype(painted))
    image = _overlap_and_sum(painted).reshape(batch, height, width, kernel.shape[-1])
    return image.astype(dtype or x.dtype)


def _rounded(product: Callable[[Array, Array], Array], a: Array, b: Array, dtype: DType) -> Array:
    """product(a, b) with both and the result rounded to ``dtype``, or to a's own for None.

    So are the cotangents of a backward pass; sums inside a product are float32 on every backend.
    """
    dtype = dtype or a.dtype
    return product(a.astype(dtype), b.astype(dtype))


def _strip_matrix(kernel: Kernel, strip: int) -> Float[Array, "n m"]:
    """[strip C_in, 3 (strip + 2) C_out], what a strip paints, rows first."""
    place = np.zeros((strip, 3, strip + 2), np.float32)
    for pixel, dx in np.ndindex(strip, 3):
        place[pixel, dx, pixel + 2 - dx] = 1.0
    matrix = jnp.einsum("pxq,yxio->piyqo", place, kernel, precision="highest")
    return matrix.reshape(strip * kernel.shape[2], -1)


# Its transpose is written out: the one autodiff would make pads and adds every slice by itself, at
# twice the time.
@jax.custom_vjp
def _overlap_and_sum(painted: Float[Array, "b h n 3 q c"]) -> Float[Array, "b h n q-2 c"]:
    """Puts everything at its place; the rows above come first in ``painted``."""
    strip = painted.shape[4] - 2
    rows = total(moved(painted[:, :, :, dy], 1, dy - 1) for dy in range(3))
    before, after = moved(rows[:, :, :, strip + 1 :], 2, -1), moved(rows[:, :, :, :1], 2, 1)
    return rows[:, :, :, 1:-1] + padded(before, 3, 0, strip - 1) + padded(after, 3, strip - 1, 0)


def _overlap_and_sum_forward(painted: Array) -> tuple[Array, None]:
    return _overlap_and_sum(painted), None


def _overlap_and_sum_transposed(_: None, cotangent: Array) -> tuple[Array]:
    height = cotangent.shape[1]
    tall = padded(cotangent, 1, 1, 1)
    before, after = moved(tall[:, :, :, -1:], 2, -1), moved(tall[:, :, :, :1], 2, 1)
    wide = jnp.concatenate([before, tall, after], axis=3)
    return (jnp.stack([wide[:, 2 - dy : 2 - dy + height] for dy in range(3)], 3),)


_overlap_and_sum.defvjp(_overlap_and_sum_forward, _overlap_and_sum_transposed)
