"""Data from a folder of photographs of any kind and shape, with or without masks."""

import collections
import functools
import hashlib
import json
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterator
from typing import IO, NamedTuple

import numpy as np
import tqdm

from drc_jax.data.packed.datasets import Part, check_division, check_existing, divide, write_dataset
from drc_jax.data.packed.format import Record
from drc_jax.data.pictures import boxes as box_files
from drc_jax.data.pictures import crops, decode
from drc_jax.data.pictures.files import Problem, list_files, printable, stem
from drc_jax.errors import UserError

REPORT = "report.json"
CROPS = ("centre", "boxes", "letterbox")

_SHOWN = 5  # damaged files that are named on the terminal; the report has all

# Finds the mask of a picture by its name; UnreadableError where there is none.
FindMask = Callable[[str], pathlib.Path]


class _Found(NamedTuple):
    """What became of every file; names in order."""

    kept: list[str]
    damaged: list[Problem]
    duplicates: list[Problem]
    ignored: list[Problem]


def prepare(
    output: str | os.PathLike[str],
    *,
    source: str,
    masks: str | None = None,
    crop: str | None = None,
    boxes: str | None = None,
    size: int = 128,
    test_fraction: float = 0.1,
    seed: int = 0,
    max_damaged: float = 0.1,
    overwrite: bool = False,
) -> None:
    """Writes the pictures below a folder as packed splits ``train`` and ``test``.

    Pictures are read as `decode.read_picture` says and made square. Those that show the same pixels
    after that are kept once. ``report.json`` in the output folder names every file that was left
    out and why: damaged ones (which includes those without a usable mask or box, and sub-folders
    that cannot be entered), duplicates, and files that are no pictures.

    Args:
      output: folder of the data set.
      source: the folder with the pictures; sub-folders are searched.
      masks: a folder that mirrors ``source``: the mask of ``a/b.jpg`` is ``a/b.*`` in it, of the
        same size as the upright picture; see `decode.read_mask`. None for no masks.
      crop: ``centre`` takes the largest square in the middle, ``boxes`` the square around each
        picture's box, ``letterbox`` the whole picture between grey bars. None takes ``boxes``
        where there are some, otherwise ``centre``.
      boxes: the CSV file that `boxes.load` reads.
      size: image side in pixels.
      test_fraction: share of the pictures in ``test``, 0 to 1; at 0 or 1 there is one split only.
      seed: seed of the division.
      max_damaged: share of the pictures that may be damaged.
      overwrite: replace splits that are there.

    Raises:
      UserError: if an argument is of no use, there are no pictures or too many damaged ones, or
        ``output`` holds other data.
    """
    crop = crop or ("boxes" if boxes else "centre")
    _check(crop, boxes, size, test_fraction, seed, max_damaged)
    folder, root = _folder("source", source), pathlib.Path(output)
    source_info = {
        "dataset": "folder",
        "folder": printable(folder.name),
        "crop": crop,
        "test_fraction": test_fraction,
        "seed": seed,
    }
    has_masks = masks is not None
    check_existing(  # before hours of reading rather than after
        root,
        dict.fromkeys(divide(2, test_fraction, seed)),
        {"image_size": size, "has_masks": has_masks, **source_info},
        overwrite=overwrite,
        may_have_more=True,
    )
    leave_out = [root]
    find_mask: FindMask | None = None
    if masks is not None:
        mask_folder = _folder("masks", masks)
        if mask_folder == folder:
            raise UserError(f"--masks={masks} is the folder of the pictures; give one of its own")
        find_mask = functools.partial(_find_mask, mask_folder, _by_stem(mask_folder))
        leave_out.append(mask_folder)
    box_of = box_files.load(pathlib.Path(boxes)) if boxes else None
    names, closed, ignored = list_files(folder, leave_out)
    if box_of is not None:
        ignored += [Problem(n, "has a box, but no picture") for n in sorted({*box_of} - {*names})]

    with _spool(root) as spool:
        read = functools.partial(_read_example, folder, find_mask, crop, box_of, size)
        found, digest = _read_all(names, read, spool)
        found.damaged.extend(closed)
        found.ignored.extend(ignored)
        _report(root, folder, found, max_damaged)
        write_dataset(
            root,
            {
                split: Part(_records(spool, found.kept, indices, size, has_masks), len(indices))
                for split, indices in divide(len(found.kept), test_fraction, seed).items()
            },
            image_size=size,
            has_masks=has_masks,
            source={**source_info, "pictures": digest},
            overwrite=overwrite,
        )


