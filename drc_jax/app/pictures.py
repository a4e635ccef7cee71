"""Pictures that somebody gave: read within bounds, and as small as the model sees them."""

import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from drc_jax.data.pictures import decode
from drc_jax.data.pictures.files import printable
from drc_jax.evaluation.cutouts import to_square

MOST = 8
"""Pictures at once."""
MOST_PIXELS = 50_000_000
"""Of a picture: to extract it at its own size takes some 2 GB and half a minute."""
LARGEST_FILE = 64 << 20
"""Bytes of an uploaded file."""

_SHOWN = 80  # characters of a name


class Picture(NamedTuple):
    """A picture that could be read.

    Attributes:
      name: of its file, on one line.
      path: the file.
      square: what the model sees of it, uint8 [S, S, 3].
    """

    name: str
    path: str
    square: np.ndarray


def read(paths: Sequence[str], size: int, crop: str) -> tuple[list[Picture], list[str]]:
    """Reads the first ``MOST`` pictures, one after the other, and forgets their full size.

    Args:
      paths: files of any kind.
      size: S, the model's image side.
      crop: how a picture that is not square is seen; see `cutouts.to_square`.

    Returns:
      The pictures, and a sentence for each file that is none.
    """
    found, problems = [], []
    for path in paths[:MOST]:
        name = shown(path)
        try:
            photo = decode.read_picture(path)
            pixels = photo.shape[0] * photo.shape[1]
            if pixels > MOST_PIXELS:
                raise decode.UnreadableError(
                    f"has {pixels / 1e6:.0f} million pixels, and {MOST_PIXELS // 10**6} million "
                    "are the most here"
                )
            found.append(Picture(name, str(path), to_square(photo, size, crop)))
        except (decode.NotAPictureError, decode.UnreadableError) as error:
            problems.append(f"{name} {error}.")
    if len(paths) > MOST:
        problems.append(f"{MOST} pictures at once are the most; the others are left out.")
    return found, problems


def shown(path: str) -> str:
    """A file's name, on one line and not endless."""
    name = printable(pathlib.PurePath(path).name)
    return name if len(name) <= _SHOWN else f"{name[: _SHOWN - 20]}...{name[-17:]}"
