"""Resizing of images and masks."""

import numpy as np
from PIL import Image

_ANTIALIASED = Image.Resampling.BILINEAR  # Pillow widens the filter when it shrinks


def resize_image(image: np.ndarray, size: int | tuple[int, int]) -> np.ndarray:
    """Resizes an image without aliasing.

    Args:
      image: uint8 [H, W, 3].
      size: new side S in pixels, or new height and width.

    Returns:
      uint8 of that height and width, 3 channels; the image itself if it has that size.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if image.shape[:2] == (height, width):
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), _ANTIALIASED))


def resize_mask(mask: np.ndarray, size: int | tuple[int, int]) -> np.ndarray:
    """Resizes a mask and decides every pixel by its half: no dithering, no greys.

    Args:
      mask: bool or uint8 [H, W] of 0 and 1.
      size: new side S in pixels, or new height and width.

    Returns:
      uint8 [height, width] of 0 and 1.
    """
    return (_shares(mask, size) >= 0.5).astype(np.uint8)


def resize_labels(labels: np.ndarray, size: int | tuple[int, int]) -> np.ndarray:
    """Resizes instance labels; the foreground is what `resize_mask` makes of their union.

    Args:
      labels: uint8 [H, W], 0 for the background, 1, 2, ... for objects.
      size: new side S in pixels, or new height and width.

    Returns:
      uint8 [height, width]: in the foreground the object that covers most of a pixel. Objects are
      numbered anew from 1, without gaps, for some may vanish.
    """
    mask = resize_mask(labels > 0, size)
    objects = np.unique(labels[labels > 0])
    if not len(objects):
        return mask
    covering = np.argmax([_shares(labels == label, size) for label in objects], axis=0) + 1
    values, numbered = np.unique(covering * mask, return_inverse=True)
    return (numbered.reshape(mask.shape) + (values[0] != 0)).astype(np.uint8)


def _shares(mask: np.ndarray, size: int | tuple[int, int]) -> np.ndarray:
    """The part of each new pixel that a mask [H, W] of 0 and 1 covers, float32."""
    height, width = (size, size) if isinstance(size, int) else size
    share = mask.astype(np.float32)
    if share.shape == (height, width):
        return share
    return np.asarray(Image.fromarray(share).resize((width, height), _ANTIALIASED))
