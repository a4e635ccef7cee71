"""What slot methods share: position grids, the broadcast decoder, and how slots are mixed.

A slot is a vector [D]. A decoder paints every slot as an image and a mask logit, the softmax over
the K slots of an image gives the masks, and the masks mix the slots' images.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

GLOROT = nn.initializers.glorot_uniform()

COORDINATES = ("linear", "cosine", "both")


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


def unit_grid(rows: int, columns: int) -> jax.Array:
    """[R, C, 2]: row and column of each cell, from 0 to 1, ends included."""
    sides = (jnp.linspace(0.0, 1.0, rows), jnp.linspace(0.0, 1.0, columns))
    return jnp.stack(jnp.meshgrid(*sides, indexing="ij"), axis=-1)


def position_grid(rows: int, columns: int) -> jax.Array:
    """[R, C, 4]: row, column, 1 - row and 1 - column of each cell, from 0 to 1, ends included."""
    grid = unit_grid(rows, columns)
    return jnp.concatenate([grid, 1.0 - grid], axis=-1)


def coordinates(kind: str, rows: int, columns: int) -> jax.Array:
    """Channels that give each cell's place, for networks to concatenate.

    Args:
      kind: ``linear``: row and column from -1 to 1; ``cosine``: cos(i pi u) cos(j pi v) for i and j
        in 0, 1, 2 but not both 0, of row u and column v from 0 to 1; ``both``: one after the other.
      rows, columns: R and C.

    Returns:
      [R, C, 2], [R, C, 8] or [R, C, 10].
    """
    grid = unit_grid(rows, columns)
    waves = jnp.stack([jnp.cos(i * jnp.pi * grid) for i in range(3)], axis=-1)  # [R, C, 2, 3]
    products = waves[..., 0, :, None] * waves[..., 1, None, :]
    cosine = products.reshape(rows, columns, 9)[..., 1:]
    parts = {"linear": [2.0 * grid - 1.0], "cosine": [cosine], "both": [2.0 * grid - 1.0, cosine]}
    return jnp.concatenate(parts[kind], axis=-1)


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
    """Paints each slot on its own: tiled over a grid, positions joined, transposed convolutions.

    With a kernel of 1 and strides of 1 a layer is a matrix product: each pixel is painted from the
    slot and its own position, which is much cheaper.

    Attributes:
      size: side of the grid; times all strides it is the side of the images.
      channels, strides: one entry per layer with an activation; a layer to 4 channels without
        activation and stride follows them.
      kernel_size: side of the kernels of those layers.
      last_kernel_size: side of the last layer's kernel.
      coordinates: which ``coordinates`` to concatenate to the tiled slots; empty to add a
        ``PositionEmbedding`` instead.
      activation: after every layer but the last.
      kernel_init: of every layer.
    """

    size: int
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    kernel_size: int
    last_kernel_size: int = 3
    coordinates: str = ""
    activation: Callable[[jax.Array], jax.Array] = nn.relu
    kernel_init: Any = GLOROT

    @nn.compact
    def __call__(self, slots: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Slots [B, K, D] to images [B, K, H, W, 3] and mask logits [B, K, H, W]."""
        batch, num_slots, dim = slots.shape
        grid = (batch * num_slots, self.size, self.size)
        x = jnp.broadcast_to(slots.reshape(-1, 1, 1, dim), (*grid, dim))
        if self.coordinates:
            places = coordinates(self.coordinates, self.size, self.size)[None]
            x = jnp.concatenate([x, jnp.broadcast_to(places, (*grid, places.shape[-1]))], axis=-1)
        else:
            x = PositionEmbedding(name="positions")(x)
        for channels, stride in zip(self.channels, self.strides, strict=True):
            x = self.activation(self._layer(channels, self.kernel_size, stride)(x))
        x = self._layer(4, self.last_kernel_size, 1)(x)
        x = x.reshape(batch, num_slots, *x.shape[1:])
        return x[..., :3], x[..., 3]

    def _layer(self, channels: int, side: int, stride: int) -> nn.Module:
        if side == stride == 1:
            return nn.Dense(channels, kernel_init=self.kernel_init)
        return nn.ConvTranspose(
            channels, (side, side), (stride, stride), kernel_init=self.kernel_init
        )
