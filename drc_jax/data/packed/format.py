"""The on-disk format every trainer reads: raw bytes beside a small JSON description.

A data set is a folder with one sub-folder per split (``train``, ``test``, ...), each holding

    images.u8    N*S*S*3 bytes, uint8 RGB, NHWC
    masks.u8     N*S*S bytes, 0 or 1 (1 = foreground); only where the data have masks
    names.json   N strings
    info.json    the fields of `Info`

Raw bytes can be memory-mapped, so opening is immediate and reading an image is one copy. A split
appears under its name only once it is complete and on disk; `packing` writes it.
"""

import dataclasses
import json
import os
import pathlib
import re
from collections.abc import Callable
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
                "with masks (a folder of photographs: --masks=DIR)"
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
    check_split_name(split)
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


def check_split_name(split: str) -> None:
    """Raises UserError unless a split may be called ``split``."""
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
