"""Birds: Caltech-UCSD Birds-200-2011, a square around every bird's box.

See docs/method.md, "7 Data".
"""

import functools
import os
import pathlib
import tarfile
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from drc_jax.data.packed.datasets import Part, write_dataset
from drc_jax.data.packed.format import Record
from drc_jax.data.pictures.crops import square_crop, square_crop_mask
from drc_jax.data.published import builders, official
from drc_jax.errors import UserError

# ReDO's division, which DRC uses too: looked for in --source.
SPLIT_FILE = "train_val_test_split.txt"
_CODES = {0: "train", 1: "val", 2: "test"}
_ARCHIVE = "CUB_200_2011.tgz"
_IMAGES = "CUB_200_2011/images/"
# The masks hold the share of annotators that marked a pixel, in steps of 51.
_MAJORITY = 128
_ENCODED = ("image", "segmentation_mask")


def prepare(
    output: str | os.PathLike[str],
    *,
    source: str,
    size: int = 128,
    max_damaged: float = official.MAX_DAMAGED,
    overwrite: bool = False,
) -> None:
    """Writes the birds as packed splits.

    They are ReDO's ``train``, ``val`` and ``test`` if ``source`` holds `SPLIT_FILE`, and otherwise
    the published ``train`` and ``test``.

    Args:
      output: folder of the data set.
      source: folder of ``CUB_200_2011.tgz`` and ``segmentations.tgz``, downloaded if they are
        missing.
      size: image side S in pixels.
      max_damaged: share of damaged images that is tolerated.
      overwrite: replace splits that are there.

    Raises:
      UserError: if an archive, the split file, an argument or what lies at ``output`` is not as
        required.
    """
    official.check_options(size, max_damaged)
    builder = builders.prepared_builder("caltech_birds2011", source, variant=streaming_builder)
    file = pathlib.Path(source) / SPLIT_FILE
    parts = {}
    if file.exists():
        division = "ReDO"
        codes = read_split_file(file, _image_names(pathlib.Path(source)))
        for code, split in _CODES.items():
            names = {name for name, value in codes.items() if value == code}
            if names:
                parts[split] = Part(_chosen(builder, names, size, max_damaged), None)
    else:
        division = "published"
        for split in ("train", "test"):
            records = official.converted(
                builder,
                split,
                functools.partial(_convert, size),
                _name,
                encoded=_ENCODED,
                max_damaged=max_damaged,
            )
            parts[split] = Part(records, None)
    write_dataset(
        output,
        parts,
        image_size=size,
        has_masks=True,
        source={"dataset": "birds", "builder": builder.info.full_name, "division": division},
        overwrite=overwrite,
    )


def read_split_file(path: str | os.PathLike[str], names: list[str]) -> dict[str, int]:
    """Reads ReDO's division of the birds.

    Args:
      path: a file with one line per image: its number in ``images.txt`` and its code, as ReDO
        publishes it, or the code alone, in the order of ``images.txt``. The codes are 0 for
        training, 1 for validation and 2 for testing.
      names: the images in the order of ``images.txt``.

    Returns:
      The code of every image by name.

    Raises:
      UserError: if the file does not give every image exactly one such code.
    """
    text = pathlib.Path(path).read_text(encoding="utf-8", errors="replace")
    lines = [line.split() for line in text.splitlines() if line.strip()]
    if lines and all(len(line) == 1 for line in lines):
        lines = [[str(i), *line] for i, line in enumerate(lines, start=1)]
    codes: dict[str, int] = {}
    for i, line in enumerate(lines, start=1):
        numbers = [int(word) for word in line if word.isdecimal()]
        if len(line) != 2 or len(numbers) != 2 or numbers[1] not in _CODES:
            raise UserError(
                f"line {i} of {path} must be an image's number and a code 0, 1 or 2, got "
                f"{' '.join(line)!r}"
            )
        if not 1 <= numbers[0] <= len(names) or names[numbers[0] - 1] in codes:
            raise UserError(
                f"line {i} of {path} must name another of the images 1 to {len(names)}, got "
                f"{numbers[0]}"
            )
        codes[names[numbers[0] - 1]] = numbers[1]
    if len(codes) != len(names):
        raise UserError(f"{path} must divide all {len(names)} images, got {len(codes)}")
    return codes


