"""Dogs: Stanford Dogs, a square around a box, with masks by Mask R-CNN (appendix A.2)."""

import os
from typing import Any

import numpy as np

from drc_jax.data import detected, official
from drc_jax.data.crops import box_window
from drc_jax.data.mask_filters import MaskFilter

RULES = MaskFilter("dog", max_share=0.9, max_person=0.05)


def prepare(
    output: str | os.PathLike[str],
    *,
    source: str,
    masks: str | None = None,
    weights: str | None = None,
    size: int = 128,
    max_damaged: float = official.MAX_DAMAGED,
    overwrite: bool = False,
) -> None:
    """Writes the dogs that have a good mask as the published splits ``train`` and ``test``.

    Some pictures have several boxes; the square is cut around the largest.

    Args:
      output: folder of the data set. Detected masks are reviewed in its sub-folder ``review``.
      source: folder of ``images.tar``, ``lists.tar`` and ``annotation.tar``, downloaded if they are
        missing.
      masks: folder of masks to use instead of detecting them; see `mask_folder.MaskFolder`.
      weights: file of torchvision's Mask R-CNN weights; None downloads them.
      size: image side S in pixels.
      max_damaged: share of damaged images that is tolerated.
      overwrite: replace splits that are there.

    Raises:
      UserError: if an extra is not installed, or an archive, a mask, the weights, an argument or
        what lies at ``output`` is not as required.
    """
    detected.prepare(
        _DOGS,
        output,
        source=source,
        masks=masks,
        weights=weights,
        size=size,
        max_damaged=max_damaged,
        overwrite=overwrite,
    )


def _convert(split: str, example: dict[str, Any]) -> detected.Boxed:
    image = official.decode(example["image"], "RGB")
    height, width = image.shape[:2]
    boxes = np.asarray(example["objects"]["bbox"]).reshape(-1, 4)
    if not len(boxes):
        raise ValueError("has no box")
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    box = official.pixel_box(boxes[areas.argmax()], width, height)
    box_window(box, width, height)  # raises for a box that is of no use
    return detected.Boxed(_name(split, example), image, box)


def _name(split: str, example: dict[str, Any]) -> str:
    del split  # the names differ
    return example["image/filename"].decode("utf-8")


_DOGS = detected.Published(
    name="dogs",
    builder="stanford_dogs",
    downloads=True,
    unique_names=True,
    picture_name=_name,
    convert=_convert,
    rules=RULES,
)
