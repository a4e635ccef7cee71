"""What the published data sets have in common: reading examples and skipping what is damaged."""

import io
import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from drc_jax.data.pictures.crops import Box
from drc_jax.data.pictures.decode import UnreadableError
from drc_jax.data.published import builders
from drc_jax.errors import UserError

# Share of damaged images above which a preparation fails.
MAX_DAMAGED = 0.01

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_Example = TypeVar("_Example")


def converted(
    builder: Any,
    split: str,
    convert: Callable[[dict[str, Any]], _T],
    name: Callable[[dict[str, Any]], str],
    *,
    encoded: Sequence[str],
    max_damaged: float,
) -> Iterator[_T]:
    """Every example of a builder's split, converted, without the damaged ones.

    Args:
      builder, split, encoded: as for `builders.examples`.
      convert, name, max_damaged: as for `skip_damaged`.
    """
    stored = builders.examples(builder, split, encoded=encoded)
    return skip_damaged(stored, convert, name, builders.num_examples(builder, split), max_damaged)


def check_same_size(mask: np.ndarray, image: np.ndarray) -> None:
    """Raises UnreadableError unless a mask [H, W] has the size of its image [H, W, 3]."""
    if mask.shape != image.shape[:2]:
        sizes = [f"{width}x{height}" for height, width in (mask.shape, image.shape[:2])]
        raise UnreadableError(f"has a mask of {sizes[0]} instead of {sizes[1]}")


def decode(data: bytes, mode: str) -> np.ndarray:
    """Decodes a published picture as it is stored, for boxes and masks count stored pixels.

    Unlike `decode.read_picture` it does not turn the picture as its EXIF data say.

    Args:
      data: contents of a JPEG or PNG file.
      mode: ``RGB``, or ``L`` for the grey levels of a mask.

    Returns:
      uint8 [H, W, 3] or uint8 [H, W].

    Raises:
      UnreadableError: if the picture is damaged.
    """
    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(data)) as image:
            warnings.simplefilter("ignore")
            return np.asarray(image.convert(mode))
    except Exception as error:  # on damaged bytes Pillow's parsers raise anything
        raise UnreadableError(f"cannot be decoded: {' '.join(str(error).split())}") from None


def decode_labels(data: bytes) -> np.ndarray:
    """Decodes a picture of labels: its stored values, which palettes would show as colours.

    Args:
      data: contents of a PNG file.

    Returns:
      uint8 [H, W].

    Raises:
      UnreadableError: if the picture is damaged or holds no labels of 8 bits.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            labels = np.asarray(image)
    except Exception as error:  # as in `decode`
        raise UnreadableError(f"has an unreadable mask: {' '.join(str(error).split())}") from None
    if labels.dtype != np.uint8 or labels.ndim != 2:
        raise UnreadableError(f"has no mask of labels but {labels.dtype} {list(labels.shape)}")
    return labels


def pixel_box(bbox: np.ndarray, width: int, height: int) -> Box:
    """A builder's box in pixels of the picture.

    Args:
      bbox: float32 [4], (ymin, xmin, ymax, xmax) as shares of the picture's sides.
      width, height: of the picture in pixels.

    Returns:
      xmin, ymin, xmax, ymax. The published boxes are whole or tenths of pixels; rounding takes back
      what float32 added, which would make `crops.box_window` fall to the pixel below.
    """
    ymin, xmin, ymax, xmax = (float(side) for side in bbox)
    return (
        round(xmin * width, 2),
        round(ymin * height, 2),
        round(xmax * width, 2),
        round(ymax * height, 2),
    )


def skip_damaged(
    examples: Iterable[_Example],
    convert: Callable[[_Example], _T],
    name: Callable[[_Example], str],
    count: int,
    max_damaged: float,
) -> Iterator[_T]:
    """Converts examples; names those that are damaged, and goes on.

    Args:
      examples: what to convert.
      convert: raises `UnreadableError` or ValueError with a reason for a damaged example.
      name: an example's name for the log.
      count: number of examples.
      max_damaged: largest share of them that may be damaged, 0 to 1.

    Raises:
      UserError: once more are damaged.
    """
    damaged = 0
    for example in examples:
        try:
            converted = convert(example)
        except (UnreadableError, ValueError) as error:
            damaged += 1
            _log.warning("skipped %s: %s", name(example), error)
            if damaged > max_damaged * count:
                raise UserError(
                    f"{damaged} of {count} images are damaged, the last being {name(example)}, "
                    f"more than the share of {max_damaged:g} that --max_damaged allows"
                ) from None
            continue
        yield converted
    if damaged:
        _log.warning("skipped %d damaged of %d images", damaged, count)


def check_options(size: int, max_damaged: float) -> None:
    """Refuses an image side or a share of damage that makes no sense."""
    if size < 1:
        raise UserError(f"size must be at least 1, got {size}")
    if not 0 <= max_damaged <= 1:
        raise UserError(f"max_damaged must be from 0 to 1, got {max_damaged}")
