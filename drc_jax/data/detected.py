"""Data sets with boxes but no masks: masks are detected and reviewed, or come from a folder."""

import base64
import dataclasses
import hashlib
import json
import logging
import os
import pathlib
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import tqdm

from drc_jax.data import decode, detect, mask_filters, official, review
from drc_jax.data.crops import Box, square_crop, square_crop_mask
from drc_jax.data.packed import Record, open_split, splits
from drc_jax.data.writing import Part, write_dataset
from drc_jax.errors import UserError

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


class Split(NamedTuple):
    """A split of a data set with boxes.

    Attributes:
      pictures: its pictures, to be read once.
      most: how many there are at most.
    """

    pictures: Iterator[Boxed]
    most: int


def write(
    output: str | os.PathLike[str],
    parts: dict[str, Split],
    rules: mask_filters.MaskFilter,
    *,
    source: dict[str, Any],
    size: int,
    masks: "MaskFolder | None",
    weights: str | None,
    max_damaged: float,
    overwrite: bool,
) -> None:
    """Crops pictures, gives them masks and writes those with a good one as packed splits.

    Masks are detected on the cropped pictures, as the paper did (appendix A.2). What was detected
    is kept in ``output/review``, so that an interrupted run goes on and one after an edit of the
    list there only writes the splits again.

    Args:
      output: folder of the data set.
      parts: the splits by name.
      rules: which detected masks are good enough.
      source: what the pictures came from, JSON only.
      size: image side S in pixels.
      masks: masks to use instead of detecting; pictures without one are left out.
      weights: file of the detector's weights; None for torchvision's own.
      max_damaged: share of masks of no use that is tolerated in ``masks``.
      overwrite: replace splits that are there.

    Raises:
      UserError: if the detector cannot be had, a file in ``output/review`` is not as required, or
        ``output`` holds other data.
    """
    if masks is not None:
        source = {**source, "masks": masks.fingerprint}
        records = {
            name: _with_given(part, masks, size, max_damaged) for name, part in parts.items()
        }
    else:
        settings = {
            **source,
            "image_size": size,
            "weights": detect.weights_id(weights),
            "rules": {k: str(v) for k, v in dataclasses.asdict(rules).items()},
        }
        detector = detect.mask_rcnn(weights)
        folder = pathlib.Path(output) / review.FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        lists = {name: review.read_list(folder / f"{name}.txt") for name in parts}
        source = {**settings, "overruled": _digest_of_overruled(lists)}
        overwrite = overwrite or _differs_in_overruled_alone(output, source)
        records = {
            name: _with_detected(name, part, detector, rules, settings, lists[name], folder, size)
            for name, part in parts.items()
        }
    write_dataset(
        output,
        {name: Part(stream, None) for name, stream in records.items()},
        image_size=size,
        has_masks=True,
        source=source,
        overwrite=overwrite,
    )


def boxed_pictures(
    builder: Any,
    split: str,
    convert: Callable[[dict[str, Any]], Boxed],
    name: Callable[[dict[str, Any]], str],
    max_damaged: float,
) -> Split:
    """The pictures of a builder's split, without damaged ones; see `official.skip_damaged`."""
    count = official.num_examples(builder, split)
    stored = official.examples(builder, split, encoded=("image",))
    good = official.skip_damaged(stored, convert, name, count, max_damaged)
    return Split(good, count)


def _with_detected(
    split: str,
    part: Split,
    detector: detect.Detector,
    rules: mask_filters.MaskFilter,
    settings: dict[str, Any],
    decided: dict[str, review.Line],
    folder: pathlib.Path,
    size: int,
) -> Iterator[Record]:
    """The pictures that are kept, and on the side the review's files."""
    sheets = review.Sheets(folder, split)
    lines = []
    with (
        _Verdicts(folder / f"{split}.jsonl", settings, size) as verdicts,
        tqdm.tqdm(part.pictures, f"{split}: masks", part.most, leave=False, disable=None) as bar,
    ):
        for picture in bar:
            image = square_crop(picture.image, picture.box, size)
            verdict = verdicts.get(picture.name)
            if verdict is None:
                verdict = mask_filters.judge(detector(image), rules)
                verdicts.add(picture.name, verdict)
            keep = verdict.reason == mask_filters.OK
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


