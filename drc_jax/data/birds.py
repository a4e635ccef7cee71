"""Birds: Caltech-UCSD Birds-200-2011, a square around every bird's box (SPEC section 7)."""

import os
import pathlib
import tarfile
from collections.abc import Iterator
from typing import Any

import numpy as np

from drc_jax.data import official
from drc_jax.data.crops import square_crop, square_crop_mask
from drc_jax.data.decode import UnreadableError
from drc_jax.data.packed import Record
from drc_jax.data.writing import Part, write_dataset
from drc_jax.errors import UserError

# ReDO's division, which DRC uses too: looked for in --source.
SPLIT_FILE = "train_val_test_split.txt"
_CODES = {0: "train", 1: "val", 2: "test"}
_ARCHIVE = "CUB_200_2011.tgz"
_IMAGES = "CUB_200_2011/images/"
# The masks hold the share of annotators that marked a pixel, in steps of 51.
_MAJORITY = 128


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
    builder = official.prepared_builder("caltech_birds2011", source)
    file = pathlib.Path(source) / SPLIT_FILE
    parts = {}
    if file.exists():
        division = "ReDO"
        codes = read_split_file(file, _image_names(pathlib.Path(source)))
        for code, split in _CODES.items():
            names = {name for name, value in codes.items() if value == code}
            if names:
                parts[split] = Part(_records(builder, names, size, max_damaged), None)
    else:
        division = "published"
        for split in ("train", "test"):
            every = _raw(builder, (split,))
            count = official.num_examples(builder, split)
            parts[split] = Part(_convert(every, count, size, max_damaged), None)
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
    extracted = source / official.WORK_FOLDER / "downloads" / "extracted"
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


def _records(builder: Any, names: set[str], size: int, max_damaged: float) -> Iterator[Record]:
    """The images of some names, wherever the published division has put them."""
    every = _raw(builder, ("train", "test"))
    chosen = (e for e in every if _name(e).removeprefix(_IMAGES) in names)
    return _convert(chosen, len(names), size, max_damaged)


def _raw(builder: Any, splits: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    for split in splits:
        yield from official.examples(builder, split, encoded=("image", "segmentation_mask"))


def _name(example: dict[str, Any]) -> str:
    return example["image/filename"].decode("utf-8")


def _convert(
    examples: Iterator[dict[str, Any]], count: int, size: int, max_damaged: float
) -> Iterator[Record]:
    def convert(example: dict[str, Any]) -> Record:
        image = official.decode(example["image"], "RGB")
        levels = official.decode(example["segmentation_mask"], "L")
        height, width = image.shape[:2]
        if levels.shape != (height, width):
            raise UnreadableError(
                f"has a mask of {levels.shape[1]}x{levels.shape[0]} instead of {width}x{height}"
            )
        box = official.pixel_box(example["bbox"], width, height)
        mask = (levels >= _MAJORITY).astype(np.uint8)
        return Record(
            square_crop(image, box, size), square_crop_mask(mask, box, size), _name(example)
        )

    return official.skip_damaged(examples, convert, _name, count, max_damaged)
