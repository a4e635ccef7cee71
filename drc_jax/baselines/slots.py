"""What slot methods share: the position grid, the broadcast decoder, and how slots are mixed.

A slot is a vector [D]. A decoder paints every slot as an image and a mask logit, the softmax over
the K slots of an image gives the masks, and the masks mix the slots' images.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

GLOROT = nn.initializers.glorot_uniform()


class SlotRegions(NamedTuple):
    """The slots of B images as regions.

    Slots are exchangeable: none of them is the background, so there is no foreground until true
    masks choose one (appendix E of the supplement, ``metrics.slots_to_foreground``).

    Attributes:
      images: [B, K, H, W, 3], what each slot paints; linear, so values may leave [-1, 1].
      pi: [B, K, H, W], masks, summing to 1 over K.
      reconstruction: [B, H, W, 3], the mixed image.
    """

    images: jax.Array
    pi: jax.Array
    reconstruction: jax.Array

    @property
    def foreground_weight(self) -> None:
        """None: which slots are the foreground is not known."""
        return None


def position_grid(rows: int, columns: int) -> jax.Array:
    """[R, C, 4]: row, column, 1 - row and 1 - column of each cell, from 0 to 1, ends included."""
    row, column = jnp.meshgrid(
        jnp.linspace(0.0, 1.0, rows), jnp.linspace(0.0, 1.0, columns), indexing="ij"
    )
    return jnp.stack([row, column, 1.0 - row, 1.0 - column], axis=-1)


def mix(images: jax.Array, logits: jax.Array) -> SlotRegions:
    """Masks m = softmax over k of the logits, and the mixed image sum_k m_k x_k.

    Args:
      images: [B, K, H, W, 3].
      logits: [B, K, H, W].
    """
    masks = jax.nn.softmax(logits, axis=1)
    return SlotRegions(images, masks, jnp.sum(masks[..., None] * images, axis=1))


def to_floats(images: jax.Array) -> jax.Array:
    """uint8 pixels as float32 in [-1, 1]."""
    return images.astype(jnp.float32) / 127.5 - 1.0


class PositionEmbedding(nn.Module):
    """Adds a linear map of the position grid to features [..., R, C, channels]."""

    @nn.compact
    def __call__(self, features: jax.Array) -> jax.Array:
        rows, columns, channels = features.shape[-3:]
        embedding = nn.Dense(channels, kernel_init=GLOROT)(position_grid(rows, columns))
        return features + jnp.expand_dims(embedding, range(features.ndim - 3))


class BroadcastDecoder(nn.Module):
    """Paints each slot on its own: tiled over a grid, positions added, transposed convolutions.

    Attributes:
      size: side of the grid; times all strides it is the side of the images.
      channels, strides: one entry per layer with ReLU; a 3x3 layer to 4 channels follows them.
      kernel_size: side of the kernels of those layers.
    """

    size: int
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    kernel_size: int

    @nn.compact
    def __call__(self, slots: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Slots [B, K, D] to images [B, K, H, W, 3] and mask logits [B, K, H, W]."""
        batch, num_slots, dim = slots.shape
        grid = (batch * num_slots, self.size, self.size, dim)
        x = jnp.broadcast_to(slots.reshape(-1, 1, 1, dim), grid)
        x = PositionEmbedding(name="positions")(x)
        kernel = (self.kernel_size, self.kernel_size)
        for channels, stride in zip(self.channels, self.strides, strict=True):
            x = nn.ConvTranspose(channels, kernel, (stride, stride), kernel_init=GLOROT)(x)
            x = nn.relu(x)
        x = nn.ConvTranspose(4, (3, 3), kernel_init=GLOROT)(x)
        x = x.reshape(batch, num_slots, *x.shape[1:])
        return x[..., :3], x[..., 3]
