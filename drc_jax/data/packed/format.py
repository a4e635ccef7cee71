"""The on-disk format every trainer reads: raw bytes beside a small JSON description.

A data set is a folder with one sub-folder per split (``train``, ``test``, ...), each holding

    images.u8    N*S*S*3 bytes, uint8 RGB, NHWC
    masks.u8     N*S*S bytes, 0 or 1 (1 = foreground); only where the data have masks
    labels.u8    N*S*S bytes, 0 the background, 1, 2, ... objects; only where the data have labels
    names.json   N strings
    info.json    the fields of `Info`

Raw bytes are read by position, so opening is immediate and reading an image is one copy. A split
appears under its name only once it is complete and on disk; `writing` writes it. Opening compares
the files' sizes, a digest of the names and one of sampled blocks with info.json; every byte is
compared on demand.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from drc_jax.data.packed.reading import FileArray, largest_sampled, sampled_digest
from drc_jax.errors import UserError
from drc_jax.files import reason, shown

FORMAT_VERSION = 1
_PREPARE = "write it with `python -m experiments.prepare`"
_PIECE_BYTES = 64 << 20  # held in memory while a split is verified
_AGAIN = "write it again with `python -m experiments.prepare --overwrite`"


class Record(NamedTuple):
    """One example.

    Attributes:
      image: uint8 [S, S, 3], RGB.
      mask: uint8 or bool [S, S], 1 = foreground; None for data without masks.
      name: where the example came from; free text.
      labels: uint8 [S, S], 0 for the background, 1, 2, ... for the objects that make up the mask;
        None for data without instance labels.
    """

    image: np.ndarray
    mask: np.ndarray | None
    name: str
    labels: np.ndarray | None = None


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
      labels_fingerprint: hex SHA-256 over the label bytes; empty for data without labels.
      samples: hex SHA-256 over sampled blocks of the files of arrays.
      names_fingerprint: hex SHA-256 over names.json.

    Data packed before there were ``samples`` or ``names_fingerprint`` have them empty.
    """

    format_version: int
    split: str
    count: int
    image_size: int
    has_masks: bool
    source: dict[str, Any]
    fingerprint: str
    labels_fingerprint: str = ""
    samples: str = ""
    names_fingerprint: str = ""

    @property
    def array_files(self) -> list[str]:
        """Names of the files of arrays that the split has."""
        names = ["images.u8"]
        if self.has_masks:
            names.append("masks.u8")
        if self.labels_fingerprint:
            names.append("labels.u8")
        return names


class PackedSplit:
    """A split opened for reading: a random access source of examples.

    Attributes:
      path: the split's folder.
      info: its description.
      names: N strings.
      images: uint8 [N, S, S, 3]; like `masks` and `labels` in a file, and read when indexed.
      masks: uint8 [N, S, S] of 0 and 1; None for data without masks.
      labels: uint8 [N, S, S], 0 for the background, 1, 2, ... for objects; None for data without.
    """

    def __init__(self, path: pathlib.Path, info: Info, names: list[str]) -> None:
        shape = (info.count, info.image_size, info.image_size)
        found = info.array_files
        self.path = path
        self.info = info
        self.names = names
        self.images = FileArray(path / "images.u8", (*shape, 3))
        self.masks = FileArray(path / "masks.u8", shape) if "masks.u8" in found else None
        self.labels = FileArray(path / "labels.u8", shape) if "labels.u8" in found else None

    def __len__(self) -> int:
        return self.info.count

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One example, copied into memory.

        Args:
          index: 0 <= index < N; negative indices are refused.

        Returns:
          ``image`` uint8 [S, S, 3], ``index`` int32 [], and ``mask`` and ``labels`` uint8 [S, S]
          where there are any.

        Raises:
          IndexError: if ``index`` is out of range.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} is outside the {len(self)} images of {self.path}")
        example = {"image": self.images[index], "index": np.int32(index)}
        if self.masks is not None:
            example["mask"] = self.masks[index]
        if self.labels is not None:
            example["labels"] = self.labels[index]
        return example

    def __reduce__(self) -> tuple[Callable[..., "PackedSplit"], tuple[pathlib.Path, str]]:
        # Open files cannot be pickled; whoever unpickles opens them again.
        return open_split, (self.path.parent, self.path.name)

    def __repr__(self) -> str:
        return f"PackedSplit({str(self.path)!r}, count={len(self)})"

    def require_masks(self) -> FileArray:
        """The masks, uint8 [N, S, S], read when indexed; ``np.asarray`` reads them all.

        Raises:
          UserError: if the split has none.
        """
        if self.masks is None:
            raise UserError(
                f"{self.path} has no masks, which evaluation needs; prepare the data from a source "
                "with masks (a folder of photographs: --masks=DIR)"
            )
        return self.masks


def splits(root: str | os.PathLike[str]) -> list[str]:
    """Names of the splits in ``root``, sorted; empty if there are none or no such folder."""
    folder = pathlib.Path(root)
    if not folder.is_dir():
        return []
    return sorted(p.parent.name for p in folder.glob("[!.]*/info.json"))


