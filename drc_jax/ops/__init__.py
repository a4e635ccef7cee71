"""Array operations without parameters: convolutions of up-sampled maps, norms, sampling."""

import functools

import jax
import jax.numpy as jnp
from jax.experimental.xla_metadata import set_xla_metadata

from drc_jax.ops import convolutions
from drc_jax.ops.convolutions import DType
from drc_jax.ops.interpolation import sums_dtype, total


def planes(x: jax.Array, axis: int = -1) -> list[jax.Array]:
    """The slices of ``x`` along an axis, without it; ``jnp.stack`` undoes it.

    For pixels of a few channels, or a few regions: arithmetic on whole planes vectorises, on
    channels three by three it does not, and XLA forgets a stack that is only taken apart again,
    forward and backward. Indexing would pad and add in the backward pass.
    """
    axis %= x.ndim
    return [jnp.squeeze(p, axis) for p in jax.lax.split(x, [1] * x.shape[axis], axis)]


@jax.jit
def _behind_a_call(x: jax.Array) -> jax.Array:
    return jax.lax.optimization_barrier(x)


@jax.custom_vjp
def stored(x: jax.Array) -> jax.Array:
    """``x`` itself, which XLA then computes once on a CPU, and its slope once in a backward pass.

    For sums that several things read. XLA's CPU backend repeats cheap arithmetic in every reader,
    behind an optimization barrier too, and so took the image terms' inputs apart nine times over.
    It keeps a call that may not be inlined. Elsewhere this does nothing.
    """
    if jax.default_backend() != "cpu":
        return x
    with set_xla_metadata(inlineable="false"):
        return _behind_a_call(x)


stored.defvjp(lambda x: (stored(x), None), lambda _, slope: (stored(slope),))


def stored_planes(x: jax.Array) -> list[jax.Array]:
    """``planes`` along the last axis, each of them ``stored``."""
    return [stored(plane) for plane in planes(x)]


def upsample_conv(x: jax.Array, kernel: jax.Array, dtype: DType = None) -> jax.Array:
    """Bilinear 2x up-sampling, then a 3x3 convolution without bias, zero padding 1.

    The faster of the two equal forms in ``drc_jax.convolutions``, by backend and shape.

    Args:
      x: [B, H, W, C_in].
      kernel: [3, 3, C_in, C_out].
      dtype: what operands and results of the sums are rounded to, as ``jnp.bfloat16``; None is
        that of x. Sums are float32 at least.

    Returns:
      [B, 2H, 2W, C_out] in ``dtype``.
    """
    # On a CPU the faster one by a factor of 1.4 to 17, but the slower one with 4 input channels. On
    # a GPU by what its compiler counts, not yet by a clock (docs/performance.md).
    if kernel.shape[2] >= 8:
        return convolutions.upsample_conv_product(x, kernel, dtype)
    return convolutions.upsample_conv_direct(x, kernel, dtype)


def conv3x3(x: jax.Array, kernel: jax.Array, dtype: DType = None) -> jax.Array:
    """A 3x3 convolution, stride 1, zero padding 1, for the generators' heads.

    The faster of the two equal forms in ``drc_jax.convolutions``, by backend and shape.

    Args:
      x: [B, H, W, C_in].
      kernel: [3, 3, C_in, C_out].
      dtype: as in ``upsample_conv``.

    Returns:
      [B, H, W, C_out] in ``dtype``.
    """
    # Elsewhere the nine taps of a product are more to move than XLA's convolution reads and writes.
    if kernel.shape[2] >= 8 and jax.default_backend() == "cpu":
        return convolutions.conv3x3_product(x, kernel, dtype)
    return convolutions.conv3x3_direct(x, kernel, dtype)


def grid_sample(image: jax.Array, grid: jax.Array) -> jax.Array:
    """Samples an image at given places: bilinear, zeros outside, pixel centres at half integers.

    A coordinate g in [-1, 1] lies at pixel ((g + 1) * size - 1) / 2, so that -1 and 1 are the
    outer edges of the border pixels (``align_corners=False`` elsewhere). Differentiable in both
    arguments.

    Args:
      image: [B, H, W, C].
      grid: [B, H', W', 2]; grid[..., 0] is x (width), grid[..., 1] is y (height).

    Returns:
      [B, H', W', C].
    """
    batch, height, width, channels = image.shape
    x, y = planes(grid)
    x, y = ((x + 1.0) * width - 1.0) / 2.0, ((y + 1.0) * height - 1.0) / 2.0
    # One ring of zeros stands for everything outside; corners beyond it weigh nothing.
    padded = jnp.pad(image, ((0, 0), (1, 1), (1, 1), (0, 0)))
    left = jnp.clip(jnp.floor(x), -1.0, width - 1.0)
    top = jnp.clip(jnp.floor(y), -1.0, height - 1.0)
    # Clipped all the same: what is not a number lands anywhere as an index.
    # One flat axis for the batch too: batched gathers are slower, and so are their gradients.
    stride = width + 2
    first = jnp.arange(batch, dtype=jnp.int32)[:, None, None] * ((height + 2) * stride)
    corner = first + ((top + 1.0) * stride + left + 1.0).astype(jnp.int32)
    pixels = padded.reshape(-1, channels)

    def contribution(dy: int, dx: int) -> list[jax.Array]:
        weight = jnp.maximum(1.0 - jnp.abs(x - left - dx), 0.0)
        weight *= jnp.maximum(1.0 - jnp.abs(y - top - dy), 0.0)
        values = pixels.at[corner + (dy * stride + dx)].get(mode="clip")
        return [weight.astype(image.dtype) * value for value in planes(values)]

    corners = [contribution(dy, dx) for dy in (0, 1) for dx in (0, 1)]
    return jnp.stack([stored(total(channel)) for channel in zip(*corners, strict=True)], axis=-1)


