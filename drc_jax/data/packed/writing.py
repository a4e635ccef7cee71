"""Writing one split in the format of `packed`: whole or not at all."""

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import shutil
from collections.abc import Iterable
from typing import Any

import numpy as np

from drc_jax import files
from drc_jax.data.packed.format import FORMAT_VERSION, Info, Record, check_split_name
from drc_jax.errors import UserError


def write_split(
    root: str | os.PathLike[str],
    split: str,
    records: Iterable[Record],
    *,
    image_size: int,
    has_masks: bool,
    source: dict[str, Any],
    overwrite: bool = False,
) -> Info:
    """Writes a split from a stream of records; only one is held in memory.

    Everything goes to a hidden folder, which takes the split's name once it is on disk. A run that
    is killed or fails therefore leaves the split as it was: absent, or the earlier data.

    Args:
      root: folder of the data set, made if needed.
      split: name of the split: letters, digits, ``_`` and ``-``.
      records: the examples, in order.
      image_size: image side S of every record.
      has_masks: whether every record has a mask; otherwise none may.
      source: what the data were made from, JSON only.
      overwrite: replace a split that is already there.

    Returns:
      The description written.

    Raises:
      UserError: if the split exists and ``overwrite`` is false, if there are no records, if a
        record does not fit, or if ``root`` cannot be written or is being written elsewhere.
    """
    check_split_name(split)
    root = pathlib.Path(root)
    final, partial, previous = _places(root, split)
    busy = f"another process is writing to {root}; wait until it ends"
    with files.locked(root, "a data set", busy):
        _clear_leftovers(root, split)
        if final.exists() and not overwrite:
            raise UserError(f"{final} already exists; choose another folder or pass --overwrite")
        partial.mkdir()
        try:
            info = _write_files(partial, split, records, image_size, has_masks, source)
            if final.exists():
                final.rename(previous)
            partial.rename(final)
            _sync(root)
        finally:
            _clear_leftovers(root, split)
    return info


def _places(root: pathlib.Path, split: str) -> tuple[pathlib.Path, pathlib.Path, pathlib.Path]:
    """Where a split lies, where it is written, and where old data wait to be replaced."""
    return root / split, root / f".{split}.partial", root / f".{split}.previous"


def _clear_leftovers(root: pathlib.Path, split: str) -> None:
    """Removes unfinished data; brings old data back if their replacement did not arrive."""
    final, partial, previous = _places(root, split)
    if previous.exists() and not final.exists():
        previous.rename(final)
    for leftover in (partial, previous):
        if leftover.exists():
            shutil.rmtree(leftover)


def _write_files(
    folder: pathlib.Path,
    split: str,
    records: Iterable[Record],
    image_size: int,
    has_masks: bool,
    source: dict[str, Any],
) -> Info:
    """Writes and syncs the files of one split into ``folder``; returns their description."""
    names: list[str] = []
    digest = hashlib.sha256()
    with contextlib.ExitStack() as stack:
        image_file = stack.enter_context(open(folder / "images.u8", "wb"))
        mask_file = stack.enter_context(open(folder / "masks.u8", "wb")) if has_masks else None
        for record in records:
            image, mask = _checked(record, image_size, has_masks)
            image_bytes = image.tobytes()
            image_file.write(image_bytes)
            digest.update(image_bytes)
            if mask_file is not None and mask is not None:
                mask_bytes = mask.tobytes()
                mask_file.write(mask_bytes)
                digest.update(mask_bytes)
            names.append(str(record.name))
    if not names:
        raise UserError(f"split {split!r} would be empty; there must be at least one image")
    info = Info(
        format_version=FORMAT_VERSION,
        split=split,
        count=len(names),
        image_size=image_size,
        has_masks=has_masks,
        source=source,
        fingerprint=digest.hexdigest(),
    )
    (folder / "names.json").write_text(json.dumps(names), encoding="utf-8")
    text = json.dumps(dataclasses.asdict(info), indent=2)
    (folder / "info.json").write_text(text + "\n", encoding="utf-8")
    for path in sorted(folder.iterdir()):
        _sync(path)
    _sync(folder)
    return info


def _checked(
    record: Record, image_size: int, has_masks: bool
) -> tuple[np.ndarray, np.ndarray | None]:
    """The image and mask of a record as uint8 arrays; UserError where they do not fit."""
    image = np.asarray(record.image)
    if image.dtype != np.uint8 or image.shape != (image_size, image_size, 3):
        raise UserError(
            f"image {record.name!r} must be uint8 [{image_size}, {image_size}, 3], got "
            f"{image.dtype} {list(image.shape)}"
        )
    if (record.mask is not None) != has_masks:
        state = (
            "has no mask, but its split has" if has_masks else "has a mask, but its split has no"
        )
        raise UserError(f"image {record.name!r} {state} masks")
    if record.mask is None:
        return image, None
    mask = np.asarray(record.mask)
    if mask.dtype not in (np.uint8, np.bool_) or mask.shape != (image_size, image_size):
        raise UserError(
            f"mask of {record.name!r} must be uint8 or bool [{image_size}, {image_size}], got "
            f"{mask.dtype} {list(mask.shape)}"
        )
    if mask.max() > 1:
        raise UserError(f"mask of {record.name!r} must be 0 and 1 only, got {mask.max()}")
    return image, mask.astype(np.uint8)


def _sync(path: pathlib.Path) -> None:
    """Asks the system to put a file's bytes, or a folder's entries, on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