def open_split(root: str | os.PathLike[str], split: str, *, verify: bool = False) -> PackedSplit:
    """Opens a split and checks it against its description.

    Args:
      root: folder of the data set.
      split: name of the split.
      verify: read every byte and compare it with the fingerprint. Otherwise sampled blocks are
        compared, where the description has a digest of them.

    Returns:
      The split; its arrays are read when they are indexed.

    Raises:
      UserError: if the folder, the split or one of its files is absent, cut short, altered,
        unreadable or of another format version, or if the split is empty.
    """
    check_split_name(split)
    path = pathlib.Path(root) / split
    try:
        opened = _open(path)
        if verify:
            _verify(opened)
    except OSError as error:
        raise UserError(f"cannot read {shown(path)}: {reason(error)}") from None
    return opened


def _open(path: pathlib.Path) -> PackedSplit:
    if not path.is_dir():
        root, found = path.parent, splits(path.parent)
        if found:
            raise UserError(
                f"{root} has no split {path.name!r}, only {', '.join(found)}; {_PREPARE}"
            )
        raise UserError(f"there is no packed data set at {root}; {_PREPARE}")
    info = _parse_info(path / "info.json")
    names = _read_json(path / "names.json")
    if not isinstance(names, list) or len(names) != info.count:
        raise UserError(f"{path / 'names.json'} must list {info.count} names; {_AGAIN}")
    if info.names_fingerprint not in ("", digest_of(path / "names.json")):
        raise _altered(path)
    pixels = info.count * info.image_size**2
    for name in info.array_files:
        _check_file_size(path / name, 3 * pixels if name == "images.u8" else pixels)
    if info.has_masks and largest_sampled(path / "masks.u8") > 1:
        raise _odd_masks(path)
    if info.samples and info.samples != sampled_digest([path / name for name in info.array_files]):
        raise _altered(path)
    return PackedSplit(path, info, [_printable(name) for name in names])


def _verify(split: PackedSplit) -> None:
    """Compares every byte with the fingerprints; UserError where one differs."""
    digest, labels_digest = hashlib.sha256(), hashlib.sha256()
    count = max(1, _PIECE_BYTES // (5 * split.info.image_size**2))
    for start in range(0, len(split), count):
        part = slice(start, start + count)
        images = split.images[part]
        if split.masks is None:
            digest.update(images.data)
        else:
            masks = split.masks[part]
            if masks.max() > 1:
                raise _odd_masks(split.path)
            for image, mask in zip(images, masks, strict=True):
                digest.update(image.data)
                digest.update(mask.data)
        if split.labels is not None:
            labels_digest.update(split.labels[part].data)
    if digest.hexdigest() != split.info.fingerprint or (
        split.labels is not None and labels_digest.hexdigest() != split.info.labels_fingerprint
    ):
        raise _altered(split.path)


def digest_of(path: pathlib.Path) -> str:
    """Hex SHA-256 of a small file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _altered(path: pathlib.Path) -> UserError:
    return UserError(
        f"the data in {path} are not as they were written: their digest differs; {_AGAIN}"
    )


def _odd_masks(path: pathlib.Path) -> UserError:
    return UserError(f"{path / 'masks.u8'} must be of 0 and 1 only, and has other values; {_AGAIN}")


def _printable(name: Any) -> str:
    """A name that can be written as UTF-8: lone surrogates are escaped."""
    return str(name).encode("utf-8", "backslashreplace").decode()


def check_split_name(split: str) -> None:
    """Raises UserError unless a split may be called ``split``."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", split):
        raise UserError(f"a split is named in letters, digits, _ and -, got {split!r}")


def _read_json(path: pathlib.Path) -> Any:
    if not path.is_file():
        raise UserError(f"{path} is missing; {_AGAIN}")
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        raise UserError(f"{path} is not valid JSON; {_AGAIN}") from None


def _parse_info(path: pathlib.Path) -> Info:
    values = _read_json(path)
    version = values.get("format_version") if isinstance(values, dict) else None
    if version != FORMAT_VERSION:
        raise UserError(
            f"{path} has format version {version!r}, this code reads {FORMAT_VERSION}; {_AGAIN}"
        )
    known = {}
    for field in dataclasses.fields(Info):
        kind = dict if field.name == "source" else field.type
        known[field.name] = values.get(field.name, field.default)
        if type(known[field.name]) is not kind:
            raise UserError(f"{path} has no valid {field.name!r}; {_AGAIN}")
    info = Info(**known)
    if info.count < 1 or info.image_size < 1:
        raise UserError(
            f"{path} describes {info.count} images of side {info.image_size}, and there must be "
            f"at least one image; {_AGAIN}"
        )
    return info


def _check_file_size(path: pathlib.Path, expected: int) -> None:
    if not path.is_file():
        raise UserError(f"{path} is missing; {_AGAIN}")
    if path.stat().st_size != expected:
        raise UserError(f"{path} has {path.stat().st_size} bytes instead of {expected}; {_AGAIN}")
