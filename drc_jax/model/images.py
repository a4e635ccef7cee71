"""The one rule for images: uint8 in 0..255, or floats in [-1, 1], NHWC with three channels."""

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from drc_jax.config import ModelConfig
from drc_jax.errors import UserError
from drc_jax.model.latents import sizes

_ROUNDING = 1e-3


def to_unit_range(image: Array) -> Array:
    """uint8 [0, 255] -> float32 [-1, 1]; floating point images pass through unchanged."""
    if image.dtype == jnp.uint8:
        return image.astype(jnp.float32) / 127.5 - 1.0
    return image


def as_images(config: ModelConfig, images: Any, z: Any = None) -> Float[Array, "b s s 3"]:
    """Images as the model takes them, or one line that says what is wrong.

    Shape and dtype are checked always, under ``jit`` too. Values are checked wherever they are at
    hand: not under ``jit``, and not if other processes hold some of them.

    Args:
      config: the model.
      images: [B, S, S, 3], S = ``config.image_size``: uint8 in 0..255, or floats in [-1, 1]. JAX
        and NumPy arrays, or nested lists of floats.
      z: latents [B, D] that belong to the images, to be checked beside them; None for none.

    Returns:
      Floats in [-1, 1], float32 at least.

    Raises:
      UserError: if ``config`` is no ``ModelConfig``; if rank, channels, side, dtype or range is
        another; if ``z`` has another number of rows.

    Warns:
      UserWarning: if all values lie in [0, 1], which [-1, 1] contains but bright images alone fill.
    """
    sizes(config)
    if not isinstance(images, jax.Array | np.ndarray):
        images = _from_list(images)
    _check_shape(config, images.shape)
    if z is not None:
        _check_rows(config, np.shape(z), images.shape)
    is_float = jnp.issubdtype(images.dtype, jnp.floating)
    if images.dtype != jnp.uint8 and not is_float:
        hint = "; use images.astype('uint8')" if jnp.issubdtype(images.dtype, jnp.integer) else ""
        raise UserError(
            f"images must be uint8 in 0..255 or floats in [-1, 1], got {images.dtype}{hint}"
        )
    if is_float and _is_at_hand(images):
        _check_range(np.asarray(images))
    images = to_unit_range(jnp.asarray(images))
    return images.astype(jnp.float32) if images.dtype.itemsize < 4 else images


def _from_list(images: Any) -> np.ndarray:
    try:
        return np.asarray(images)
    except ValueError:
        raise UserError("images must be one array [B, H, W, 3]; their sizes differ") from None


def _is_at_hand(x: Any) -> bool:
    if isinstance(x, jax.core.Tracer):
        return False
    return not isinstance(x, jax.Array) or x.is_fully_addressable


def _check_shape(config: ModelConfig, shape: tuple[int, ...]) -> None:
    side = config.image_size
    wanted = (side, side, 3)
    if shape[1:] == wanted and shape[0]:
        return
    hint = ""
    if shape == wanted:
        hint = "; images[None] is a batch of one"
    elif len(shape) == 4 and shape[1] == 3 and shape[-1] != 3:
        hint = "; the channels come last"
    elif len(shape) in (3, 4) and (shape[1:] == (side, side) or shape[-1] == 1):
        hint = "; repeat a grey image's values for three channels"
    elif len(shape) == 4 and shape[-1] == 3:
        hint = f"; resize them to {side}x{side}"
    raise UserError(
        f"images must have shape (B, {side}, {side}, 3) for this model, got {shape}{hint}"
    )


def _check_rows(config: ModelConfig, z: tuple[int, ...], images: tuple[int, ...]) -> None:
    if z != (images[0], config.latent_dim):
        raise UserError(
            f"z must have shape {(images[0], config.latent_dim)} for {images[0]} images of this "
            f"model, got {z}"
        )


def _check_range(images: np.ndarray) -> None:
    low, high = float(images.min()), float(images.max())
    if not np.isfinite([low, high]).all():
        raise UserError("images hold values that are not finite")
    if low < -1.0 - _ROUNDING or high > 1.0 + _ROUNDING:
        raise UserError(
            f"images are floats from {low:g} to {high:g} and must lie in [-1, 1]: divide 0..255 by "
            "127.5 and subtract 1, or pass uint8"
        )
    if low >= 0.0 and high > 0.0:
        warnings.warn(
            f"images are floats from {low:g} to {high:g}; if they lie in [0, 1], multiply by 2 and "
            "subtract 1: the model takes [-1, 1]",
            stacklevel=3,
        )
