"""Square pictures out of pictures of any shape: around a box, the middle, or letterboxed.

Each way has a twin for masks that crops the same pixels and decides every pixel by its half.
A box is (xmin, ymin, xmax, ymax) in pixels of the upright picture, x to the right and y down.
"""

from typing import NamedTuple

import numpy as np

from drc_jax.data.pictures.images import resize_image, resize_mask

Box = tuple[float, float, float, float]

# Beside letterboxed pictures: neither dark nor bright scenes get a hard edge.
LETTERBOX_GREY = 128


class Window(NamedTuple):
    """A rectangle of whole pixels; ``right`` and ``bottom`` are just outside."""

    left: int
    top: int
    right: int
    bottom: int

    def cut(self, pixels: np.ndarray) -> np.ndarray:
        """The part of ``pixels`` [H, W, ...] inside the window, as a view."""
        return pixels[self.top : self.bottom, self.left : self.right]


def box_window(box: Box, width: int, height: int) -> Window:
    """The released code's square around a box, clipped to the picture (docs/method.md, "7 Data").

    The half side is r = int(0.75 max(box width, box height)), at least 1, and the centre the whole
    pixel below the box's middle. A clipped window is not square; resizing squashes what it holds.

    Args:
      box: xmin, ymin, xmax, ymax in pixels.
      width, height: of the picture in pixels.

    Returns:
      The window, at least one pixel large.

    Raises:
      ValueError: if the box is empty or not finite, or the square lies outside the picture.
    """
    xmin, ymin, xmax, ymax = box
    if not (np.isfinite(box).all() and xmax > xmin and ymax > ymin):
        raise ValueError(f"the box {_text(box)} is empty or not finite")
    r = max(1, int(0.75 * max(xmax - xmin, ymax - ymin)))
    x, y = int((xmin + xmax) / 2), int((ymin + ymax) / 2)
    window = Window(max(0, x - r), max(0, y - r), min(width, x + r), min(height, y + r))
    if window.left >= window.right or window.top >= window.bottom:
        raise ValueError(f"the box {_text(box)} lies outside the {width}x{height} picture")
    return window


def centre_window(width: int, height: int) -> Window:
    """The largest square in the middle; an odd remainder leaves its pixel right or below."""
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return Window(left, top, left + side, top + side)


def letterbox_window(width: int, height: int, size: int) -> Window:
    """Where a whole picture lies in a square of side ``size``: its longer side fills the square.

    Args:
      width, height: of the picture in pixels.
      size: side of the square in pixels.

    Returns:
      The window inside the square, centred, each side at least 1 pixel.
    """
    scale = size / max(width, height)
    new_width, new_height = max(1, round(width * scale)), max(1, round(height * scale))
    left, top = (size - new_width) // 2, (size - new_height) // 2
    return Window(left, top, left + new_width, top + new_height)


def square_crop(image: np.ndarray, box: Box, size: int) -> np.ndarray:
    """The picture in the square around a box; see `box_window`.

    Args:
      image: uint8 [H, W, 3].
      box: xmin, ymin, xmax, ymax in pixels.
      size: new side S in pixels.

    Returns:
      uint8 [S, S, 3].

    Raises:
      ValueError: if the box is of no use in this picture.
    """
    height, width = image.shape[:2]
    return resize_image(box_window(box, width, height).cut(image), size)


def square_crop_mask(mask: np.ndarray, box: Box, size: int) -> np.ndarray:
    """`square_crop` of a mask [H, W] of 0 and 1: uint8 [S, S] of 0 and 1."""
    height, width = mask.shape
    return resize_mask(box_window(box, width, height).cut(mask), size)


def centre_crop(image: np.ndarray, size: int) -> np.ndarray:
    """The largest square in the middle of a picture uint8 [H, W, 3]: uint8 [S, S, 3]."""
    height, width = image.shape[:2]
    return resize_image(centre_window(width, height).cut(image), size)


def centre_crop_mask(mask: np.ndarray, size: int) -> np.ndarray:
    """`centre_crop` of a mask [H, W] of 0 and 1: uint8 [S, S] of 0 and 1."""
    height, width = mask.shape
    return resize_mask(centre_window(width, height).cut(mask), size)


def letterbox(image: np.ndarray, size: int) -> np.ndarray:
    """The whole picture uint8 [H, W, 3] between grey bars: uint8 [S, S, 3]."""
    height, width = image.shape[:2]
    window = letterbox_window(width, height, size)
    square = np.full((size, size, 3), LETTERBOX_GREY, np.uint8)
    window.cut(square)[:] = resize_image(image, _shape(window))
    return square


def letterbox_mask(mask: np.ndarray, size: int) -> np.ndarray:
    """`letterbox` of a mask [H, W] of 0 and 1: uint8 [S, S], 0 in the bars."""
    height, width = mask.shape
    window = letterbox_window(width, height, size)
    square = np.zeros((size, size), np.uint8)
    window.cut(square)[:] = resize_mask(mask, _shape(window))
    return square


def _shape(window: Window) -> tuple[int, int]:
    return window.bottom - window.top, window.right - window.left


def _text(box: Box) -> str:
    return "(" + ", ".join(f"{value:g}" for value in box) + ")"
