"""Cars: Stanford Cars, a square around every car's box, with masks by Mask R-CNN (appendix A.3).

The archives are ``cars_train.tgz``, ``cars_test.tgz``, ``car_devkit.tgz`` and
``cars_test_annos_withlabels.mat``, which can no longer be downloaded. Numbers repeat between the
splits, so a folder of masks has the sub-folders ``cars_train`` and ``cars_test``.
"""

from typing import Any

from drc_jax.data.masks import detected
from drc_jax.data.masks.filters import MaskFilter
from drc_jax.data.pictures.crops import box_window
from drc_jax.data.published import official

# The paper drops cars that are "not properly detected" and nothing else.
RULES = MaskFilter("car")


def _convert(split: str, example: dict[str, Any]) -> detected.Boxed:
    image = official.decode(example["image"], "RGB")
    height, width = image.shape[:2]
    box = official.pixel_box(example["bbox"], width, height)
    box_window(box, width, height)  # raises for a box that is of no use
    return detected.Boxed(_name(split, example), image, box)


def _name(split: str, example: dict[str, Any]) -> str:
    return f"cars_{split}/{example['id'].decode('utf-8')}.jpg"


CARS = detected.Published(
    name="cars",
    builder="cars196",
    downloads=False,
    unique_names=False,
    picture_name=_name,
    convert=_convert,
    rules=RULES,
)