def total_variation(image: jax.Array) -> jax.Array:
    """Sum of |dx| + |dy| over all pixel pairs and channels (eq. 10).

    Args:
      image: [B, H, W, C].

    Returns:
      [B].
    """

    def variation(plane: jax.Array) -> jax.Array:
        across = jnp.abs(plane[:, :, 1:] - plane[:, :, :-1])
        down = jnp.abs(plane[:, 1:] - plane[:, :-1])
        return jnp.sum(across, axis=(1, 2)) + jnp.sum(down, axis=(1, 2))

    return total(variation(plane) for plane in planes(image))


def instance_norm(
    x: jax.Array, scale: jax.Array, shift: jax.Array, *, slope: float = 1.0
) -> jax.Array:
    """Normalises each image and channel over its pixels, then a leaky ReLU.

    Biased variance, eps 1e-5. One function for both, for their backward pass reads the maps
    fewer times than those of the two apart.

    Args:
      x: [B, H, W, C], of any floating point type; the arithmetic is float32 at least.
      scale, shift: [C].
      slope: of the leaky ReLU below 0, static; 1 leaves it out.

    Returns:
      [B, H, W, C] in x's dtype.
    """
    return _instance_norm(x, scale[None, None, None], shift[None, None, None], slope)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _instance_norm(x: jax.Array, scale: jax.Array, shift: jax.Array, slope: float) -> jax.Array:
    return _instance_norm_forward(x, scale, shift, slope)[0]


def _activation_input(
    x: jax.Array, mean: jax.Array, deviation: jax.Array, scale: jax.Array, shift: jax.Array
) -> jax.Array:
    return (x - mean) * (scale / deviation) + shift


def _instance_norm_forward(
    x: jax.Array, scale: jax.Array, shift: jax.Array, slope: float
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    wide = x.astype(sums_dtype(x))
    pixels = x.shape[1] * x.shape[2]
    mean = _pixel_sums(wide)[0] / pixels
    variance = _pixel_sums(jnp.square(wide - mean))[0] / pixels
    deviation = jnp.sqrt(variance + 1e-5)
    y = _activation_input(wide, mean, deviation, scale, shift)
    y = jnp.where(y >= 0.0, y, slope * y).astype(x.dtype)
    return stored(y), (x, mean, deviation, scale, shift)


def _pixel_sums(*maps: jax.Array) -> list[jax.Array]:
    """Sums [B, 1, 1, C] of maps [B, H, W, C] over their pixels."""
    if jax.default_backend() == "cpu":
        return [jnp.sum(x, axis=(1, 2), keepdims=True) for x in maps]
    # Rows first: XLA stores what it would have to sum over all pixels in one go.
    rows = jax.lax.optimization_barrier([jnp.sum(x, axis=2, keepdims=True) for x in maps])
    return [jnp.sum(x, axis=1, keepdims=True) for x in rows]


def _instance_norm_backward(
    slope: float, residuals: tuple[jax.Array, ...], above: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    x, mean, deviation, scale, shift = residuals

    def centred_and_slope(x: jax.Array, above: jax.Array) -> tuple[jax.Array, jax.Array]:
        # Behind a barrier, or XLA would store for every reader what follows from the two maps.
        x, above = (a.astype(mean.dtype) for a in jax.lax.optimization_barrier((x, above)))
        active = _activation_input(x, mean, deviation, scale, shift) >= 0.0
        return x - mean, jnp.where(active, above, slope * above)

    centred, slopes = centred_and_slope(x, above)
    summed, along = _pixel_sums(slopes, slopes * centred)
    along /= deviation
    # What would move an image's mean or its deviation is taken out.
    pixels = x.shape[1] * x.shape[2]
    centred, slopes = centred_and_slope(x, above)
    tangent = slopes - summed / pixels - centred * (along / (pixels * deviation))
    # Divided, not multiplied by a reciprocal: XLA stores what comes out of a division, and would
    # else work all this out again for every neighbour that the next layer's sums read.
    below = (tangent / deviation * scale).astype(x.dtype)
    return below, jnp.sum(along, axis=0, keepdims=True), jnp.sum(summed, axis=0, keepdims=True)


_instance_norm.defvjp(_instance_norm_forward, _instance_norm_backward)
