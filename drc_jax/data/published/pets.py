"""Pets: Oxford-IIIT Pet, the largest square in the middle.

It is no data set of the paper. Only some pictures have a box, and that around the head, so the
square is cut without one. Of the trimap (1 foreground, 2 background, 3 the band between) the mask
takes 1 alone.
"""

import functools
import os
from typing import Any

import numpy as np

from drc_jax.data.packed.datasets import Part, write_dataset
from drc_jax.data.packed.format import Record
from drc_jax.data.pictures.crops import centre_crop, centre_crop_mask
from drc_jax.data.published import builders, official

_FOREGROUND = 1


def prepare(
    output: str | os.PathLike[str],
    *,
    source: str,
    size: int = 128,
    max_damaged: float = official.MAX_DAMAGED,
    overwrite: bool = False,
) -> None:
    """Writes the published splits ``train`` (trainval) and ``test``.

    Args:
      output: folder of the data set.
      source: folder of ``images.tar.gz`` and ``annotations.tar.gz``, downloaded if they are
        missing.
      size: image side S in pixels.
      max_damaged: share of damaged images that is tolerated.
      overwrite: replace splits that are there.

    Raises:
      UserError: if an archive, an argument or what lies at ``output`` is not as required.
    """
    official.check_options(size, max_damaged)
    builder = builders.prepared_builder("oxford_iiit_pet", source)

    def convert(example: dict[str, Any]) -> Record:
        image = official.decode(example["image"], "RGB")
        # Palette files hold the labels as indices, which "L" would look up as colours.
        trimap = official.decode_labels(example["segmentation_mask"])
        official.check_same_size(trimap, image)
        mask = (trimap == _FOREGROUND).astype(np.uint8)
        return Record(centre_crop(image, size), centre_crop_mask(mask, size), _name(example))

    read = functools.partial(
        official.converted,
        builder,
        convert=convert,
        name=_name,
        encoded=("image", "segmentation_mask"),
        max_damaged=max_damaged,
    )
    write_dataset(
        output,
        {split: Part(read(split), None) for split in ("train", "test")},
        image_size=size,
        has_masks=True,
        source={"dataset": "pets", "builder": builder.info.full_name},
        overwrite=overwrite,
    )


def _name(example: dict[str, Any]) -> str:
    return example["file_name"].decode("utf-8")
