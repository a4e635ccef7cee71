"""The on-disk format every trainer reads: raw bytes beside a small JSON description.

A data set is a folder with one sub-folder per split (``train``, ``test``, ...), each holding

    images.u8    N*S*S*3 bytes, uint8 RGB, NHWC
    masks.u8     N*S*S bytes, 0 or 1 (1 = foreground); only where the data have masks
    names.json   N strings
    info.json    the fields of `Info`

Raw bytes can be memory-mapped, so opening is immediate and reading an image is one copy. A split
appears under its name only once it is complete and on disk.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import pathlib
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from drc_jax.errors import UserError

FORMAT_VERSION = 1
_PREPARE = "write it with `python -m experiments.prepare`"
_AGAIN = "write it again with `python -m experiments.prepare --overwrite`"


class Record(NamedTuple):
    """One example.

    Attributes:
      image: uint8 [S, S, 3], RGB.
      mask: uint8 or bool [S, S], 1 = foreground; None for data without masks.
      name: where the example came from; free text.
    """

    image: np.ndarray
    mask: np.ndarray | None
    name: str


@dataclasses.dataclass(frozen=True)
class Info:
    """The description of a split, as stored in ``info.json``.

    Attributes:
      format_version: version of this format.
      split: name of the split.
      count: number of images N.
      image_size: image side S in pixels.
      has_masks: whether every image has a mask.
      source: what the data were made from; free, JSON only.
      fingerprint: hex SHA-256 over each record's image bytes followed by its mask bytes.
    """

    format_version: int
    split: str
    count: int
    image_size: int
    has_masks: bool
    source: dict[str, Any]
    fingerprint: str


class PackedSplit:
    """A split opened for reading: a random access source of examples.

    Attributes:
      path: the split's folder.
      info: its description.
      names: N strings.
      images: uint8 [N, S, S, 3], memory-mapped, read-only.
      masks: uint8 [N, S, S] of 0 and 1, memory-mapped, read-only; None for data without masks.
    """

    def __init__(self, path: pathlib.Path, info: Info, names: list[str]) -> None:
        shape = (info.count, info.image_size, info.image_size)
        self.path = path
        self.info = info
        self.names = names
        self.images = np.memmap(path / "images.u8", np.uint8, "r", shape=(*shape, 3))
        self.masks: np.ndarray | None = None
        if info.has_masks:
            self.masks = np.memmap(path / "masks.u8", np.uint8, "r", shape=shape)

    def __len__(self) -> int:
        return self.info.count

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One example, copied into memory.

        Args:
          index: 0 <= index < N; negative indices are refused.

        Returns:
          ``image`` uint8 [S, S, 3], ``index`` int32 [], and ``mask`` uint8 [S, S] if there is one.

        Raises:
          IndexError: if ``index`` is out of range.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} is outside the {len(self)} images of {self.path}")
        example = {"image": np.array(self.images[index]), "index": np.int32(index)}
        if self.masks is not None:
            example["mask"] = np.array(self.masks[index])
        return example

    def __reduce__(self) -> tuple[Callable[..., "PackedSplit"], tuple[pathlib.Path, str]]:
        # A pickled memory map would carry the whole data set; reopening carries only its path.
        return open_split, (self.path.parent, self.path.name)

    def __repr__(self) -> str:
        return f"PackedSplit({str(self.path)!r}, count={len(self)})"

    def require_masks(self) -> np.ndarray:
        """The masks, uint8 [N, S, S].

        Raises:
          UserError: if the split has none.
        """
        if self.masks is None:
            raise UserError(
                f"{self.path} has no masks, which evaluation needs; prepare the data from a source "
                "with masks"
            )
        return self.masks


def splits(root: str | os.PathLike[str]) -> list[str]:
    """Names of the splits in ``root``, sorted; empty if there are none or no such folder."""
    folder = pathlib.Path(root)
    if not folder.is_dir():
        return []
    return sorted(p.parent.name for p in folder.glob("[!.]*/info.json"))


def open_split(root: str | os.PathLike[str], split: str) -> PackedSplit:
    """Opens a split and checks it against its description.

    Args:
      root: folder of the data set.
      split: name of the split.

    Returns:
      The split, memory-mapped.

    Raises:
      UserError: if the folder, the split or one of its files is absent, cut short, unreadable or
        of another format version.
    """
    _check_split_name(split)
    path = pathlib.Path(root) / split
    if not path.is_dir():
        found = splits(root)
        if found:
            raise UserError(f"{root} has no split {split!r}, only {', '.join(found)}; {_PREPARE}")
        raise UserError(f"there is no packed data set at {root}; {_PREPARE}")
    info = _parse_info(path / "info.json")
    names = _read_json(path / "names.json")
    if not isinstance(names, list) or len(names) != info.count:
        raise UserError(f"{path / 'names.json'} must list {info.count} names; {_AGAIN}")
    pixels = info.count * info.image_size**2
    _check_file_size(path / "images.u8", 3 * pixels)
    if info.has_masks:
        _check_file_size(path / "masks.u8", pixels)
    return PackedSplit(path, info, names)


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
    _check_split_name(split)
    root = pathlib.Path(root)
    final, partial, previous = _places(root, split)
    with _locked_folder(root):
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


@contextlib.contextmanager
def _locked_folder(root: pathlib.Path) -> Iterator[None]:
    """Makes ``root`` and locks it for this process alone, until the end or a kill."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise UserError(f"cannot write a data set at {root}: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise UserError(f"another process is writing to {root}; wait until it ends") from None
    try:
        yield
    finally:
        os.close(descriptor)


def _sync(path: pathlib.Path) -> None:
    """Asks the system to put a file's bytes, or a folder's entries, on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check_split_name(split: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", split):
        raise UserError(f"a split is named in letters, digits, _ and -, got {split!r}")


def _read_json(path: pathlib.Path) -> Any:
    if not path.is_file():
        raise UserError(f"{path} is missing; {_AGAIN}")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise UserError(f"{path} is not valid JSON; {_AGAIN}") from None


def _parse_info(path: pathlib.Path) -> Info:
    values = _read_json(path)
    version = values.get("format_version") if isinstance(values, dict) else None
    if version != FORMAT_VERSION:
        raise UserError(
            f"{path} has format version {version!r}, this code reads {FORMAT_VERSION}; {_AGAIN}"
        )
    for field in dataclasses.fields(Info):
        kind = dict if field.name == "source" else field.type
        if type(values.get(field.name)) is not kind:
            raise UserError(f"{path} has no valid {field.name!r}; {_AGAIN}")
    return Info(**{field.name: values[field.name] for field in dataclasses.fields(Info)})


def _check_file_size(path: pathlib.Path, expected: int) -> None:
    if not path.is_file():
        raise UserError(f"{path} is missing; {_AGAIN}")
    if path.stat().st_size != expected:
        raise UserError(f"{path} has {path.stat().st_size} bytes instead of {expected}; {_AGAIN}")
