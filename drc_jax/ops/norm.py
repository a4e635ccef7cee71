"""Instance norm and leaky ReLU as one function with a backward pass of its own."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from drc_jax.ops.xla import fenced, on_cpu, stored, sums_dtype

Map = Float[Array, "b h w c"]
PerChannel = Float[Array, "1 1 1 c"]
PerImage = Float[Array, "b 1 1 c"]
EPSILON = 1e-5


def instance_norm(
    x: Map, scale: Float[Array, " c"], shift: Float[Array, " c"], *, slope: float = 1.0
) -> Map:
    """Normalises each image and channel over its pixels, then a leaky ReLU.

    Biased variance, epsilon 1e-5 (docs/method.md, "2 Networks (Table 2)"). One function for both,
    because their backward pass together reads the maps fewer times than the two apart.

    Args:
      x: [B, H, W, C], of any floating point type; the arithmetic is float32 at least.
      scale, shift: [C].
      slope: of the leaky ReLU below 0, static; 1 leaves it out.

    Returns:
      [B, H, W, C] in x's dtype.
    """
    return _instance_norm(x, scale[None, None, None], shift[None, None, None], slope)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _instance_norm(x: Map, scale: PerChannel, shift: PerChannel, slope: float) -> Map:
    return _forward(x, scale, shift, slope)[0]


def _before_activation(
    x: Map, mean: PerImage, deviation: PerImage, scale: PerChannel, shift: PerChannel
) -> Map:
    return (x - mean) * (scale / deviation) + shift


def _forward(
    x: Map, scale: PerChannel, shift: PerChannel, slope: float
) -> tuple[Map, tuple[Array, ...]]:
    wide = x.astype(sums_dtype(x))
    pixels = x.shape[1] * x.shape[2]
    mean = _pixel_sums(wide)[0] / pixels
    variance = _pixel_sums(jnp.square(wide - mean))[0] / pixels
    deviation = jnp.sqrt(variance + EPSILON)
    y = _before_activation(wide, mean, deviation, scale, shift)
    y = jnp.where(y >= 0.0, y, slope * y).astype(x.dtype)
    return stored(y), (x, mean, deviation, scale, shift)


def _pixel_sums(*maps: Map) -> list[PerImage]:
    """Sums of maps over their pixels."""
    if on_cpu():
        return [jnp.sum(x, axis=(1, 2), keepdims=True) for x in maps]
    # Rows first: XLA stores what it would have to sum over all pixels in one go.
    rows = fenced([jnp.sum(x, axis=2, keepdims=True) for x in maps])
    return [jnp.sum(x, axis=1, keepdims=True) for x in rows]


def _backward(
    slope: float, residuals: tuple[Array, ...], cotangent: Map
) -> tuple[Map, PerChannel, PerChannel]:
    """From the cotangent of the output to those of x, scale and shift."""
    x, mean, deviation, scale, shift = residuals

    def centred_and_normed_cotangent(x: Map, cotangent: Map) -> tuple[Map, Map]:
        """x without its mean, and the cotangent before the leaky ReLU."""
        # Behind a fence, or XLA would store for every reader what follows from the two maps.
        x, cotangent = (a.astype(mean.dtype) for a in fenced((x, cotangent)))
        active = _before_activation(x, mean, deviation, scale, shift) >= 0.0
        return x - mean, jnp.where(active, cotangent, slope * cotangent)

    centred, normed = centred_and_normed_cotangent(x, cotangent)
    shift_cotangent, scale_cotangent = _pixel_sums(normed, normed * centred)
    scale_cotangent /= deviation
    # What would move an image's mean or its deviation is taken out.
    pixels = x.shape[1] * x.shape[2]
    centred, normed = centred_and_normed_cotangent(x, cotangent)
    inner = normed - shift_cotangent / pixels - centred * (scale_cotangent / (pixels * deviation))
    # Divided, not multiplied by a reciprocal: XLA stores what comes out of a division, and would
    # else work all this out again for every neighbour that the next layer's sums read.
    x_cotangent = (inner / deviation * scale).astype(x.dtype)
    over_batch = functools.partial(jnp.sum, axis=0, keepdims=True)
    return x_cotangent, over_batch(scale_cotangent), over_batch(shift_cotangent)


_instance_norm.defvjp(_forward, _backward)
