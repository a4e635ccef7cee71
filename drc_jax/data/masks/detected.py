"""Data sets with boxes but no masks: masks are detected and reviewed, or come from a folder."""

import dataclasses
import functools
import hashlib
import json
import logging
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import tqdm

from drc_jax.data.masks import detect, filters, review
from drc_jax.data.masks.filters import MaskFilter, Verdict
from drc_jax.data.masks.folder import MaskFolder
from drc_jax.data.masks.verdicts import Verdicts
from drc_jax.data.packed.datasets import Part, write_dataset
from drc_jax.data.packed.format import Record, open_split, splits
from drc_jax.data.pictures import decode
from drc_jax.data.pictures.crops import Box, square_crop, square_crop_mask
from drc_jax.data.published import builders, official

_log = logging.getLogger(__name__)


class Boxed(NamedTuple):
    """A published picture.

    Attributes:
      name: its name, a path with the file's extension or without.
      image: uint8 [H, W, 3].
      box: around the object, in pixels.
    """

    name: str
    image: np.ndarray
    box: Box


class Published(NamedTuple):
    """A published data set with boxes.

    Attributes:
      name: our name of it.
      builder: its name in TensorFlow Datasets.
      downloads: whether its published addresses still work.
      unique_names: whether its file names differ between its folders.
      picture_name: takes a split's name and an example.
      convert: takes the same and gives the picture; raises as `official.skip_damaged` says.
      rules: which detected masks are good enough.
    """

    name: str
    builder: str
    downloads: bool
    unique_names: bool
    picture_name: Callable[[str, dict[str, Any]], str]
    convert: Callable[[str, dict[str, Any]], Boxed]
    rules: MaskFilter


class _Pictures(NamedTuple):
    """The pictures of a split, to be read once, and how many there are at most."""

    stream: Iterator[Boxed]
    most: int


def prepare(
    published: Published,
    output: str | os.PathLike[str],
    *,
    source: str,
    masks: str | None = None,
    weights: str | None = None,
    size: int = 128,
    max_damaged: float = official.MAX_DAMAGED,
    overwrite: bool = False,
) -> None:
    """Writes the pictures that have a good mask, cropped, as splits ``train`` and ``test``.

    Masks are detected on the cropped pictures, as the paper did (appendix A.2). What was detected
    is kept in ``output/review``, so that an interrupted run goes on and one after an edit of the
    list there only writes the splits again.

    Args:
      published: the data set.
      output: folder of the data set.
      source: folder of the archives.
      masks: folder of masks to use instead of detecting them, see `mask_folder.MaskFolder`;
        pictures without one are left out.
      weights: file of the detector's weights; None for torchvision's own.
      size: image side S in pixels.
      max_damaged: share of damaged pictures, or of unusable masks, that is tolerated.
      overwrite: replace splits that are there.

    Raises:
      UserError: if an extra is not installed, or an archive, a mask, the weights, an argument, a
        file in ``output/review`` or what lies at ``output`` is not as required.
    """
    official.check_options(size, max_damaged)
    # What may be missing is found before the builder's long work.
    given = detector = None
    if masks is not None:
        given = MaskFolder(masks, unique_names=published.unique_names)
    else:
        detector = detect.mask_rcnn(weights)
    builder = builders.prepared_builder(published.builder, source, downloads=published.downloads)
    info: dict[str, Any] = {"dataset": published.name, "builder": builder.info.full_name}
    parts = {
        split: _pictures(published, builder, split, max_damaged) for split in ("train", "test")
    }
    if given is not None:
        info["masks"] = given.fingerprint
        records = {
            split: _with_given(part, given, size, max_damaged) for split, part in parts.items()
        }
    else:
        assert detector is not None
        info["image_size"] = size
        info["weights"] = detect.weights_id(weights)
        info["rules"] = {k: str(v) for k, v in dataclasses.asdict(published.rules).items()}
        folder = pathlib.Path(output) / review.FOLDER
        lists = {split: review.read_list(folder / f"{split}.txt") for split in parts}
        judge = functools.partial(_judge, detector, published.rules)
        records = {
            split: _with_detected(split, part, judge, dict(info), lists[split], folder, size)
            for split, part in parts.items()
        }
        info["overruled"] = _digest_of_overruled(lists)
        overwrite = overwrite or _differs_in_overruled_alone(output, info)
    write_dataset(
        output,
        {split: Part(stream, None) for split, stream in records.items()},
        image_size=size,
        has_masks=True,
        source=info,
        overwrite=overwrite,
    )


