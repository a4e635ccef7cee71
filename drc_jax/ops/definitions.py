"""Every operation as it is defined, in a few lines: what the fast forms have to equal.

Arrays are NHWC, kernels HWIO. ``drc_jax.ops`` exports the fast forms; the tests compare them with
these, values and gradients.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def upsample(x: Float[Array, "b h w c"]) -> Float[Array, "b 2*h 2*w c"]:
    """Doubles height and width, bilinear, with half-pixel centres and clamped edges."""
    batch, height, width, channels = x.shape
    return jax.image.resize(x, (batch, 2 * height, 2 * width, channels), "bilinear")


def conv3x3(x: Float[Array, "b h w i"], kernel: Float[Array, "3 3 i o"]) -> Float[Array, "b h w o"]:
    """A 3x3 cross-correlation with stride 1 and zeros outside."""
    return jax.lax.conv_general_dilated(
        x, kernel, window_strides=(1, 1), padding="SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def upsample_conv(
    x: Float[Array, "b h w i"], kernel: Float[Array, "3 3 i o"]
) -> Float[Array, "b 2*h 2*w o"]:
    """Up-sampling, then a 3x3 convolution."""
    return conv3x3(upsample(x), kernel)


def interpolate(taps: Float[Array, "b h w 3 3 c"]) -> Float[Array, "b 2*h 2*w c"]:
    """The sum over a kernel's taps of up(tap), shifted; the columns' taps come first."""
    _, height, width, _, _, _ = taps.shape
    out = jnp.zeros(())
    for dx in range(3):
        for dy in range(3):
            wide = jnp.pad(upsample(taps[:, :, :, dx, dy]), ((0, 0), (1, 1), (1, 1), (0, 0)))
            out = out + wide[:, dy : dy + 2 * height, dx : dx + 2 * width]
    return out


def grid_sample(
    image: Float[Array, "b h w c"], grid: Float[Array, "b i j 2"]
) -> Float[Array, "b i j c"]:
    """Bilinear sampling at places x, y in [-1, 1], zeros outside: near pixels weigh most."""
    _, height, width, _ = image.shape
    x = ((grid[..., 0, None] + 1.0) * width - 1.0) / 2.0
    y = ((grid[..., 1, None] + 1.0) * height - 1.0) / 2.0
    columns = jnp.maximum(1.0 - jnp.abs(x - jnp.arange(float(width))[None, None, None]), 0.0)
    rows = jnp.maximum(1.0 - jnp.abs(y - jnp.arange(float(height))[None, None, None]), 0.0)
    return jnp.einsum("bijh,bijw,bhwc->bijc", rows, columns, image)


def instance_norm(
    x: Float[Array, "b h w c"],
    scale: Float[Array, " c"],
    shift: Float[Array, " c"],
    *,
    slope: float = 1.0,
) -> Float[Array, "b h w c"]:
    """Each image and channel normalised over its pixels, then a leaky ReLU of that slope."""
    centred = x - jnp.mean(x, axis=(1, 2), keepdims=True)
    deviation = jnp.sqrt(jnp.mean(jnp.square(centred), axis=(1, 2), keepdims=True) + 1e-5)
    y = centred / deviation * scale[None, None, None] + shift[None, None, None]
    return jnp.where(y >= 0.0, y, slope * y)


def total_variation(image: Float[Array, "b h w c"]) -> Float[Array, " b"]:
    """The sum of |dx| + |dy| over all pairs of neighbouring pixels and channels."""
    across, down = jnp.diff(image, axis=2), jnp.diff(image, axis=1)
    return jnp.sum(jnp.abs(across), axis=(1, 2, 3)) + jnp.sum(jnp.abs(down), axis=(1, 2, 3))
