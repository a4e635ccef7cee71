"""The networks of ReDO (Chen, Artieres and Denoyer, NeurIPS 2019) as Linen modules, NHWC.

Sizes and layers are those of the authors' released code. It knows images of 128x128 alone; the
same rule makes the networks of every side S = 4 * 2^n, n at least 2, here. Layers with spectral
norm keep an estimate u of their kernel's first singular vector in the collection ``spectral``,
which a call advances where it is mutable. ``redo_start.fresh`` makes their variables; what
``Module.init`` makes has the right shapes and is all zeros.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

_EPSILON = 1e-5
_ZEROS = nn.initializers.zeros


def spectral_norm(kernel: jax.Array, u: jax.Array) -> tuple[jax.Array, jax.Array]:
    """One power iteration (Miyato et al., ICLR 2018, algorithm 1).

        v = W u / |W u|,   u' = W^T v / |W^T v|,   sigma = v^T W u'

    W is the kernel as a matrix [all but the last, last axis]. No gradient passes through u' and v.

    Args:
      kernel: [..., C_out].
      u: [C_out], of length 1.

    Returns:
      The scalar sigma, at most the largest singular value of W, and u'.
    """
    matrix = kernel.reshape(-1, kernel.shape[-1])
    fixed = jax.lax.stop_gradient(matrix)
    v = _unit(fixed @ u)
    u = _unit(v @ fixed)
    return v @ (matrix @ u), u


def _unit(x: jax.Array) -> jax.Array:
    return x / jnp.maximum(jnp.linalg.norm(x), 1e-12)


def instance_norm(x: jax.Array) -> jax.Array:
    """Normalises each image and channel of [B, H, W, C] over its pixels; biased variance."""
    mean = jnp.mean(x, axis=(1, 2), keepdims=True)
    variance = jnp.mean(jnp.square(x - mean), axis=(1, 2), keepdims=True)
    return (x - mean) * jax.lax.rsqrt(variance + _EPSILON)


def upsample(x: jax.Array) -> jax.Array:
    """[B, H, W, C] to [B, 2H, 2W, C]: every pixel becomes four."""
    return jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)


def pool(x: jax.Array, side: int = 2) -> jax.Array:
    """Means over squares of ``side`` pixels; rows and columns that fill none are left out."""
    batch, height, width, channels = x.shape
    rows, columns = height // side, width // side
    cells = x[:, : rows * side, : columns * side]
    cells = cells.reshape(batch, rows, side, columns, side, channels)
    return jnp.mean(cells, axis=(2, 4))


class Linear(nn.Module):
    """A linear map with bias, without spectral norm."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.Dense(self.features, kernel_init=_ZEROS, name="dense")(x)