def _check(
    crop: str, boxes: str | None, size: int, test_fraction: float, seed: int, max_damaged: float
) -> None:
    """Raises UserError at the first argument of no use."""
    check_division(test_fraction, seed)
    if crop not in CROPS:
        raise UserError(f"crop must be one of {', '.join(CROPS)}; got {crop!r}")
    if (crop == "boxes") != (boxes is not None):
        raise UserError(f"crop {crop!r} and boxes {boxes!r} do not fit; boxes=FILE goes with boxes")
    if size < 1:
        raise UserError(f"size must be at least 1, got {size}")
    if not 0 <= max_damaged <= 1:
        raise UserError(f"max_damaged must be from 0 to 1, got {max_damaged}")


def _folder(flag: str, path: str) -> pathlib.Path:
    if not os.path.isdir(path):
        raise UserError(f"--{flag}={path} is not a folder")
    return pathlib.Path(path).resolve()


def _by_stem(mask_folder: pathlib.Path) -> dict[str, list[str]]:
    """The files in the masks' folder by their path without the extension."""
    by_stem: dict[str, list[str]] = collections.defaultdict(list)
    for name in list_files(mask_folder).names:
        by_stem[stem(name)].append(name)
    return dict(by_stem)


def _find_mask(folder: pathlib.Path, by_stem: dict[str, list[str]], name: str) -> pathlib.Path:
    found = by_stem.get(stem(name), [])
    if len(found) > 1:  # annotations of other kinds often lie beside masks
        found = [n for n in found if pathlib.PurePath(n).suffix.lower() in decode.EXTENSIONS]
    if len(found) != 1:
        state = f"several masks: {', '.join(found)}" if found else f"no mask {stem(name)}.*"
        raise decode.UnreadableError(f"has {state}")
    return folder / found[0]


def _read_example(
    folder: pathlib.Path,
    find_mask: FindMask | None,
    crop: str,
    box_of: dict[str, crops.Box] | None,
    size: int,
    name: str,
) -> tuple[np.ndarray, np.ndarray | None]:
    """The square picture uint8 [S, S, 3] and its mask uint8 [S, S] of 0 and 1.

    Raises:
      UnreadableError: if the picture, its mask or its box is of no use.
    """
    image = decode.read_picture(folder / name)
    mask = None if find_mask is None else _read_mask(find_mask(name), image.shape[:2])
    if box_of is not None:
        if name not in box_of:
            raise decode.UnreadableError("has no box")
        box = box_of[name]
        try:
            square = crops.square_crop(image, box, size)
        except ValueError as error:
            raise decode.UnreadableError(f"cannot be cropped: {error}") from None
        return square, None if mask is None else crops.square_crop_mask(mask, box, size)
    if crop == "letterbox":
        square, crop_mask = crops.letterbox(image, size), crops.letterbox_mask
    else:
        square, crop_mask = crops.centre_crop(image, size), crops.centre_crop_mask
    return square, None if mask is None else crop_mask(mask, size)


def _read_mask(path: pathlib.Path, shape: tuple[int, ...]) -> np.ndarray:
    try:
        mask = decode.read_mask(path)
    except decode.UnreadableError as error:
        raise decode.UnreadableError(f"has a mask, {path.name}, that {error}") from None
    if mask.shape != shape:
        sizes = [f"{width}x{height}" for height, width in (mask.shape, shape)]
        raise decode.UnreadableError(f"has a mask of {sizes[0]} pixels, but is {sizes[1]}")
    return mask


