"""What is made of one photograph from its foreground's weights: mask, cut-out, background."""

import io
from typing import Any

import numpy as np
from PIL import Image

from drc_jax.data.pictures import crops, decode
from drc_jax.data.pictures.crops import Window
from drc_jax.data.pictures.images import resize_image
from drc_jax.evaluation import pictures

CROPS = ("stretch", "centre", "letterbox")
FORMATS = ("png", "webp")
ENDINGS = (".png", ".webp", ".jpg")
"""Endings of the files made of a photograph."""

_PANEL_SIDE = 512  # of the side-by-side pictures, which are for looking only


def to_square(photo: np.ndarray, size: int, crop: str) -> np.ndarray:
    """What the model sees of a picture.

    Args:
      photo: uint8 [H, W, 3].
      size: side S of the square in pixels.
      crop: ``stretch``, ``centre`` or ``letterbox``; see `extract.extract`.

    Returns:
      uint8 [S, S, 3].
    """
    if crop == "centre":
        return crops.centre_crop(photo, size)
    return crops.letterbox(photo, size) if crop == "letterbox" else resize_image(photo, size)


def from_square(square: Image.Image, width: int, height: int, crop: str) -> Image.Image:
    """Takes what the model painted back to the picture, the inverse of `to_square`.

    Args:
      square: an image of the model's size and any mode.
      width, height: of the picture in pixels.
      crop: as in `to_square`.

    Returns:
      The square resized bilinearly to the picture's size; 0 where the model did not look.
    """
    window, place = Window(0, 0, *square.size), Window(0, 0, width, height)
    if crop == "letterbox":
        window = crops.letterbox_window(width, height, square.width)
    elif crop == "centre":
        place = crops.centre_window(width, height)
    size = (place.right - place.left, place.bottom - place.top)
    # Cropped first, so that bars do not bleed in.
    part = square.crop(window).resize(size, Image.Resampling.BILINEAR)
    whole = Image.new(square.mode, (width, height))
    whole.paste(part, (place.left, place.top))
    return whole


def files(
    photo: np.ndarray,
    weight: np.ndarray,
    background: np.ndarray,
    crop: str,
    soft: bool,
    file_format: str,
) -> dict[str, tuple[str, bytes]]:
    """The files made of a photograph, each of its size but the last: see `extract.extract`.

    Args:
      photo: uint8 [H, W, 3].
      weight: float32 [S, S] in [0, 1], the foreground's weight pi_f.
      background: float32 [S, S, 3] in [-1, 1].
      crop, soft, file_format: see `extract.extract`.

    Returns:
      Folder to ending and content.

    Raises:
      UnreadableError: if the inference gave no numbers.
    """
    if not (np.isfinite(weight).all() and np.isfinite(background).all()):
        raise not_finite()
    height, width = photo.shape[:2]
    picture = Image.fromarray(photo)
    share = np.asarray(from_square(Image.fromarray(weight), width, height, crop))
    alpha = _grey(share)
    mask = alpha if soft else Image.fromarray(np.where(share > 0.5, np.uint8(255), np.uint8(0)))
    painted = Image.fromarray(pictures.to_uint8(background))
    # Twice: blended by pi_f itself, a ghost of the object would stay inside the mask.
    generated = from_square(painted, width, height, crop)
    scene = Image.composite(generated, picture, _grey(2 * share))
    cut_out = picture.copy()
    cut_out.putalpha(alpha)
    ending = f".{file_format}"
    return {
        "masks": (ending, _encoded(mask, file_format)),
        "cutouts": (ending, _encoded(cut_out, file_format)),
        "backgrounds": (ending, _encoded(scene, file_format)),
        "side_by_side": (".jpg", _encoded(_side_by_side(picture, mask, alpha, scene), "jpeg")),
    }


def not_finite() -> decode.UnreadableError:
    """What is wrong with a picture for which the inference gave no numbers."""
    return decode.UnreadableError(
        "gave values that are not finite; try fewer steps or another checkpoint"
    )


def _grey(share: np.ndarray) -> Image.Image:
    """Shares in [0, 1], clipped, as an image in 0 to 255."""
    return Image.fromarray(np.round(np.clip(share, 0, 1) * 255).astype(np.uint8))


def _side_by_side(
    picture: Image.Image, mask: Image.Image, alpha: Image.Image, scene: Image.Image
) -> Image.Image:
    """Picture, mask, cut-out on grey and background in a row with their names."""
    grey = Image.new("RGB", picture.size, decode.BACKDROP)
    panes = [picture, mask.convert("RGB"), Image.composite(picture, grey, alpha), scene]
    scale = min(1.0, _PANEL_SIDE / max(picture.size))
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    row = np.stack([np.asarray(pane.resize(size, Image.Resampling.BILINEAR)) for pane in panes])
    captions = ["picture", "mask", "cut-out", "background"]
    return Image.fromarray(pictures.image_grid([row], [""], captions))


def _encoded(image: Image.Image, file_format: str) -> bytes:
    # `exact` keeps the colours of transparent pixels, which WebP would otherwise forget.
    options: dict[str, dict[str, Any]] = {
        "webp": {"lossless": True, "exact": True},
        "jpeg": {"quality": 90},
    }
    buffer = io.BytesIO()
    image.save(buffer, format=file_format, **options.get(file_format, {}))
    return buffer.getvalue()
