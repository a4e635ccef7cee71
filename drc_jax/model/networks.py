"""The Linen modules of Table 2. All images and maps are NHWC."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from drc_jax import ops

# Column axis last: the rows of a kernel flattened to [out, in * kh * kw] are orthonormal.
_orthogonal = nn.initializers.orthogonal(scale=1.0, column_axis=-1)

BASE_SIZE = 4
BLOCK_SLOPE = 0.01
EBM_SLOPE = 0.2
CLASSIFIER_SLOPE = 0.2


def _squashed(planes: list[jax.Array]) -> jax.Array:
    """C planes [B, H, W] -> [B, H, W, C] in (-1, 1)."""
    return jnp.stack([jnp.tanh(plane) for plane in planes], axis=-1)


class InstanceNorm(nn.Module):
    """Instance norm, then a leaky ReLU; a learned scale (1 at first) and shift (0) per channel."""

    slope: float

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        shift = self.param("shift", nn.initializers.zeros, (x.shape[-1],))
        return ops.instance_norm(x, scale, shift, slope=self.slope)


class UpBlock(nn.Module):
    """[B, H, W, C] -> [B, 2H, 2W, features]: up-sample, convolve, normalise, leaky ReLU."""

    features: int
    dtype: ops.DType = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", _orthogonal, (3, 3, x.shape[-1], self.features))
        x = ops.upsample_conv(x, kernel, self.dtype)
        return InstanceNorm(BLOCK_SLOPE, name="norm")(x)


class Head(nn.Module):
    """[B, H, W, C] -> [B, H, W, features]: a 3x3 convolution with bias."""

    features: int
    dtype: ops.DType = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", _orthogonal, (3, 3, x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        x = ops.conv3x3(x, kernel, self.dtype)
        return x.astype(bias.dtype) + bias[None, None, None]


class Base(nn.Module):
    """[B, D] -> [B, 4, 4, channels]: linear, then leaky ReLU; every generator starts so."""

    channels: int
    slope: float

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        outputs = BASE_SIZE * BASE_SIZE * self.channels
        x = nn.Dense(outputs, kernel_init=_orthogonal, name="linear")(z)
        x = nn.leaky_relu(x, self.slope)
        return x.reshape(-1, BASE_SIZE, BASE_SIZE, self.channels)


class Generator(nn.Module):
    """A region's generator, G_f or G_b.

    Attributes:
      channels: of the 4x4 base, then one per block.
      base_slope: leaky slope after the linear layer.
      dtype: what operands and results of the convolutions are rounded to, as ``ops.upsample_conv``
        takes it; everything else stays as it is.
    """

    channels: tuple[int, ...]
    base_slope: float
    dtype: ops.DType = None

    @nn.compact
    def __call__(self, z: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """z [B, D] -> image [B, S, S, 3] in (-1, 1), mask logit [B, S, S], base [B, 4, 4, C]."""
        base = Base(self.channels[0], self.base_slope, name="base")(z)
        x = base
        for i, features in enumerate(self.channels[1:]):
            x = UpBlock(features, self.dtype, name=f"block_{i}")(x)
        # Image and mask kernels start orthogonal each on its own; one product serves both.
        image_kernel = self.param("image_kernel", _orthogonal, (3, 3, x.shape[-1], 3))
        mask_kernel = self.param("mask_kernel", _orthogonal, (3, 3, x.shape[-1], 1))
        bias = self.param("head_bias", nn.initializers.zeros, (4,))
        kernel = jnp.concatenate([image_kernel, mask_kernel], axis=-1)
        x = ops.conv3x3(x, kernel, self.dtype).astype(bias.dtype)
        *colours, logit = ops.stored_planes(x + bias[None, None, None])
        return _squashed(colours), logit, base


class Reassignment(nn.Module):
    """The pixel re-assignment generator G_s.

    Attributes:
      channels: of its own 4x4 base, then one per block.
      base_slope: leaky slope after the linear layer.
      dtype: what operands and results of the convolutions are rounded to, as ``ops.upsample_conv``
        takes it; everything else stays as it is.
    """

    channels: tuple[int, ...]
    base_slope: float
    dtype: ops.DType = None

    @nn.compact
    def __call__(self, z: jax.Array, background_base: jax.Array) -> jax.Array:
        """z_s [B, D], b_lat [B, 4, 4, C] -> grid [B, S, S, 2] in (-1, 1), x then y."""
        own = Base(self.channels[0], self.base_slope, name="base")(z)
        x = jnp.concatenate([background_base, own], axis=-1)
        for i, features in enumerate(self.channels[1:]):
            x = UpBlock(features, self.dtype, name=f"block_{i}")(x)
        return _squashed(ops.stored_planes(Head(2, self.dtype, name="head")(x)))


class LatentEBM(nn.Module):
    """An energy MLP: hidden linear layers with leaky ReLU, then a linear one.

    Attributes:
      width: hidden width.
      hidden_layers: 2 for foreground and background, 3 for the re-assignment.
      outputs: categories, or 1.
    """

    width: int
    hidden_layers: int
    outputs: int

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        """z [B, D] -> logits [B, outputs]."""
        for i in range(self.hidden_layers):
            z = nn.Dense(self.width, kernel_init=_orthogonal, name=f"linear_{i}")(z)
            z = nn.leaky_relu(z, EBM_SLOPE)
        return nn.Dense(self.outputs, kernel_init=_orthogonal, name="out")(z)


class Classifier(nn.Module):
    """An auxiliary classifier, C_f or C_b.

    Attributes:
      channels: one per stride-2 convolution.
      categories: K_f or K_b.
      dtype: of the convolutions' operands and results; norms and logits stay as they are.
    """

    channels: tuple[int, ...]
    categories: int
    dtype: ops.DType = None

    @nn.compact
    def __call__(self, image: jax.Array) -> jax.Array:
        """image [B, S, S, 3] in [-1, 1] -> logits [B, categories]."""
        x = image
        for i, features in enumerate(self.channels):
            x = nn.Conv(
                features, (4, 4), (2, 2), padding=1, use_bias=False,
                dtype=self.dtype, kernel_init=_orthogonal, name=f"conv_{i}",
            )(x).astype(image.dtype)  # fmt: skip
            x = InstanceNorm(CLASSIFIER_SLOPE, name=f"norm_{i}")(x)
        x = nn.Conv(
            self.categories, (4, 4), padding="VALID", kernel_init=_orthogonal, name="out"
        )(x)  # fmt: skip
        return x.reshape(-1, self.categories)
