"""Dogs: Stanford Dogs, a square around a box, with masks by Mask R-CNN (appendix A.2).

Some pictures have several boxes; the square is cut around the largest. The archives are
``images.tar``, ``lists.tar`` and ``annotation.tar``, downloaded if they are missing.
"""

from typing import Any

import numpy as np

from drc_jax.data.masks import detected
from drc_jax.data.masks.filters import MaskFilter
from drc_jax.data.pictures.crops import box_window
from drc_jax.data.published import official

RULES = MaskFilter("dog", max_share=0.9, max_person=0.05)


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


DOGS = detected.Published(
    name="dogs",
    builder="stanford_dogs",
    downloads=True,
    unique_names=True,
    picture_name=_name,
    convert=_convert,
    rules=RULES,
)