def _spool(root: pathlib.Path) -> IO[bytes]:
    """A nameless file beside the data: reading twice is cheaper than decoding twice."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryFile(dir=root)
    except OSError as error:
        raise UserError(f"cannot write a data set at {root}: {error.strerror}") from None


def _read_all(
    names: list[str],
    read: Callable[[str], tuple[np.ndarray, np.ndarray | None]],
    spool: IO[bytes],
) -> tuple[_Found, str]:
    """Reads every file once and appends the good examples to ``spool``, image then mask.

    Returns:
      What became of the files, and a digest of the examples with their names.
    """
    found = _Found([], [], [], [])
    first_of: dict[bytes, str] = {}
    whole = hashlib.sha256()
    # None: no bar where the output is not a terminal.
    for name in tqdm.tqdm(names, "reading", unit="file", disable=None):
        try:
            image, mask = read(name)
        except decode.NotAPictureError as error:
            found.ignored.append(Problem(name, str(error)))
            continue
        except decode.UnreadableError as error:
            found.damaged.append(Problem(name, str(error)))
            continue
        content = hashlib.sha256(image.tobytes()).digest()
        first = first_of.setdefault(content, name)
        if first != name:
            found.duplicates.append(Problem(name, f"shows the same as {first}"))
            continue
        found.kept.append(name)
        example = image.tobytes() + (b"" if mask is None else mask.tobytes())
        spool.write(example)
        whole.update(json.dumps(name).encode() + example)
    return found, whole.hexdigest()


def _report(root: pathlib.Path, folder: pathlib.Path, found: _Found, max_damaged: float) -> None:
    """Writes and prints what became of the files; UserError if too many are damaged."""
    lists = found._asdict()
    num_kept = len(lists.pop("kept"))
    text = json.dumps(
        {
            "source": printable(str(folder)),
            "kept": num_kept,
            **{
                kind: {printable(name): printable(reason) for name, reason in sorted(problems)}
                for kind, problems in lists.items()
            },
        },
        indent=1,
        ensure_ascii=False,
    )
    (root / REPORT).write_text(text + "\n", encoding="utf-8")
    counts = ", ".join(f"{len(problems)} {kind}" for kind, problems in lists.items())
    print(f"{printable(str(folder))}: {num_kept} pictures kept, {counts}; see {root / REPORT}")
    for name, reason in found.damaged[:_SHOWN]:
        print(f"  damaged: {printable(name)} {printable(reason)}")
    if len(found.damaged) > _SHOWN:
        print(f"  damaged: {len(found.damaged) - _SHOWN} more")
    pictures = num_kept + len(found.damaged) + len(found.duplicates)
    if not pictures:
        raise UserError(f"there are no pictures in {folder}")
    if len(found.damaged) > max_damaged * pictures:
        raise UserError(
            f"{len(found.damaged)} of {pictures} pictures cannot be used, more than the share "
            f"max_damaged {max_damaged:g}; {root / REPORT} names them: mend or remove them, or "
            "raise --max_damaged"
        )
    if not num_kept:
        raise UserError(f"no picture in {folder} can be used; see {root / REPORT}")


def _records(
    spool: IO[bytes], names: list[str], indices: np.ndarray, size: int, has_masks: bool
) -> Iterator[Record]:
    pixels = size * size
    length = pixels * (4 if has_masks else 3)
    for i in indices:
        spool.seek(int(i) * length)
        example = np.frombuffer(spool.read(length), np.uint8)
        mask = example[3 * pixels :].reshape(size, size) if has_masks else None
        yield Record(example[: 3 * pixels].reshape(size, size, 3), mask, printable(names[i]))
