"""What a person looks at, and edits, after masks were detected.

Beside the data lies a folder ``review`` with, for every split,

    train.kept.001.jpg, train.dropped-person.001.jpg, ...   sheets of thumbnails, one series for
                                                            what was kept and one per reason
    train.txt                                               one line per picture; see `read_list`
"""

import os
import pathlib
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from drc_jax.data.masks.filters import NONE, OK, Verdict
from drc_jax.errors import UserError

FOLDER = "review"
KEEP, DROP = "keep", "drop"

_THUMBNAIL, _CAPTION, _GAP = 96, 24, 6
_COLUMNS, _ROWS = 12, 8
_TINT = np.array([255, 40, 40])
_HEADER = """\
# What prepare kept and dropped: decision, what the program says of the picture, name.
# Change keep to drop, or drop to keep, and run the same prepare again: it honours this list.
"""


class Line(NamedTuple):
    """A line of the list: the decision, `KEEP` or `DROP`; the program's reason; the picture."""

    decision: str
    reason: str
    name: str

    @property
    def overruled(self) -> bool:
        """Whether a person decided otherwise than the program."""
        return (self.decision == KEEP) != (self.reason == OK)


def read_list(path: pathlib.Path) -> dict[str, Line]:
    """Reads the list of a split by name; empty if there is none yet.

    A line is ``keep`` or ``drop``, the program's reason and the picture's name, apart by spaces or
    tabs. Lines that start with # and empty lines do not count.

    Raises:
      UserError: if a line is of another form, or keeps a picture in which no mask was found.
    """
    if not path.exists():
        return {}
    lines = {}
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not text.strip() or text.startswith("#"):
            continue
        words = text.split(maxsplit=2)
        if len(words) != 3 or words[0] not in (KEEP, DROP):
            raise UserError(
                f"line {number} of {path} must be keep or drop, a reason and a name, got {text!r}"
            )
        line = Line(*words)
        if line.decision == KEEP and line.reason == NONE:
            raise UserError(
                f"line {number} of {path} keeps {line.name}, in which no mask was found; drop it"
            )
        lines[line.name] = line
    return lines


def write_list(path: pathlib.Path, lines: Iterable[Line]) -> None:
    """Writes the list of a split."""
    text = _HEADER + "".join(f"{line.decision}\t{line.reason}\t{line.name}\n" for line in lines)
    partial = path.with_suffix(".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


class Sheets:
    """Writes thumbnails with their masks to pages, as they come; one page per series is open."""

    def __init__(self, folder: pathlib.Path, split: str) -> None:
        """Starts anew: earlier sheets of the split are removed."""
        self._folder = folder
        self._split = split
        self._pages: dict[str, tuple[int, list[Image.Image]]] = {}
        for old in folder.glob(f"{split}.*.jpg"):
            old.unlink()

    def add(self, image: np.ndarray, verdict: Verdict, line: Line) -> None:
        """Adds a picture uint8 [S, S, 3] to the series that its line says."""
        series = "kept" if line.decision == KEEP else f"dropped-{line.reason}"
        if line.overruled:
            series = f"{'kept' if line.decision == KEEP else 'dropped'}-by-hand"
        number, tiles = self._pages.setdefault(series, (1, []))
        tiles.append(_tile(image, verdict, line))
        if len(tiles) == _COLUMNS * _ROWS:
            self._write(series, number, tiles)
            self._pages[series] = (number + 1, [])

    def close(self) -> None:
        """Writes the pages that are not full."""
        for series, (number, tiles) in self._pages.items():
            if tiles:
                self._write(series, number, tiles)

    def _write(self, series: str, number: int, tiles: list[Image.Image]) -> None:
        rows = -(-len(tiles) // _COLUMNS)
        step_x, step_y = _THUMBNAIL + _GAP, _THUMBNAIL + _CAPTION + _GAP
        columns = min(len(tiles), _COLUMNS)
        page = Image.new("RGB", (columns * step_x + _GAP, rows * step_y + _GAP), "white")
        for i, tile in enumerate(tiles):
            row, column = divmod(i, _COLUMNS)
            page.paste(tile, (_GAP + column * step_x, _GAP + row * step_y))
        page.save(self._folder / f"{self._split}.{series}.{number:03d}.jpg", quality=85)


def _tile(image: np.ndarray, verdict: Verdict, line: Line) -> Image.Image:
    """A thumbnail, red where the mask is not, over the reason and the end of the name."""
    pixels = image
    if verdict.mask is not None:
        tinted = (image // 2 + _TINT // 2).astype(np.uint8)
        pixels = np.where(verdict.mask[..., None] == 1, image, tinted)
    tile = Image.new("RGB", (_THUMBNAIL, _THUMBNAIL + _CAPTION), "white")
    tile.paste(Image.fromarray(pixels).resize((_THUMBNAIL, _THUMBNAIL)))
    draw = ImageDraw.Draw(tile)
    reason = {OK: "score ", NONE: ""}.get(line.reason, f"{line.reason} ")
    draw.text((0, _THUMBNAIL), reason + verdict.detail, fill="black")
    draw.text((0, _THUMBNAIL + _CAPTION // 2), _short(line.name), fill="gray")
    return tile


def _short(name: str) -> str:
    return pathlib.PurePath(name).stem[-16:]
