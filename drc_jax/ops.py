"""Array operations without parameters: convolutions of up-sampled maps, sampling, variation."""

import jax
import jax.numpy as jnp
import numpy as np

_DIMS = ("NHWC", "HWIO", "NHWC")


def upsample(x: jax.Array) -> jax.Array:
    """Doubles height and width, bilinear with half-pixel centres and clamped edges.

    Args:
      x: [B, H, W, C].

    Returns:
      [B, 2H, 2W, C].
    """
    batch, height, width, channels = x.shape
    return jax.image.resize(x, (batch, 2 * height, 2 * width, channels), "bilinear")


def conv3x3_direct(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The 3x3 convolution, stride 1, zero padding 1, as XLA's convolution.

    Args:
      x: [B, H, W, C_in].
      kernel: [3, 3, C_in, C_out].

    Returns:
      [B, H, W, C_out].
    """
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=_DIMS)


def conv3x3_product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """``conv3x3_direct`` as one matrix product for all nine taps, then nine shifts.

    Good where C_out is small, as in the generators' heads: the shifts cost 9 C_out per pixel.
    """
    height, width = x.shape[1:3]
    taps = _mix_channels(x, kernel)
    padded = jnp.pad(taps, ((0, 0), (1, 1), (1, 1), (0, 0), (0, 0), (0, 0)))
    shifted = [
        padded[:, dy : dy + height, dx : dx + width, dy, dx] for dy in range(3) for dx in range(3)
    ]
    return sum(shifted[1:], start=shifted[0])


def upsample_conv_direct(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """``upsample_conv`` as it is defined: up-sample, then convolve."""
    return conv3x3_direct(upsample(x), kernel)


def upsample_conv_product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """``upsample_conv`` with the channels mixed at low resolution (SPEC section 10).

    Up-sampling acts on each channel alone, so conv(up(x)) = sum_t shift_t(up(W_t x)): a quarter
    of the multiply-adds, exactly, borders included.
    """
    taps = _mix_channels(x, kernel)
    height, width = x.shape[1:3]
    rows = jnp.asarray(_interpolate_and_shift(height), x.dtype)
    columns = jnp.asarray(_interpolate_and_shift(width), x.dtype)
    wide = jnp.einsum("bhwyxo,xjw->bhyjo", taps, columns)
    return jnp.einsum("bhyjo,yih->bijo", wide, rows)


def _mix_channels(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """[B, H, W, C_in] and [3, 3, C_in, C_out] -> [B, H, W, 3, 3, C_out], one product per tap."""
    batch, height, width, channels = x.shape
    features = kernel.shape[-1]
    matrix = jnp.transpose(kernel, (2, 0, 1, 3)).reshape(channels, 9 * features)
    mixed = x.reshape(-1, channels) @ matrix
    return mixed.reshape(batch, height, width, 3, 3, features)


def _interpolate_and_shift(size: int) -> np.ndarray:
    """[3, 2 size, size]: up-sample one axis, then shift by tap - 1 with zeros from outside."""
    up = np.zeros((2 * size, size), np.float32)
    for i in range(size):
        for offset, weight in ((-1, 0.25), (0, 0.75)):
            up[2 * i, np.clip(i + offset, 0, size - 1)] += weight
            up[2 * i + 1, np.clip(i - offset, 0, size - 1)] += weight
    shifted = np.zeros((3, 2 * size, size), np.float32)
    shifted[0, 1:] = up[:-1]
    shifted[1] = up
    shifted[2, :-1] = up[1:]
    return shifted


def upsample_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Bilinear 2x up-sampling, then a 3x3 convolution without bias, zero padding 1.

    Args:
      x: [B, H, W, C_in].
      kernel: [3, 3, C_in, C_out].

    Returns:
      [B, 2H, 2W, C_out].
    """
    return upsample_conv_product(x, kernel)


def conv3x3(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """A 3x3 convolution, stride 1, zero padding 1.

    Args:
      x: [B, H, W, C_in].
      kernel: [3, 3, C_in, C_out].

    Returns:
      [B, H, W, C_out].
    """
    return conv3x3_product(x, kernel)


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
    out_shape = grid.shape[1:3]
    x = ((grid[..., 0] + 1.0) * width - 1.0) / 2.0
    y = ((grid[..., 1] + 1.0) * height - 1.0) / 2.0
    x, y = x.reshape(batch, -1), y.reshape(batch, -1)
    left, top = jnp.floor(x), jnp.floor(y)
    # One ring of zeros stands for everything outside: corners beyond it are clamped onto it.
    padded = jnp.pad(image, ((0, 0), (1, 1), (1, 1), (0, 0)))
    flat = padded.reshape(batch, (height + 2) * (width + 2), channels)
    result = jnp.zeros((batch, x.shape[1], channels), image.dtype)
    for dy in (0.0, 1.0):
        for dx in (0.0, 1.0):
            column, row = left + dx, top + dy
            weight = (1.0 - jnp.abs(x - column)) * (1.0 - jnp.abs(y - row))
            column = jnp.clip(column + 1.0, 0.0, width + 1.0).astype(jnp.int32)
            row = jnp.clip(row + 1.0, 0.0, height + 1.0).astype(jnp.int32)
            corner = jnp.take_along_axis(flat, (row * (width + 2) + column)[..., None], axis=1)
            result += weight[..., None].astype(image.dtype) * corner
    return result.reshape(batch, *out_shape, channels)


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
