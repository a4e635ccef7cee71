"""Two equal forms of each convolution: XLA's own, and matrix products with sums around them.

``drc_jax.ops`` chooses between them. Arrays are NHWC, kernels HWIO.
"""

import functools
import math
from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp
import numpy as np

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
    painted = painted.reshape(batch, height, width // strip, 3, strip + 2, kernel.shape[-1])
    return _overlap_and_sum(painted).reshape(batch, height, width, kernel.shape[-1])


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
    return _interpolate(taps.reshape(batch, height, width, 3, 3, features))


def _rounded(
    product: Callable[[jax.Array, jax.Array], jax.Array], a: jax.Array, b: jax.Array, dtype: DType
) -> jax.Array:
    """product(a, b) with both and the result rounded to ``dtype``, returned in a's own.

    So are the slopes of a backward pass; sums inside a product are float32 on every backend.
    """
    if dtype is None:
        return product(a, b)
    return product(a.astype(dtype), b.astype(dtype)).astype(a.dtype)


def _padded(x: jax.Array, axis: int, before: int, after: int) -> jax.Array:
    """x with so many zeros before and after along one axis; negative numbers cut."""
    padding = [(0, 0, 0)] * x.ndim
    padding[axis] = (before, after, 0)
    return jax.lax.pad(x, jnp.zeros((), x.dtype), padding) if before or after else x


def _moved(x: jax.Array, axis: int, offset: int) -> jax.Array:
    """x[i + offset] along one axis, zeros from outside."""
    return _padded(x, axis, -offset, offset)


def total(terms: Iterable[jax.Array]) -> jax.Array:
    """The sum of arrays of one shape, of at least one."""
    return functools.reduce(jnp.add, terms)


# The two linear maps below have their transposes written out: the one autodiff would make pads
# and adds every slice by itself, at twice the time. Slices of one padded array are faster than
# padded slices, but padding the taps forward would copy the largest array there is.


def _strip_matrix(kernel: jax.Array, strip: int) -> jax.Array:
    """[3, 3, C_in, C_out] -> [strip C_in, 3 (strip + 2) C_out], what a strip paints, rows first."""
    place = np.zeros((strip, 3, strip + 2), np.float32)
    for pixel, dx in np.ndindex(strip, 3):
        place[pixel, dx, pixel + 2 - dx] = 1.0
    matrix = jnp.einsum("pxq,yxio->piyqo", place, kernel, precision="highest")
    return matrix.reshape(strip * kernel.shape[2], -1)


@jax.custom_vjp
def _overlap_and_sum(painted: jax.Array) -> jax.Array:
    """[B, H, n, 3, strip + 2, C], rows above first -> [B, H, n, strip, C]: all at its place."""
    strip = painted.shape[4] - 2
    rows = total(_moved(painted[:, :, :, dy], 1, dy - 1) for dy in range(3))
    before, after = _moved(rows[:, :, :, strip + 1 :], 2, -1), _moved(rows[:, :, :, :1], 2, 1)
    return rows[:, :, :, 1:-1] + _padded(before, 3, 0, strip - 1) + _padded(after, 3, strip - 1, 0)


def _overlap_and_sum_forward(painted: jax.Array) -> tuple[jax.Array, None]:
    return _overlap_and_sum(painted), None


def _overlap_and_sum_transposed(_: None, slope: jax.Array) -> tuple[jax.Array]:
    height = slope.shape[1]
    tall = _padded(slope, 1, 1, 1)
    before, after = _moved(tall[:, :, :, -1:], 2, -1), _moved(tall[:, :, :, :1], 2, 1)
    wide = jnp.concatenate([before, tall, after], axis=3)
    return (jnp.stack([wide[:, 2 - dy : 2 - dy + height] for dy in range(3)], 3),)


_overlap_and_sum.defvjp(_overlap_and_sum_forward, _overlap_and_sum_transposed)


@functools.lru_cache(maxsize=64)
def _interpolation_weights(size: int) -> np.ndarray:
    """[2, 3, 3, size]: what x[i] adds to out[2 (i - offset) + parity] for parity, tap, offset + 1.

    Up-sampling one axis with clamped edges, then shifting by tap - 1 with zeros from outside.
    """
    up = np.zeros((2 * size, size), np.float32)
    for i in range(size):
        for neighbour, weight in ((-1, 0.25), (0, 0.75)):
            up[2 * i, np.clip(i + neighbour, 0, size - 1)] += weight
            up[2 * i + 1, np.clip(i - neighbour, 0, size - 1)] += weight
    weights = np.zeros((2, 3, 3, size), np.float32)
    for parity, tap, offset, i in np.ndindex(2, 3, 3, size):
        output, row = i - (offset - 1), 2 * (i - (offset - 1)) + parity + tap - 1
        if 0 <= output < size and 0 <= row < 2 * size:
            weights[parity, tap, offset, i] = up[row, i]
    return weights


@jax.custom_vjp
def _interpolate(taps: jax.Array) -> jax.Array:
    """[B, H, W, 3, 3, C], columns' taps first -> [B, 2H, 2W, C]: sum_t shift_t(up(tap t))."""
    batch, height, width, _, _, features = taps.shape
    wide = _interpolate_axis(taps.reshape(batch, height, width, 3, 3 * features), 2)
    wide = wide.reshape(batch, height, 2 * width, 3, features)
    tall = _interpolate_axis(jnp.swapaxes(wide, 2, 3), 1)
    return tall.reshape(batch, 2 * height, 2 * width, features)


def _interpolate_forward(taps: jax.Array) -> tuple[jax.Array, None]:
    return _interpolate(taps), None


def _interpolate_transposed(_: None, slope: jax.Array) -> tuple[jax.Array]:
    batch, height, width, features = slope.shape
    height, width = height // 2, width // 2
    slope = slope.reshape(batch, height, 2, 2 * width, features)
    slope = _padded(_padded(slope, 1, 1, 1), 3, 2, 2)
    rows = jnp.stack(_gather_axis(slope, 1, height), axis=3)
    rows = rows.reshape(batch, height, width + 2, 2, 3 * features)
    taps = jnp.stack(_gather_axis(rows, 2, width), axis=3)
    return (taps.reshape(batch, height, width, 3, 3, features),)


_interpolate.defvjp(_interpolate_forward, _interpolate_transposed)


def _interpolate_axis(taps: jax.Array, axis: int) -> jax.Array:
    """[..., n, 3, ...] -> [..., n, 2, ...] with n at ``axis``: one axis of ``_interpolate``.

    The new axis holds even and odd places of the doubled axis, so a reshape merges them.
    """
    weights = _interpolation_weights(taps.shape[axis])
    sources = [jax.lax.index_in_dim(taps, t, axis + 1, keepdims=False) for t in range(3)]

    def place(parity: int) -> jax.Array:
        return total(
            _moved(total(_weighted(sources, weights[parity, :, offset], axis)), axis, offset - 1)
            for offset in range(3)
            if weights[parity, :, offset].any()
        )

    return jnp.stack([place(0), place(1)], axis + 1)


def _gather_axis(slope: jax.Array, axis: int, size: int) -> list[jax.Array]:
    """The transpose of ``_interpolate_axis``, [..., size + 2, 2, ...] -> three of [..., size, ...].

    What it gets has zeros before and after.
    """
    weights = _interpolation_weights(size)
    places = [jax.lax.index_in_dim(slope, p, axis + 1, keepdims=False) for p in range(2)]
    moved = [
        jax.lax.slice_in_dim(place, 2 - offset, 2 - offset + size, axis=axis)
        for place in places
        for offset in range(3)
    ]
    return [total(_weighted(moved, weights[:, tap].reshape(6, -1), axis)) for tap in range(3)]


def _weighted(arrays: list[jax.Array], weights: np.ndarray, axis: int) -> list[jax.Array]:
    """Each array times its weights [n] along ``axis``; those with no weight at all are left out."""

    def along(row: np.ndarray, like: jax.Array) -> jax.Array:
        shape = [len(row) if i == axis else 1 for i in range(like.ndim)]
        return jnp.asarray(row.reshape(shape), like.dtype)

    return [a * along(row, a) for a, row in zip(arrays, weights, strict=True) if row.any()]
