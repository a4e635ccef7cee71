"""Cars: Stanford Cars, a square around every car's box, with masks by Mask R-CNN (appendix A.3)."""

import os
from typing import Any

from drc_jax.data import detected, official
from drc_jax.data.crops import box_window
from drc_jax.data.mask_filters import MaskFilter

# The paper drops cars that are "not properly detected" and nothing else.
RULES = MaskFilter("car")


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
    """Writes the cars that have a good mask as the published splits ``train`` and ``test``.

    Args:
      output: folder of the data set. Detected masks are reviewed in its sub-folder ``review``.
      source: folder of ``cars_train.tgz``, ``cars_test.tgz``, ``car_devkit.tgz`` and
        ``cars_test_annos_withlabels.mat``, which can no longer be downloaded.
      masks: folder of masks to use instead of detecting them; see `mask_folder.MaskFolder`. Numbers
        repeat between the splits, so they lie in its sub-folders ``cars_train`` and ``cars_test``.
      weights: file of torchvision's Mask R-CNN weights; None downloads them.
      size: image side S in pixels.
      max_damaged: share of damaged images that is tolerated.
      overwrite: replace splits that are there.

    Raises:
      UserError: if an extra is not installed, or an archive, a mask, the weights, an argument or
        what lies at ``output`` is not as required.
    """
    detected.prepare(
        _CARS,
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
    box = official.pixel_box(example["bbox"], width, height)
    box_window(box, width, height)  # raises for a box that is of no use
    return detected.Boxed(_name(split, example), image, box)


def _name(split: str, example: dict[str, Any]) -> str:
    return f"cars_{split}/{example['id'].decode('utf-8')}.jpg"


_CARS = detected.Published(
    name="cars",
    builder="cars196",
    downloads=False,
    unique_names=False,
    picture_name=_name,
    convert=_convert,
    rules=RULES,
)
