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
    height, width = (size, size) if isinstance(size, int) else size
    if mask.shape == (height, width):
        return mask.astype(np.uint8)
    share = Image.fromarray(mask.astype(np.float32)).resize((width, height), _ANTIALIASED)
    return (np.asarray(share) >= 0.5).astype(np.uint8)
