"""Reading picture files that others made: any colour mode, rotation and damage.

Every way a file can fail is one exception with a reason to show to the user, so that callers can
name the file and go on with the next.
"""

import contextlib
import os
import pathlib
import stat
import warnings
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from PIL import Image

# Pillow reads more, but among it are formats that start other programs (EPS) and rarities.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
# Files of these names claim to be pictures, some of kinds that are not read here.
EXTENSIONS = frozenset(
    ".jpg .jpeg .jpe .jfif .mpo .png .apng .webp .bmp .dib .gif .tif .tiff .heic .heif .avif .jp2 "
    ".psd .raw .dng .cr2 .cr3 .nef .arw .svg".split()
)
# Cameras reach 102 million. RGB of this many takes 360 MB, a converted copy as much again.
MAX_PIXELS = 120_000_000
_LIMIT = f"more than the {MAX_PIXELS // 10**6} million that are read; shrink it"
# Behind transparent pixels, as behind the cut-outs of `panels`: no object vanishes on it.
BACKDROP = (128, 128, 128)

_ORIENTATION_TAG = 0x0112
# What turns a stored picture upright, by the value of the EXIF tag.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class UnreadableError(Exception):
    """A file cannot be used as a picture; the message is the reason, without the file's name."""


class NotAPictureError(UnreadableError):
    """A file is no picture of a known format, and its name does not claim that it is."""


def read_picture(path: str | os.PathLike[str]) -> np.ndarray:
    """Reads a picture upright and in colour.

    JPEG, PNG, WebP, BMP, GIF and TIFF are told by their content, whatever the file is called. Of
    an animation or several pages the first is read. Transparency is blended over neutral grey,
    16 bits become 8 by dropping the lower ones, grey becomes RGB, CMYK is converted without its
    colour profile.

    Args:
      path: the file.

    Returns:
      uint8 [H, W, 3], RGB, turned as the EXIF orientation says.

    Raises:
      UnreadableError: if the file cannot be read, is damaged, or declares more than `MAX_PIXELS`
        pixels, which is found before anything is decoded.
    """
    with _decoded(path) as image:
        return np.asarray(_to_rgb(image))


def read_mask(path: str | os.PathLike[str]) -> np.ndarray:
    """Reads a mask: a pixel is foreground where it is at least half bright.

    A pixel is as bright as its brightest colour channel, so coloured labels on black count. A mask
    whose values are only 0 and 1 is taken at its word. Where transparency differs between pixels,
    it is the mask: that of a cut-out.

    Args:
      path: the file, of any format and colour mode `read_picture` takes.

    Returns:
      uint8 [H, W] of 0 and 1.

    Raises:
      UnreadableError: as for `read_picture`.
    """
    with _decoded(path) as image:
        if image.has_transparency_data:
            alpha = np.asarray(_checked_convert(image, "RGBA"))[..., 3]
            if alpha.min() < alpha.max():
                return (alpha >= 128).astype(np.uint8)
            image = _checked_convert(image, "RGBA").convert("RGB")
        if image.mode == "1":
            return np.asarray(image).astype(np.uint8)
        is_deep = image.mode.startswith("I")
        brightness = _deep_levels(image) if is_deep else np.asarray(_to_rgb(image)).max(axis=2)
    if brightness.max() > 1:
        brightness = brightness >= (1 << 15 if is_deep else 1 << 7)
    return brightness.astype(np.uint8)


@contextlib.contextmanager
def _decoded(path: str | os.PathLike[str]) -> Iterator[Image.Image]:
    """Opens, checks, decodes and turns a picture; whatever fails inside is an UnreadableError."""
    path = pathlib.Path(path)
    try:
        with warnings.catch_warnings(), _open_regular(path) as file:
            # Pillow warns of what is unusual in a file; here it is either read or refused.
            warnings.simplefilter("ignore")
            with Image.open(file, formats=FORMATS) as image:
                width, height = image.size
                if width * height > MAX_PIXELS:
                    raise UnreadableError(f"declares {width}x{height} pixels, {_LIMIT}")
                image.load()
                yield _upright(image)
    except UnreadableError:
        raise
    except Image.UnidentifiedImageError:
        if path.suffix.lower() in EXTENSIONS:
            reason = "is no readable JPEG, PNG, WebP, BMP, GIF or TIFF picture"
            raise UnreadableError(reason) from None
        raise NotAPictureError("is not a picture") from None
    except Image.DecompressionBombError:
        raise UnreadableError(f"declares far too many pixels, {_LIMIT}") from None
    except MemoryError:
        raise UnreadableError("does not fit in memory") from None
    except Exception as error:  # on damaged bytes Pillow's parsers raise anything
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UnreadableError(f"cannot be read: {' '.join(reason.split())[:200]}") from None


def _open_regular(path: pathlib.Path) -> BinaryIO:
    """Opens a file for reading; refuses what would block (pipes) or holds nothing."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise UnreadableError("is not a regular file")
    if status.st_size == 0:
        raise UnreadableError("is empty (0 bytes)")
    return open(path, "rb")


def _upright(image: Image.Image) -> Image.Image:
    """Turns a decoded picture as its EXIF data say."""
    try:
        # After decoding, for TIFF is turned by Pillow itself, which then drops the tag.
        orientation = image.getexif().get(_ORIENTATION_TAG)
    except Exception:  # damaged EXIF data; the pixels are good
        return image
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def _to_rgb(image: Image.Image) -> Image.Image:
    """Any colour mode to RGB."""
    if image.mode.startswith("I"):  # "I;16" and its kin; PNG of 16 bits is "I" in older Pillow
        # Pillow's own conversion would clip to 255 instead of scaling.
        return Image.fromarray((_deep_levels(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise UnreadableError("has float pixels of unknown range; save it with 8 or 16 bits")
    if image.has_transparency_data:
        backdrop = Image.new("RGBA", image.size, (*BACKDROP, 255))
        return Image.alpha_composite(backdrop, _checked_convert(image, "RGBA")).convert("RGB")
    return _checked_convert(image, "RGB")


def _deep_levels(image: Image.Image) -> np.ndarray:
    """Grey levels of 16 bits, [H, W]."""
    levels = np.asarray(image)
    if levels.min() < 0 or levels.max() > 0xFFFF:
        raise UnreadableError("has 32-bit pixels of unknown range; save it with 8 or 16 bits")
    return levels


def _checked_convert(image: Image.Image, mode: str) -> Image.Image:
    try:
        return image.convert(mode)
    except ValueError:
        raise UnreadableError(f"has colours of mode {image.mode}, which are not read") from None