class _Verdicts:
    """The verdicts on a split's pictures, kept in a file, for detecting takes hours.

    The first line holds the settings, every other a picture's name and verdict. A line that a kill
    has cut short is dropped.
    """

    def __init__(self, path: pathlib.Path, settings: dict[str, Any], size: int) -> None:
        self._size = size
        self._known: dict[str, dict[str, Any]] = {}
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        lines = [line for line in lines if line.endswith(b"\n")]
        if lines and json.loads(lines[0]) != settings:
            raise UserError(
                f"{path} was made with other settings or weights; delete {path.parent} to detect "
                "again, or choose another output folder"
            )
        for line in lines[1:]:
            entry = json.loads(line)
            self._known[entry["name"]] = entry
        self._file = open(path, "ab")
        self._file.truncate(sum(map(len, lines)))
        if not lines:
            self._write(settings)

    def __enter__(self) -> "_Verdicts":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def get(self, name: str) -> mask_filters.Verdict | None:
        """The verdict on a picture; None if it has not been judged yet."""
        entry = self._known.get(name)
        if entry is None:
            return None
        mask = None
        if entry["mask"] is not None:
            bits = np.frombuffer(zlib.decompress(base64.b64decode(entry["mask"])), np.uint8)
            pixels = self._size**2
            mask = np.unpackbits(bits, count=pixels).reshape(self._size, self._size)
        return mask_filters.Verdict(entry["reason"], entry["detail"], mask)

    def add(self, name: str, verdict: mask_filters.Verdict) -> None:
        """Keeps the verdict on a picture."""
        mask = None
        if verdict.mask is not None:
            mask = base64.b64encode(zlib.compress(np.packbits(verdict.mask).tobytes())).decode()
        entry = {"name": name, "reason": verdict.reason, "detail": verdict.detail, "mask": mask}
        self._write(entry)

    def _write(self, value: dict[str, Any]) -> None:
        self._file.write(json.dumps(value).encode() + b"\n")
        self._file.flush()


class MaskFolder:
    """Masks in a folder, named as their pictures but for the extension.

    A mask belongs to the picture with its file name. Where pictures of several folders share a
    name, the mask's folder has to be named as the picture's.

    Attributes:
      fingerprint: identifies the masks by their names and bytes.
    """

    def __init__(self, folder: str | os.PathLike[str], *, unique_names: bool) -> None:
        """Lists the files.

        Args:
          folder: searched with its sub-folders.
          unique_names: whether the data set's file names differ between its folders.

        Raises:
          UserError: if there is no such folder or no picture in it.
        """
        self._unique_names = unique_names
        self._paths: dict[str, list[pathlib.Path]] = {}
        root = pathlib.Path(folder)
        if not root.is_dir():
            raise UserError(f"there is no folder {root}; --masks must name a folder of masks")
        digest = hashlib.sha256()
        for path in sorted(root.rglob("*")):
            if path.suffix.lower() in decode.EXTENSIONS and path.is_file():
                digest.update(f"{path.relative_to(root)}\n".encode())
                digest.update(hashlib.sha256(path.read_bytes()).digest())
                self._paths.setdefault(path.stem, []).append(path)
        if not self._paths:
            raise UserError(f"{root} holds no pictures; --masks must name a folder of masks")
        self.fingerprint = digest.hexdigest()

    def find(self, name: str) -> pathlib.Path | None:
        """The mask of a picture, if it has one."""
        picture = pathlib.PurePath(name)
        # Names without an extension may contain dots.
        stem = picture.stem if picture.suffix.lower() in decode.EXTENSIONS else picture.name
        found = self._paths.get(stem, [])
        beside = [path for path in found if path.parent.name == picture.parent.name]
        if beside:
            return beside[0]
        return found[0] if found and self._unique_names else None


def _with_given(part: Split, masks: MaskFolder, size: int, max_damaged: float) -> Iterator[Record]:
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
        part.pictures, convert, lambda picture: picture.name, part.most, max_damaged
    ):
        if record is None:
            missing += 1
        else:
            yield record
    if missing:
        _log.warning("left out %d of %d pictures, which have no mask", missing, part.most)
