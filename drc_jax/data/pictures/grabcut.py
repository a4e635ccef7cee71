"""GrabCut (Rother et al., 2004) of one picture, by OpenCV: from a rectangle, or from a guess."""

import contextlib
import importlib
from typing import Any

import numpy as np

from drc_jax.errors import UserError

BORDER, ROUNDS, SEED = 1 / 32, 5, 1
"""The usual border, as a share of the shorter side; rounds; and the seed of the clustering."""


def require_opencv() -> Any:
    """The module ``cv2``.

    Raises:
      UserError: if it is absent.
    """
    module: Any = None
    # A package that was made for another NumPy ends with either error.
    with contextlib.suppress(ImportError, AttributeError):
        module = importlib.import_module("cv2")
    if not hasattr(module, "grabCut"):  # What is left of one that was removed is an empty one.
        raise UserError(
            "GrabCut needs OpenCV, which is not installed; pip install 'drc_jax[baselines]'"
        )
    return module


def border_pixels(shape: tuple[int, ...], border: float) -> int:
    """Pixels of the border of an image [H, W]: one at least, where some are left inside.

    Args:
      shape: (H, W).
      border: share of the shorter side.
    """
    side = min(shape)
    return min(max(1, round(border * side)), (side - 1) // 2)


def from_rectangle(
    image: np.ndarray, border: float = BORDER, rounds: int = ROUNDS, seed: int = SEED
) -> np.ndarray | None:
    """Cuts out the foreground of an image, of which all but the border may be foreground.

    Args:
      image: uint8 [H, W, 3], RGB.
      border: width of what is background for certain, as a share of the shorter side.
      rounds: how often colours are fitted and the image is cut.
      seed: of the clustering of colours.

    Returns:
      bool [H, W]; None where OpenCV refuses the image, as it may with flat colours.

    Raises:
      UserError: if OpenCV is absent.
    """
    height, width = image.shape[:2]
    edge = border_pixels((height, width), border)
    rectangle = (edge, edge, width - 2 * edge, height - 2 * edge)
    return _cut(image, np.zeros((height, width), np.uint8), rectangle, rounds, seed)


def from_mask(
    image: np.ndarray,
    guess: np.ndarray,
    border: float = BORDER,
    rounds: int = ROUNDS,
    seed: int = SEED,
) -> np.ndarray | None:
    """Cuts out the foreground of an image, beginning at a guess.

    Only the border is certain, to be background.

    Args:
      image: uint8 [H, W, 3], RGB.
      guess: bool [H, W], True where the foreground may be.
      border, rounds, seed: as in `from_rectangle`.

    Returns:
      bool [H, W]; None where the guess leaves nothing inside the border, and where OpenCV refuses
      the image.

    Raises:
      UserError: if OpenCV is absent.
    """
    cv2 = require_opencv()
    edge = border_pixels(image.shape[:2], border)
    inside = (slice(edge, -edge or None),) * 2
    if not guess[inside].any():
        return None
    labels = np.full(image.shape[:2], cv2.GC_BGD, np.uint8)
    labels[inside] = np.where(guess[inside], cv2.GC_PR_FGD, cv2.GC_PR_BGD)
    return _cut(image, labels, None, rounds, seed)


def _cut(
    image: np.ndarray,
    labels: np.ndarray,
    rectangle: tuple[int, int, int, int] | None,
    rounds: int,
    seed: int,
) -> np.ndarray | None:
    """The mask [H, W], from a rectangle or else from ``labels``; None where OpenCV refuses."""
    cv2 = require_opencv()
    # The clustering draws from a generator that otherwise goes on from image to image.
    cv2.setRNGSeed(seed)
    background, foreground = np.zeros((2, 1, 65))
    mode = cv2.GC_INIT_WITH_MASK if rectangle is None else cv2.GC_INIT_WITH_RECT
    blue_first = np.ascontiguousarray(image[..., ::-1])
    try:
        cv2.grabCut(blue_first, labels, rectangle, background, foreground, rounds, mode)
    except cv2.error:
        return None
    return (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)