def _pictures(published: Published, builder: Any, split: str, max_damaged: float) -> _Pictures:
    stream = official.converted(
        builder,
        split,
        functools.partial(published.convert, split),
        functools.partial(published.picture_name, split),
        encoded=("image",),
        max_damaged=max_damaged,
    )
    return _Pictures(stream, builders.num_examples(builder, split))


def _judge(detector: detect.Detector, rules: MaskFilter, image: np.ndarray) -> Verdict:
    return filters.judge(detector(image), rules)


def _with_detected(
    split: str,
    part: _Pictures,
    judge: Callable[[np.ndarray], Verdict],
    settings: dict[str, Any],
    decided: dict[str, review.Line],
    folder: pathlib.Path,
    size: int,
) -> Iterator[Record]:
    """The pictures that are kept, and on the side the review's files."""
    folder.mkdir(parents=True, exist_ok=True)
    sheets = review.Sheets(folder, split)
    lines = []
    with (
        Verdicts(folder / f"{split}.jsonl", settings, size) as verdicts,
        tqdm.tqdm(part.stream, f"{split}: masks", part.most, leave=False, disable=None) as bar,
    ):
        for picture in bar:
            image = square_crop(picture.image, picture.box, size)
            verdict = verdicts.get(picture.name)
            if verdict is None:
                verdict = judge(image)
                verdicts.add(picture.name, verdict)
            keep = verdict.reason == filters.OK
            line = review.Line(review.KEEP if keep else review.DROP, verdict.reason, picture.name)
            before = decided.get(picture.name)
            if before is not None and before.overruled and verdict.mask is not None:
                line = line._replace(decision=before.decision)
            sheets.add(image, verdict, line)
            lines.append(line)
            if line.decision == review.KEEP:
                yield Record(image, verdict.mask, picture.name)
    sheets.close()
    review.write_list(folder / f"{split}.txt", lines)
    _log.info("look at %s and edit %s.txt there", folder, split)


def _digest_of_overruled(lists: dict[str, dict[str, review.Line]]) -> str:
    """Identifies what a person decided otherwise than the program; empty for nothing."""
    overruled = sorted(
        (split, line.name, line.decision)
        for split, lines in lists.items()
        for line in lines.values()
        if line.overruled
    )
    return hashlib.sha256(json.dumps(overruled).encode()).hexdigest() if overruled else ""


def _differs_in_overruled_alone(output: str | os.PathLike[str], source: dict[str, Any]) -> bool:
    """Whether the splits that are there are out of date only for a person's edits of the list."""
    found = [open_split(output, split).info.source for split in splits(output)]
    return any(f != source for f in found) and all(
        {**f, "overruled": source["overruled"]} == source for f in found
    )


def _with_given(
    part: _Pictures, masks: MaskFolder, size: int, max_damaged: float
) -> Iterator[Record]:
    """The pictures that have a mask in a folder, which covers them whole or as they are cropped."""

    def convert(picture: Boxed) -> Record | None:
        path = masks.find(picture.name)
        if path is None:
            return None
        try:
            mask = decode.read_mask(path)
        except decode.UnreadableError as error:
            raise decode.UnreadableError(f"has a mask, {path}, that {error}") from None
        height, width = picture.image.shape[:2]
        if mask.shape == (height, width):
            mask = square_crop_mask(mask, picture.box, size)
        elif mask.shape != (size, size):
            raise decode.UnreadableError(
                f"has a mask, {path}, of {mask.shape[1]}x{mask.shape[0]} instead of "
                f"{width}x{height}, as the picture, or {size}x{size}, as the crop"
            )
        return Record(square_crop(picture.image, picture.box, size), mask, picture.name)

    missing = 0
    for record in official.skip_damaged(
        part.stream, convert, lambda picture: picture.name, part.most, max_damaged
    ):
        if record is None:
            missing += 1
        else:
            yield record
    if missing:
        _log.warning("left out %d of %d pictures, which have no mask", missing, part.most)