class Conv(nn.Module):
    """A convolution; zero padding keeps the size at stride 1, and halves it at stride 2.

    Attributes:
      features: channels of the output.
      side: of the kernel.
      stride: in pixels.
      padding: zeros around the image; -1 for (side - 1) / 2.
      bias: whether there is one.
      spectral: whether the kernel is divided by its largest singular value, as estimated.
    """

    features: int
    side: int = 3
    stride: int = 1
    padding: int = -1
    bias: bool = True
    spectral: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (self.side, self.side, x.shape[-1], self.features)
        kernel = self.param("kernel", _ZEROS, shape)
        if self.spectral:
            kernel = kernel / self._sigma(kernel)
        pad = (self.side - 1) // 2 if self.padding < 0 else self.padding
        # "SAME" would pad one side alone at stride 2 and move the image by a pixel.
        y = jax.lax.conv_general_dilated(
            x,
            kernel,
            (self.stride, self.stride),
            ((pad, pad), (pad, pad)),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        if self.bias:
            y += self.param("bias", _ZEROS, (self.features,))[None, None, None]
        return y

    def _sigma(self, kernel: jax.Array) -> jax.Array:
        u = self.variable("spectral", "u", jnp.zeros, (self.features,))
        sigma, following = spectral_norm(kernel, u.value)
        if self.is_mutable_collection("spectral") and not self.is_initializing():
            u.value = following
        return sigma


class Attention(nn.Module):
    """Self-attention over positions, added with a learned weight that starts at 0.

    The queries are of all N positions, keys and values of N / 4, the largest of every 2x2.
    """

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        batch, height, width, channels = x.shape

        def conv(features: int, name: str) -> Conv:
            return Conv(features, 1, bias=False, spectral=True, name=name)

        def largest(y: jax.Array) -> jax.Array:
            return nn.max_pool(y, (2, 2), (2, 2)).reshape(batch, -1, y.shape[-1])

        few = max(channels // 8, 1)
        queries = conv(few, "queries")(x).reshape(batch, -1, few)
        keys = largest(conv(few, "keys")(x))
        values = largest(conv(channels // 2, "values")(x))
        weights = jax.nn.softmax(jnp.einsum("bnc,bmc->bnm", queries, keys), axis=-1)
        found = jnp.einsum("bnm,bmc->bnc", weights, values).reshape(batch, height, width, -1)
        weight = self.param("weight", _ZEROS, ())
        return x + weight * conv(channels, "out")(found)


class Critic(nn.Module):
    """The discriminator D, and the noise estimator Z with more outputs and without attention.

    Attributes:
      width: channels after the first block; every further block doubles them.
      num_blocks: n, how often the side of the image is halved, down to 4.
      outputs: numbers per image.
      attention: whether there is attention after the first block.
    """

    width: int
    num_blocks: int
    outputs: int
    attention: bool

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, S, S, 3] to [B, outputs]."""

        def conv(features: int, side: int, name: str) -> Conv:
            return Conv(features, side, spectral=True, name=name)

        y = nn.relu(conv(self.width, 3, "block_0_a")(x))
        y = pool(conv(self.width, 3, "block_0_b")(y))
        x = y + conv(self.width, 1, "block_0_shortcut")(pool(x))
        if self.attention:
            x = Attention(name="attention")(x)
        for i in range(1, self.num_blocks):
            features = 2 * x.shape[-1]
            y = nn.relu(conv(features, 3, f"block_{i}_a")(nn.relu(x)))
            y = pool(conv(features, 3, f"block_{i}_b")(y))
            x = y + conv(features, 1, f"block_{i}_shortcut")(pool(x))
        y = nn.relu(conv(x.shape[-1], 3, "last_a")(nn.relu(x)))
        x = x + conv(x.shape[-1], 3, "last_b")(y)
        return Linear(self.outputs, name="head")(jnp.sum(x, axis=(1, 2)))


class ConditionalNorm(nn.Module):
    """Instance norm, scaled by gamma(z) and shifted by beta(z), both linear; then ReLU."""

    @nn.compact
    def __call__(self, x: jax.Array, z: jax.Array) -> jax.Array:
        gamma = Linear(x.shape[-1], name="gamma")(z)[:, None, None]
        beta = Linear(x.shape[-1], name="beta")(z)[:, None, None]
        return nn.relu(instance_norm(x) * gamma + beta)


class Generator(nn.Module):
    """Paints one region from its noise and its mask; it never sees the image.

    Attributes:
      width: channels at full size; the 4x4 base has width * 2^(n - 1).
      num_blocks: n, how often the side is doubled.
      attention: whether there is attention before the last block.
    """

    width: int
    num_blocks: int
    attention: bool

    @nn.compact
    def __call__(self, z: jax.Array, mask: jax.Array) -> jax.Array:
        """Noise [B, nz] and mask [B, S, S] to an image [B, S, S, 3] in (-1, 1), of all pixels."""

        def conv(features: int, side: int, name: str, bias: bool = True) -> Conv:
            return Conv(features, side, bias=bias, spectral=True, name=name)

        def with_mask(x: jax.Array) -> jax.Array:
            small = pool(mask[..., None], mask.shape[1] // x.shape[1])
            return jnp.concatenate([x, small], axis=-1)

        base = self.width * 2 ** (self.num_blocks - 1)
        # Channels first, as PyTorch has them.
        x = Linear(16 * base, name="base")(z).reshape(-1, base, 4, 4).transpose(0, 2, 3, 1)
        for i in range(self.num_blocks):
            features = base >> i
            if i == self.num_blocks - 1 and self.attention:
                x = Attention(name="attention")(x)
            y = with_mask(ConditionalNorm(name=f"block_{i}_norm_a")(x, z))
            y = conv(features, 3, f"block_{i}_a", bias=False)(upsample(y))
            y = conv(features, 3, f"block_{i}_b")(ConditionalNorm(name=f"block_{i}_norm_b")(y, z))
            # A 1x1 kernel and the up-sampling may change places.
            x = y + upsample(conv(features, 1, f"block_{i}_shortcut")(x))
        y = with_mask(ConditionalNorm(name="norm")(x, z))
        return jnp.tanh(conv(3, 3, "image")(y))


class InstanceNorm(nn.Module):
    """Instance norm with a learned scale and shift per channel."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        scale = self.param("scale", _ZEROS, (x.shape[-1],))[None, None, None]
        shift = self.param("shift", _ZEROS, (x.shape[-1],))[None, None, None]
        return instance_norm(x) * scale + shift


class MaskNet(nn.Module):
    """M: the logit of region 0 at each pixel; no spectral norm.

    Attributes:
      width: channels at a quarter of the side; a multiple of 4.
      residual_blocks: blocks there.
    """

    width: int
    residual_blocks: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, S, S, 3] to [B, S, S]."""

        def normed(x: jax.Array, name: str) -> jax.Array:
            return InstanceNorm(name=f"{name}_norm")(x)

        def reflected(x: jax.Array) -> jax.Array:
            return jnp.pad(x, ((0, 0), (3, 3), (3, 3), (0, 0)), mode="reflect")

        quarter = self.width // 4
        x = Conv(quarter, 7, padding=0, bias=False, name="first")(reflected(x))
        x = nn.relu(normed(x, "first"))
        for i in range(2):
            x = Conv(quarter << (i + 1), 3, 2, bias=False, name=f"down_{i}")(x)
            x = nn.relu(normed(x, f"down_{i}"))
        for i in range(self.residual_blocks):
            y = Conv(self.width, bias=False, name=f"residual_{i}_a")(x)
            y = nn.relu(normed(y, f"residual_{i}_a"))
            y = Conv(self.width, name=f"residual_{i}_b")(y)
            x = nn.relu(normed(x + y, f"residual_{i}_b"))
        x = Pyramid(name="pyramid")(x)
        for i in range(2):
            x = Conv(x.shape[-1] // 2, bias=False, name=f"up_{i}")(upsample(x))
            x = nn.relu(normed(x, f"up_{i}"))
        return Conv(1, 7, padding=0, name="last")(reflected(x))[..., 0]


class Pyramid(nn.Module):
    """Adds four channels to a map: one number per cell of a coarse grid each, enlarged."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        batch, side, _, _ = x.shape
        maps = [x]
        for i, parts in enumerate((1, 2, 3, 6)):
            # Where the cells do not fill the map they are stretched over it, as in the original.
            y = Conv(1, 1, name=f"grid_{i}")(pool(x, max(side // parts, 1)))
            maps.append(jax.image.resize(y, (batch, side, side, 1), "bilinear"))
        return jnp.concatenate(maps, axis=-1)
