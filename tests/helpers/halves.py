"""Pictures of two halves, and pictures as they were written."""

import numpy as np
from PIL import Image


def half_red(width, height, vertical=True):
    """A picture whose left (or upper) half is red on black."""
    image = np.zeros((height, width, 3), np.uint8)
    if vertical:
        image[:, : width // 2, 0] = 255
    else:
        image[: height // 2, :, 0] = 255
    return image


def opened(path):
    with Image.open(path) as image:
        return image.mode, np.asarray(image)
