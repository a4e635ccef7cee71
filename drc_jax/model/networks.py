"""The Linen modules of Table 2, and the ones that a config asks for. Everything is NHWC.

Nothing outside this file knows Linen: ``generators``, ``energies`` and ``classifiers`` make the
networks of a config, ``fresh`` and ``apply`` are pure.
"""

from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from drc_jax import ops
from drc_jax.config import ModelConfig
from drc_jax.model.latents import Latents

Params = dict[str, Any]
"""``{"generator": ..., "classifier": ..., "ebm": ...}``, each with one entry per part of z."""

# Column axis last: the rows of a kernel flattened to [out, in * kh * kw] are orthonormal.
_orthogonal = nn.initializers.orthogonal(scale=1.0, column_axis=-1)

BASE_SIZE = 4
BLOCK_SLOPE = 0.01
EBM_SLOPE = 0.2
CLASSIFIER_SLOPE = 0.2


Vector = Float[Array, "b d"]


class Painted(NamedTuple):
    """What a region's generator paints.

    Attributes:
      image: three channels in (-1, 1), I in (1.1).
      logit: one channel, the mask logit m.
      base: [B, 4, 4, C], the first map after its leaky ReLU, h.
    """

    image: ops.Planes
    logit: ops.Planes
    base: jax.Array


def _head_planes(x: Float[Array, "b h w c"]) -> ops.Planes:
    """A head's output as channels, each computed once."""
    return ops.stored(ops.Planes.of(x, channel=-1))


class InstanceNorm(nn.Module):
    """Instance norm, then a leaky ReLU; a learned scale (1 at first) and shift (0) per channel."""

    slope: float

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        shift = self.param("shift", nn.initializers.zeros, (x.shape[-1],))
        return ops.instance_norm(x, scale, shift, slope=self.slope)


class UpBlock(nn.Module):
    """[B, H, W, C] -> [B, 2H, 2W, features]: up-sample, convolve, normalise, leaky ReLU."""

    features: int
    dtype: ops.DType = None

    @nn.compact
    def __call__(self, x: Float[Array, "b h w i"]) -> Float[Array, "b 2*h 2*w o"]:
        kernel = self.param("kernel", _orthogonal, (3, 3, x.shape[-1], self.features))
        x = ops.upsample_conv(x, kernel, self.dtype)
        return InstanceNorm(BLOCK_SLOPE, name="norm")(x)


class Head(nn.Module):
    """[B, H, W, C] -> [B, H, W, features]: a 3x3 convolution with bias."""

    features: int
    dtype: ops.DType = None

    @nn.compact
    def __call__(self, x: Float[Array, "b h w i"]) -> Float[Array, "b h w o"]:
        kernel = self.param("kernel", _orthogonal, (3, 3, x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        x = ops.conv3x3(x, kernel, self.dtype)
        return x.astype(bias.dtype) + bias[None, None, None]


class Base(nn.Module):
    """[B, D] -> [B, 4, 4, channels]: linear, then leaky ReLU; every generator starts so."""

    channels: int
    slope: float

    @nn.compact
    def __call__(self, z: Vector) -> Float[Array, "b 4 4 c"]:
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
    def __call__(self, z: Vector) -> Painted:
        """z [B, D] -> image, mask logit and base (1.1)."""
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
        painted = _head_planes(x + bias[None, None, None])
        image = ops.each(jnp.tanh, painted.at("channel", slice(3)))
        return Painted(image, painted.at("channel", 3), base)


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
    def __call__(
        self, z: Vector, background_base: Float[Array, "b 4 4 c"]
    ) -> Float[Array, "b s s 2"]:
        """z_s [B, D], h_b [B, 4, 4, C] -> grid [B, S, S, 2] in (-1, 1), x then y (1.1)."""
        own = Base(self.channels[0], self.base_slope, name="base")(z)
        x = jnp.concatenate([background_base, own], axis=-1)
        for i, features in enumerate(self.channels[1:]):
            x = UpBlock(features, self.dtype, name=f"block_{i}")(x)
        grid = _head_planes(Head(2, self.dtype, name="head")(x))
        return ops.each(jnp.tanh, grid).array(channel=-1)


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
    def __call__(self, z: Vector) -> Float[Array, "b k"]:
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
    def __call__(self, image: Float[Array, "b s s 3"]) -> Float[Array, "b k"]:
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


class Encoder(nn.Module):
    """An image to two numbers per latent; no norm, for a norm would hide colours.

    Attributes:
      channels: one per stride-2 convolution.
      width: of the hidden layer.
      outputs: how many numbers.
    """

    channels: tuple[int, ...]
    width: int
    outputs: int

    @nn.compact
    def __call__(self, image: Float[Array, "b s s 3"]) -> Float[Array, "b k"]:
        """image [B, S, S, 3] in [-1, 1] -> [B, outputs]."""
        x = image
        for i, features in enumerate(self.channels):
            x = nn.Conv(features, (4, 4), (2, 2), padding=1, name=f"conv_{i}")(x)
            x = nn.leaky_relu(x, CLASSIFIER_SLOPE)
        x = nn.Dense(self.width, name="hidden")(x.reshape(len(x), -1))
        return nn.Dense(self.outputs, name="out")(nn.leaky_relu(x, CLASSIFIER_SLOPE))


class Generators(NamedTuple):
    """G_f and G_b, which are one module with two sets of parameters, and G_s."""

    foreground: Generator
    background: Generator
    reassignment: Reassignment


def generators(config: ModelConfig) -> Generators:
    """The three generators of a config."""
    sizes = config.generator_channels, config.generator_base_slope, _dtype(config)
    return Generators(Generator(*sizes), Generator(*sizes), Reassignment(*sizes))


def energies(config: ModelConfig) -> Latents:
    """F_f, F_b and F_s of a config."""
    return Latents(
        LatentEBM(config.ebm_width, 2, config.num_fg_categories),
        LatentEBM(config.ebm_width, 2, config.num_bg_categories),
        LatentEBM(config.ebm_reassign_width, 3, 1),
    )


def classifiers(config: ModelConfig) -> dict[str, Classifier]:
    """C_f and C_b of a config."""
    categories = {"foreground": config.num_fg_categories, "background": config.num_bg_categories}
    return {
        name: Classifier(config.classifier_channels, number, _dtype(config))
        for name, number in categories.items()
    }


def encoder(config: ModelConfig, width: int) -> Encoder:
    """q(z | x)'s network: a mean and a logarithm for every latent."""
    return Encoder(config.classifier_channels, width, 2 * config.latent_dim)


# What JAX calls the precisions of products of float32 arrays. With bfloat16 only the convolutions
# are rounded, so that the products left, those of the energies, are worth their full precision.
_MATMUL = {"float32": "float32", "tf32": "tensorfloat32", "bfloat16": "float32"}


def _dtype(config: ModelConfig) -> ops.DType:
    return jnp.bfloat16 if config.precision == "bfloat16" else None


def apply(config: ModelConfig, module: nn.Module, params: Params, *inputs: jax.Array) -> Any:
    """``module`` of ``inputs`` with its own parameters, in the config's precision; pure.

    Parameters may be NumPy's, as a checkpoint's are.
    """
    params = jax.tree.map(jnp.asarray, params)
    with jax.default_matmul_precision(_MATMUL[config.precision]):
        return module.apply({"params": params}, *inputs)


def fresh(module: nn.Module, key: chex.PRNGKey, *inputs: jax.Array) -> Params:
    """A module's parameters at the start, for inputs of these shapes."""
    return module.init(key, *inputs)["params"]
