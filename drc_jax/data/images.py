"""Resizing of images and masks."""

import numpy as np
from PIL import Image

_ANTIALIASED = Image.Resampling.BILINEAR  # Pillow widens the filter when it shrinks


def resize_image(image: np.ndarray, size: int) -> np.ndarray:
    """Resizes an image without aliasing.

    Args:
      image: uint8 [H, W, 3].
      size: new side S in pixels.

    Returns:
      uint8 [S, S, 3]; the image itself if it has that size.
    """
    if image.shape[:2] == (size, size):
        return image
    return np.asarray(Image.fromarray(image).resize((size, size), _ANTIALIASED))


def resize_mask(mask: np.ndarray, size: int) -> np.ndarray:
    """Resizes a mask and decides every pixel by its half: no dithering, no greys.

    Args:
      mask: bool or uint8 [H, W] of 0 and 1.
      size: new side S in pixels.

    Returns:
      uint8 [S, S] of 0 and 1.
    """
    if mask.shape == (size, size):
        return mask.astype(np.uint8)
    share = Image.fromarray(mask.astype(np.float32)).resize((size, size), _ANTIALIASED)
    return (np.asarray(share) >= 0.5).astype(np.uint8)
