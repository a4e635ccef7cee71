"""Writing one split in the format of `format`: whole or not at all."""

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import pathlib
import shutil
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from drc_jax import files
from drc_jax.data.packed.format import FORMAT_VERSION, Info, Record, check_split_name, digest_of
from drc_jax.data.packed.reading import sampled_digest
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
    is killed or fails therefore leaves the split as it was: absent, or the earlier data. Labels of
    objects are written where the first record has them; then all must.

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
        record does not fit, or if ``root`` cannot be written, as on a full disk, or is being
        written elsewhere.
    """
    check_split_name(split)
    root = pathlib.Path(root)
    final, partial, previous = _places(root, split)
    busy = f"another process is writing to {root}; wait until it ends"
    with files.locked(root, "a data set", busy), _full_disk_told(root):
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


@contextlib.contextmanager
def _full_disk_told(root: pathlib.Path) -> Iterator[None]:
    """Makes one line of the errors that come from writing alone; reading records has others."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG):
            raise
        raise UserError(f"cannot write the data set at {root}: {files.reason(error)}") from None


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
    digest, labels_digest = hashlib.sha256(), hashlib.sha256()
    label_file = None
    with contextlib.ExitStack() as stack:
        image_file = stack.enter_context(open(folder / "images.u8", "wb"))
        mask_file = stack.enter_context(open(folder / "masks.u8", "wb")) if has_masks else None
        for record in records:
            if not names and record.labels is not None:
                label_file = stack.enter_context(open(folder / "labels.u8", "wb"))
            image, mask, labels = _checked(record, image_size, has_masks, label_file is not None)
            image_file.write(image.data)
            digest.update(image.data)
            if mask_file is not None and mask is not None:
                mask_file.write(mask.data)
                digest.update(mask.data)
            if label_file is not None and labels is not None:
                label_file.write(labels.data)
                labels_digest.update(labels.data)
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
        labels_fingerprint="" if label_file is None else labels_digest.hexdigest(),
    )
    (folder / "names.json").write_text(json.dumps(names), encoding="utf-8")
    info = dataclasses.replace(
        info,
        samples=sampled_digest([folder / name for name in info.array_files]),
        names_fingerprint=digest_of(folder / "names.json"),
    )
    text = json.dumps(dataclasses.asdict(info), indent=2)
    (folder / "info.json").write_text(text + "\n", encoding="utf-8")
    for path in sorted(folder.iterdir()):
        _sync(path)
    _sync(folder)
    return info


def _checked(
    record: Record, image_size: int, has_masks: bool, has_labels: bool
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Image, mask and labels of a record as uint8 arrays; UserError where they do not fit."""
    image = np.ascontiguousarray(record.image)
    if image.dtype != np.uint8 or image.shape != (image_size, image_size, 3):
        raise UserError(
            f"image {record.name!r} must be uint8 [{image_size}, {image_size}, 3], got "
            f"{image.dtype} {list(image.shape)}"
        )
    mask = _flat(record.name, "mask", record.mask, image_size, has_masks)
    if mask is not None and mask.max() > 1:
        raise UserError(f"mask of {record.name!r} must be 0 and 1 only, got {mask.max()}")
    return image, mask, _flat(record.name, "labels", record.labels, image_size, has_labels)


def _flat(
    name: str, what: str, found: np.ndarray | None, size: int, is_wanted: bool
) -> np.ndarray | None:
    """A record's mask or labels, uint8 [S, S]; UserError where they do not fit."""
    if (found is not None) != is_wanted:
        one, several = ("a mask", "masks") if what == "mask" else ("labels", "labels")
        if is_wanted:
            raise UserError(f"image {name!r} has no {what}, but its split has {several}")
        raise UserError(f"image {name!r} has {one}, but its split has no {several}")
    if found is None:
        return None
    array = np.asarray(found)
    if array.dtype not in (np.uint8, np.bool_) or array.shape != (size, size):
        raise UserError(
            f"{what} of {name!r} must be uint8 or bool [{size}, {size}], got "
            f"{array.dtype} {list(array.shape)}"
        )
    return np.ascontiguousarray(array, np.uint8)


def _sync(path: pathlib.Path) -> None:
    """Asks the system to put a file's bytes, or a folder's entries, on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
