"""Array operations without parameters: convolutions of up-sampled maps, sampling, variation."""

import functools
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
    """``conv3x3`` as one matrix product for all nine taps, then nine shifts.

    Good where C_out is small, as in the generators' heads: the shifts cost 9 C_out per pixel.
    """
    return _shift_and_sum(_mix_channels(x, kernel, dtype))


def upsample_conv_direct(x: jax.Array, kernel: jax.Array, dtype: DType = None) -> jax.Array:
    """``upsample_conv`` as it is defined: up-sample, then convolve."""
    return conv3x3_direct(upsample(x), kernel, dtype)


def upsample_conv_product(x: jax.Array, kernel: jax.Array, dtype: DType = None) -> jax.Array:
    """``upsample_conv`` with the channels mixed at low resolution (SPEC section 10).

    Up-sampling acts on each channel alone, so conv(up(x)) = sum_t shift_t(up(W_t x)): a quarter
    of the multiply-adds, exactly, borders included. What up-sampling and shift do along one axis
    reads three neighbours; both axes are done so, one after the other.
    """
    batch, height, width, _ = x.shape
    features = kernel.shape[-1]
    taps = _mix_channels(x, kernel, dtype)
    wide = _interpolate(taps.reshape(batch, height, width, 3, 3 * features), 2)
    tall = _interpolate(jnp.swapaxes(wide.reshape(batch, height, 2 * width, 3, features), 2, 3), 1)
    return tall.reshape(batch, 2 * height, 2 * width, features)


def _rounded(
    product: Callable[[jax.Array, jax.Array], jax.Array], a: jax.Array, b: jax.Array, dtype: DType
) -> jax.Array:
    """product(a, b) with both and the result rounded to ``dtype``, returned in a's own.

    So are the slopes of a backward pass; sums inside a product are float32 on every backend.
    """
    if dtype is None:
        return product(a, b)
    return product(a.astype(dtype), b.astype(dtype)).astype(a.dtype)


def _mix_channels(x: jax.Array, kernel: jax.Array, dtype: DType = None) -> jax.Array:
    """[B, H, W, C_in] and [3, 3, C_in, C_out] -> [B, H, W, 3, 3, C_out], columns' taps first."""
    batch, height, width, channels = x.shape
    features = kernel.shape[-1]
    # Concatenated rather than transposed: XLA moves this out of a sampler's loop.
    matrix = jnp.concatenate([kernel[dy, dx] for dx in range(3) for dy in range(3)], axis=1)
    mixed = _rounded(jnp.matmul, x.reshape(-1, channels), matrix, dtype)
    return mixed.reshape(batch, height, width, 3, 3, features)


def _moved(x: jax.Array, axis: int, offset: int) -> jax.Array:
    """x[i + offset] along one axis, zeros from outside."""
    padding = [(0, 0, 0)] * x.ndim
    padding[axis] = (-offset, offset, 0)
    return jax.lax.pad(x, jnp.zeros((), x.dtype), padding) if offset else x


def _total(terms: Iterable[jax.Array]) -> jax.Array:
    return functools.reduce(jnp.add, terms)


# The two linear maps below have their transposes written out: the one autodiff would make pads
# and adds every slice by itself, at twice the time. Slices of one padded array are faster than
# padded slices, but padding the taps forward would copy the largest array there is.


@jax.custom_vjp
def _shift_and_sum(taps: jax.Array) -> jax.Array:
    """[B, H, W, 3, 3, C], columns' taps first -> [B, H, W, C]: each tap moved to its place."""
    return _total(
        _moved(_moved(taps[:, :, :, dx, dy], 1, dy - 1), 2, dx - 1)
        for dx in range(3)
        for dy in range(3)
    )


def _shift_and_sum_forward(taps: jax.Array) -> tuple[jax.Array, None]:
    return _shift_and_sum(taps), None


def _shift_and_sum_transposed(_: None, slope: jax.Array) -> tuple[jax.Array]:
    height, width = slope.shape[1:3]
    wide = jnp.pad(slope, ((0, 0), (1, 1), (1, 1), (0, 0)))
    across = jnp.stack([wide[:, :, 2 - dx : 2 - dx + width] for dx in range(3)], 3)
    return (jnp.stack([across[:, 2 - dy : 2 - dy + height] for dy in range(3)], 4),)


_shift_and_sum.defvjp(_shift_and_sum_forward, _shift_and_sum_transposed)


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


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _interpolate(taps: jax.Array, axis: int) -> jax.Array:
    """[..., n, 3, ...] -> [..., n, 2, ...] with n at ``axis``: sum_t shift_t(up(tap t)).

    The new axis holds even and odd places of the doubled axis, so a reshape merges them.
    """
    weights = _interpolation_weights(taps.shape[axis])
    sources = [jax.lax.index_in_dim(taps, t, axis + 1, keepdims=False) for t in range(3)]

    def place(parity: int) -> jax.Array:
        return _total(
            _moved(_total(_weighted(sources, weights[parity, :, offset], axis)), axis, offset - 1)
            for offset in range(3)
            if weights[parity, :, offset].any()
        )

    return jnp.stack([place(0), place(1)], axis + 1)


def _interpolate_forward(taps: jax.Array, axis: int) -> tuple[jax.Array, None]:
    return _interpolate(taps, axis), None


