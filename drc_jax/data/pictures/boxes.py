"""Boxes around objects, one per picture, from a CSV file."""

import csv
import math
import pathlib

from drc_jax.data.pictures.crops import Box
from drc_jax.errors import UserError

COLUMNS = ("name", "xmin", "ymin", "xmax", "ymax")


def load(path: pathlib.Path) -> dict[str, Box]:
    """Reads ``name,xmin,ymin,xmax,ymax`` lines; a first line of these words is optional.

    Args:
      path: the file. Names are paths below the pictures' folder, with ``/``; numbers are pixels
        of the upright picture.

    Returns:
      Name to box.

    Raises:
      UserError: naming the line, if one is not as above or a picture has two boxes.
    """
    try:
        # Spreadsheets put a byte order mark in front.
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"cannot read --boxes={path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"--boxes={path} is not a CSV file in UTF-8") from None
    boxes: dict[str, Box] = {}
    for number, row in enumerate(csv.reader(text.splitlines()), start=1):
        cells = [cell.strip() for cell in row]
        if not any(cells) or (number == 1 and tuple(cells) == COLUMNS):
            continue
        if len(cells) != len(COLUMNS):
            raise UserError(f"line {number} of {path} must be {','.join(COLUMNS)}, got {row}")
        name, *numbers = cells
        box = _numbers(numbers)
        if box is None:
            raise UserError(
                f"line {number} of {path} must have four finite numbers with xmin < xmax and "
                f"ymin < ymax, got {','.join(numbers)}"
            )
        if name in boxes:
            raise UserError(f"line {number} of {path} is a second box for {name!r}; give one each")
        boxes[name] = box
    if not boxes:
        raise UserError(f"--boxes={path} has no lines; each must be {','.join(COLUMNS)}")
    return boxes


def _numbers(cells: list[str]) -> Box | None:
    try:
        xmin, ymin, xmax, ymax = map(float, cells)
    except ValueError:
        return None
    is_box = all(map(math.isfinite, (xmin, ymin, xmax, ymax))) and xmin < xmax and ymin < ymax
    return (xmin, ymin, xmax, ymax) if is_box else None