def _image_names(source: pathlib.Path) -> list[str]:
    """The image names of ``images.txt``, in its order, out of the archive."""
    # The builder leaves what it extracted beside its downloads, under the archive's name.
    extracted = source / builders.WORK_FOLDER / "downloads" / "extracted"
    listings = sorted(extracted.glob("*/CUB_200_2011/images.txt"))
    if listings:
        text = listings[0].read_text(encoding="utf-8")
    else:
        text = _listing_in_archive(source / _ARCHIVE)
    return [line.split()[1] for line in text.splitlines()]


def _listing_in_archive(archive: pathlib.Path) -> str:
    try:
        with tarfile.open(archive, "r|gz") as tar:
            for member in tar:
                if member.name.removeprefix("./") == "CUB_200_2011/images.txt":
                    file = tar.extractfile(member)
                    assert file is not None
                    return file.read().decode("utf-8")
    except (OSError, tarfile.TarError) as error:
        raise UserError(
            f"{SPLIT_FILE} needs images.txt of {archive}, which cannot be read: {error}"
        ) from None
    raise UserError(f"{SPLIT_FILE} needs CUB_200_2011/images.txt, which is not in {archive}")


def streaming_builder(published: Any) -> Any:
    """The class of the builder, made to have one picture and its mask in memory at a time.

    The published one decodes the masks of all pictures, 2 GB, before it writes the first.

    Args:
      published: ``CaltechBirds2011`` of TensorFlow Datasets.

    Returns:
      A class that writes the same examples, with the masks' files as they are published.
    """

    class CaltechBirds2011(published, skip_registration=True):  # type: ignore[call-arg]
        name = published.name
        url_infos = published.url_infos
        pkg_dir_path = published._get_pkg_dir_path()

        def _split_generators(self, downloads: Any) -> dict[str, Any]:
            urls = self._caltech_birds_info
            images, masks = map(
                pathlib.Path,
                downloads.download_and_extract([urls.images_url, urls.segmentations_url]),
            )
            lists = ("images.txt", "train_test_split.txt", "bounding_boxes.txt")
            tables = (_table(images / "CUB_200_2011" / name) for name in lists)
            rows = [
                (name[0], is_train[0] == "1", list(map(float, box)))
                for name, is_train, box in zip(*tables, strict=True)
            ]
            return {
                split: self._generate_examples(
                    images, masks, [row for row in rows if row[1] == (split == "train")]
                )
                for split in ("train", "test")
            }

        def _generate_examples(
            self, images: pathlib.Path, masks: pathlib.Path, rows: list[Any]
        ) -> Iterator[tuple[str, dict[str, Any]]]:
            for name, _, box in rows:
                mask = masks / "segmentations" / pathlib.Path(name).with_suffix(".png")
                with Image.open(mask) as header:
                    sides = self._get_bounding_box_values(box, *header.size)
                folder = name.split("/")[0]
                yield (
                    _IMAGES + name,
                    {
                        "image": str(images / (_IMAGES + name)),
                        "image/filename": _IMAGES + name,
                        "label": int(folder.split(".")[0]) - 1,
                        "label_name": folder.split(".")[1].lower(),
                        "bbox": np.minimum(sides, 1.0),
                        "segmentation_mask": str(mask),
                    },
                )

    return CaltechBirds2011


def _table(path: pathlib.Path) -> list[list[str]]:
    """The lines of a list in the archive, in words, without their first, the picture's number."""
    return [line.split()[1:] for line in path.read_text(encoding="utf-8").splitlines()]


def _chosen(builder: Any, names: set[str], size: int, max_damaged: float) -> Iterator[Record]:
    """The images of some names, wherever the published division has put them."""
    every = (
        example
        for split in ("train", "test")
        for example in builders.examples(builder, split, encoded=_ENCODED)
    )
    chosen = (e for e in every if _name(e).removeprefix(_IMAGES) in names)
    convert = functools.partial(_convert, size)
    return official.skip_damaged(chosen, convert, _name, len(names), max_damaged)


def _name(example: dict[str, Any]) -> str:
    return example["image/filename"].decode("utf-8")


def _convert(size: int, example: dict[str, Any]) -> Record:
    image = official.decode(example["image"], "RGB")
    levels = official.decode(example["segmentation_mask"], "L")
    official.check_same_size(levels, image)
    height, width = image.shape[:2]
    box = official.pixel_box(example["bbox"], width, height)
    mask = (levels >= _MAJORITY).astype(np.uint8)
    return Record(square_crop(image, box, size), square_crop_mask(mask, box, size), _name(example))
