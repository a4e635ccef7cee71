"""Makes a packed data set for training and evaluation.

    python -m experiments.prepare --dataset=tm_dsprites --output=data/tm_dsprites_128
    python -m experiments.prepare --dataset=scenes --objects=1,3 --shading=flat --size=32 \\
        --output=data/scenes_flat_32
    python -m experiments.prepare --dataset=npz --source=photos.npz --output=data/photos
    python -m experiments.prepare --dataset=folder --source=PHOTOS --masks=MASKS --size=64 \\
        --output=data/photos_64
    python -m experiments.prepare --dataset=birds --source=ARCHIVES --output=data/birds_128

birds, dogs, cars and pets take their published archives from --source, or download them there
where their addresses still work; clevr6 takes clevr_with_masks_train.tfrecords.
"""

import os
from collections.abc import Sequence
from typing import Any

from absl import flags

from drc_jax.data.folder import CROPS
from drc_jax.data.packed.format import open_split, splits
from drc_jax.data.prepare import PREPARERS, other_sides, prepare
from drc_jax.errors import UserError
from experiments import cli

_DATASET = flags.DEFINE_enum("dataset", None, list(PREPARERS), "Which data set.", required=True)
_OUTPUT = flags.DEFINE_string(
    "output", None, "Folder for the data, one sub-folder per split.", required=True
)
_OBJECTS = flags.DEFINE_list(
    "objects", None, "scenes: least and most number of objects, 1 to 3 (1,2)."
)
# What is left out takes the data set's own default; what it does not understand is refused.
_OPTIONS = (
    flags.DEFINE_integer(
        "size", None, "Image side in pixels (128; npz: that of the file).", lower_bound=1
    ),
    flags.DEFINE_integer(
        "num_train",
        None,
        "Training images to generate (20000); clevr6: records to take them from (70000).",
        lower_bound=1,
    ),
    flags.DEFINE_integer(
        "num_test",
        None,
        "Test images to generate (1000); clevr6: records to take them from, after those (2000).",
        lower_bound=0,
    ),
    flags.DEFINE_integer(
        "seed", None, "Seed of what is generated, or of the division (0).", lower_bound=0
    ),
    flags.DEFINE_integer(
        "workers", None, "Processes that generate images (one per core).", lower_bound=1
    ),
    flags.DEFINE_string(
        "source",
        None,
        "npz: the .npz file; folder: the folder of photographs; published data sets: the folder of "
        "their archives. For birds, ReDO's train_val_test_split.txt is used if it lies there.",
    ),
    flags.DEFINE_float(
        "test_fraction", None, "npz, folder: share of the images to hold out for testing (0.1)."
    ),
    flags.DEFINE_string(
        "masks",
        None,
        "folder: a folder that mirrors --source, with masks of the same names; dogs, cars: a "
        "folder of masks to use instead of detecting them.",
    ),
    flags.DEFINE_string(
        "weights",
        None,
        "dogs, cars: file of the weights of torchvision's Mask R-CNN (downloaded if left out).",
    ),
    flags.DEFINE_enum(
        "crop", None, CROPS, "folder: how pictures become square (boxes if given, else centre)."
    ),
    flags.DEFINE_string(
        "boxes", None, "folder: CSV file of name,xmin,ymin,xmax,ymax in pixels, upright."
    ),
    flags.DEFINE_float(
        "max_damaged",
        None,
        "Share of pictures that may be unusable (folder: 0.1, published data sets: 0.01).",
    ),
    flags.DEFINE_enum("shading", None, ("shaded", "flat"), "scenes: lit objects, or flat ones."),
    flags.DEFINE_bool("touching", None, "scenes: the second object covers an edge of the first."),
    flags.DEFINE_bool("two_tone", None, "scenes: objects have two colours, half and half."),
    flags.DEFINE_bool("one_hue", None, "scenes: all objects of a scene have one hue."),
    flags.DEFINE_enum(
        "floor", None, ("grey", "coloured"), "scenes: grey, or as saturated as the objects."
    ),
    flags.DEFINE_bool("overwrite", None, "Replace the data that are in the output folder."),
)


def main(argv: Sequence[str]) -> None:
    del argv
    options: dict[str, Any] = {flag.name: flag.value for flag in _OPTIONS if flag.value is not None}
    if _OBJECTS.value is not None:
        options["objects"] = _numbers(_OBJECTS)
    if _DATASET.value in ("tm_dsprites", "scenes"):
        options.setdefault("workers", os.cpu_count() or 1)
    prepare(_DATASET.value, _OUTPUT.value, **options)
    for split in splits(_OUTPUT.value):
        info = open_split(_OUTPUT.value, split).info
        masks = "with" if info.has_masks else "without"
        side = info.image_size
        print(f"{_OUTPUT.value}/{split}: {info.count} images, {side}x{side}, {masks} masks")
    if other_sides(side):
        print(f"note: DRC takes no images of {side}x{side}; for it give --size={other_sides(side)}")


def _numbers(flag: flags.FlagHolder) -> tuple[int, ...]:
    try:
        return tuple(map(int, flag.value))
    except ValueError:
        given = ",".join(flag.value)
        raise UserError(f"--{flag.name} must be two numbers, as in 1,3; got {given}") from None


if __name__ == "__main__":
    cli.run(main)