def _interpolate_transposed(axis: int, _: None, slope: jax.Array) -> tuple[jax.Array]:
    size = slope.shape[axis]
    weights = _interpolation_weights(size)
    padding = [(1, 1) if i == axis else (0, 0) for i in range(slope.ndim)]
    wide = jnp.pad(slope, padding)
    places = [jax.lax.index_in_dim(wide, p, axis + 1, keepdims=False) for p in range(2)]
    moved = [
        jax.lax.slice_in_dim(place, 2 - offset, 2 - offset + size, axis=axis)
        for place in places
        for offset in range(3)
    ]
    gathered = [_total(_weighted(moved, weights[:, tap].reshape(6, -1), axis)) for tap in range(3)]
    return (jnp.stack(gathered, axis + 1),)


def _weighted(arrays: list[jax.Array], weights: np.ndarray, axis: int) -> list[jax.Array]:
    """Each array times its weights [n] along ``axis``; those with no weight at all are left out."""

    def along(row: np.ndarray, like: jax.Array) -> jax.Array:
        shape = [len(row) if i == axis else 1 for i in range(like.ndim)]
        return jnp.asarray(row.reshape(shape), like.dtype)

    return [a * along(row, a) for a, row in zip(arrays, weights, strict=True) if row.any()]


_interpolate.defvjp(_interpolate_forward, _interpolate_transposed)


def _product_wins(kernel: jax.Array) -> bool:
    """Whether the product form is the faster one here, forward and backward.

    On CPUs it was for all shapes measured, by a factor of 1.4 to 17, but for those of 4 input
    channels (docs/performance.md). Elsewhere XLA's convolutions stay until somebody has measured.
    """
    return jax.default_backend() == "cpu" and kernel.shape[2] >= 8


def upsample_conv(x: jax.Array, kernel: jax.Array, dtype: DType = None) -> jax.Array:
    """Bilinear 2x up-sampling, then a 3x3 convolution without bias, zero padding 1.

    The faster of two equal forms, by backend and shape: ``upsample_conv_product`` or
    ``upsample_conv_direct``.

    Args:
      x: [B, H, W, C_in].
      kernel: [3, 3, C_in, C_out].
      dtype: what operands and result of the channels' product are rounded to, as
        ``jnp.bfloat16``; None leaves them alone. The result has x's dtype all the same.

    Returns:
      [B, 2H, 2W, C_out].
    """
    form = upsample_conv_product if _product_wins(kernel) else upsample_conv_direct
    return form(x, kernel, dtype)


def conv3x3(x: jax.Array, kernel: jax.Array, dtype: DType = None) -> jax.Array:
    """A 3x3 convolution, stride 1, zero padding 1, for the generators' heads.

    The faster of two equal forms, by backend and shape: ``conv3x3_product`` or
    ``conv3x3_direct``.

    Args:
      x: [B, H, W, C_in].
      kernel: [3, 3, C_in, C_out].
      dtype: as in ``upsample_conv``.

    Returns:
      [B, H, W, C_out].
    """
    form = conv3x3_product if _product_wins(kernel) else conv3x3_direct
    return form(x, kernel, dtype)


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
    x = (((grid[..., 0] + 1.0) * width - 1.0) / 2.0).reshape(batch, -1)
    y = (((grid[..., 1] + 1.0) * height - 1.0) / 2.0).reshape(batch, -1)
    # One ring of zeros stands for everything outside; corners beyond it weigh nothing.
    padded = jnp.pad(image, ((0, 0), (1, 1), (1, 1), (0, 0)))
    left = jnp.clip(jnp.floor(x), -1.0, width - 1.0)
    top = jnp.clip(jnp.floor(y), -1.0, height - 1.0)
    # Clipped all the same: what is not a number lands anywhere as an index.
    # One flat axis for the batch too: batched gathers are slower, and so are their gradients.
    stride = width + 2
    first = jnp.arange(batch, dtype=jnp.int32)[:, None] * ((height + 2) * stride)
    corner = first + ((top + 1.0) * stride + left + 1.0).astype(jnp.int32)
    pixels = padded.reshape(-1, channels)

    def contribution(dy: int, dx: int) -> jax.Array:
        weight = jnp.maximum(1.0 - jnp.abs(x - left - dx), 0.0)
        weight *= jnp.maximum(1.0 - jnp.abs(y - top - dy), 0.0)
        value = pixels.at[corner + (dy * stride + dx)].get(mode="clip")
        return weight[..., None].astype(image.dtype) * value

    result = _total(contribution(dy, dx) for dy in (0, 1) for dx in (0, 1))
    return result.reshape(batch, *grid.shape[1:3], channels)


def total_variation(image: jax.Array) -> jax.Array:
    """Sum of |dx| + |dy| over all pixel pairs and channels (eq. 10).

    Args:
      image: [B, H, W, C].

    Returns:
      [B].
    """
    across = jnp.abs(image[:, :, 1:] - image[:, :, :-1])
    down = jnp.abs(image[:, 1:] - image[:, :-1])
    return jnp.sum(across, axis=(1, 2, 3)) + jnp.sum(down, axis=(1, 2, 3))


def instance_norm(x: jax.Array, scale: jax.Array, shift: jax.Array) -> jax.Array:
    """Normalises each image and channel over its pixels: biased variance, eps 1e-5.

    Args:
      x: [B, H, W, C].
      scale, shift: [C].

    Returns:
      [B, H, W, C].
    """
    mean = jnp.mean(x, axis=(1, 2), keepdims=True)
    centred = x - mean
    variance = jnp.mean(jnp.square(centred), axis=(1, 2), keepdims=True)
    gain = jax.lax.rsqrt(variance + 1e-5) * scale[None, None, None]
    return centred * gain + shift[None, None, None]
