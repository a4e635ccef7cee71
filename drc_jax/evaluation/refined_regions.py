"""Regions of images that are larger than the model's, with refined masks: for their scores."""

from typing import Any

import jax
import numpy as np
from PIL import Image

from drc_jax.errors import UserError
from drc_jax.evaluation import cutouts
from drc_jax.evaluation.refine import check
from drc_jax.evaluation.regions import HostRegions, InferBatch

_LEAST = 1e-6  # of a weight that is divided by


def refining(infer_batch: InferBatch, image_size: int, how: str) -> InferBatch:
    """An inference for images of any size: the model's sees them small, and masks are refined.

    Its regions have the model's images enlarged bilinearly; the foreground's weight as
    `refine.refined` has it, shared among the foregrounds, where there are several, as their own
    weights say.

    Args:
      infer_batch: the inference of images uint8 [B, S, S, 3].
      image_size: the model's image side S.
      how: one of ``refine.REFINEMENTS``.

    Returns:
      The inference of images uint8 [B, L, L, 3]. It raises `UserError` if the regions have no
      foreground.

    Raises:
      UserError: if ``how`` is unknown, or ``colours`` and OpenCV is absent.
    """
    check(how)

    def infer(images: np.ndarray) -> HostRegions:
        side = images.shape[1]
        found = infer_batch(
            np.stack([cutouts.to_square(image, image_size, "stretch") for image in images])
        )
        if found.foreground_weight is None:
            raise UserError("--refine is for methods that have a foreground; this one has slots")
        weights = np.asarray(found.foreground_weight, np.float32)
        squares = [
            cutouts.from_square(Image.fromarray(share), side, side, "stretch", image, how)
            for share, image in zip(weights, images, strict=True)
        ]
        weight = np.stack([np.asarray(square) for square in squares])
        batch, count = np.shape(found.pi)[:2]
        foregrounds = _enlarged(found.pi, (batch, count, side, side))[:, :-1]
        total = foregrounds.sum(axis=1, keepdims=True)
        # Where no foreground had any weight they share alike.
        even = np.full_like(foregrounds, 1 / foregrounds.shape[1])
        parts = np.where(total > _LEAST, foregrounds / np.maximum(total, _LEAST), even)
        pi = np.concatenate([parts * weight[:, None], 1 - weight[:, None]], axis=1)
        return HostRegions(
            images=_enlarged(found.images, (batch, count, side, side, 3)),
            pi=pi,
            reconstruction=_enlarged(found.reconstruction, (batch, side, side, 3)),
            foreground_weight=weight,
        )

    return infer


def _enlarged(array: Any, shape: tuple[int, ...]) -> np.ndarray:
    """An array at another height and width, bilinearly."""
    return np.asarray(jax.image.resize(np.asarray(array, np.float32), shape, "bilinear"))
