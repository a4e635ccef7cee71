"""What is made of one photograph from its foreground's weights: mask, cut-out, background."""

import io
from typing import Any

import numpy as np
from PIL import Image

from drc_jax.data.pictures import crops, decode
from drc_jax.data.pictures.crops import Window
from drc_jax.data.pictures.images import resize_image
from drc_jax.evaluation import pictures
from drc_jax.evaluation.label_metrics import ACTIVE_SHARE
from drc_jax.evaluation.refine import refined

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


def from_square(
    square: Image.Image,
    width: int,
    height: int,
    crop: str,
    photo: np.ndarray | None = None,
    refine: str = "",
) -> Image.Image:
    """Takes what the model painted back to the picture, the inverse of `to_square`.

    Args:
      square: an image of the model's size and any mode.
      width, height: of the picture in pixels.
      crop: as in `to_square`.
      photo: the picture, uint8 [H, W, 3], which a mask in float32 follows; only for ``refine``.
      refine: one of ``refine.REFINEMENTS``; empty for none.

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
    if refine:
        assert photo is not None
        coarse = max(window.right - window.left, window.bottom - window.top)
        part = Image.fromarray(refined(place.cut(photo), np.asarray(part), coarse, refine))
    whole = Image.new(square.mode, (width, height))
    whole.paste(part, (place.left, place.top))
    return whole


def files(
    photo: np.ndarray,
    weight: np.ndarray,
    background: np.ndarray,
    pi: np.ndarray,
    crop: str,
    soft: bool,
    file_format: str,
    refine: str = "",
) -> dict[str, tuple[str, bytes]]:
    """The files made of a photograph, each of its size but the last: see `extract.extract`.

    Args:
      photo: uint8 [H, W, 3].
      weight: float32 [S, S] in [0, 1], the foreground's weight pi_f.
      background: float32 [S, S, 3] in [-1, 1].
      pi: float32 [K, S, S], the mixing weights of the foregrounds and the background.
      crop, soft, file_format, refine: see `extract.extract`.

    Returns:
      Folder to ending and content.

    Raises:
      UnreadableError: if the inference gave no numbers.
    """
    if not (np.isfinite(weight).all() and np.isfinite(background).all()):
        raise not_finite()
    height, width = photo.shape[:2]
    picture = Image.fromarray(photo)
    share = np.asarray(from_square(Image.fromarray(weight), width, height, crop, photo, refine))
    alpha = _grey(share)
    mask = _mask(share, soft)
    painted = Image.fromarray(pictures.to_uint8(background))
    # Twice: blended by pi_f itself, a ghost of the object would stay inside the mask.
    generated = from_square(painted, width, height, crop)
    scene = Image.composite(generated, picture, _grey(2 * share))
    ending = f".{file_format}"
    panes = {
        "picture": picture,
        "mask": mask.convert("RGB"),
        "cut-out": _on_grey(picture, alpha),
        "background": scene,
    }
    made = {
        "masks": (ending, _encoded(mask, file_format)),
        "cutouts": (ending, _encoded(_with_alpha(picture, alpha), file_format)),
        "backgrounds": (ending, _encoded(scene, file_format)),
    }
    for k, square in enumerate(_objects(pi)):
        found = from_square(Image.fromarray(square), width, height, crop, photo, refine)
        alpha = _grey(np.asarray(found))
        panes[f"object {k + 1}"] = _on_grey(picture, alpha)
        made[f"objects/{k + 1}"] = (ending, _encoded(_with_alpha(picture, alpha), file_format))
    return {**made, "side_by_side": (".jpg", _encoded(_side_by_side(panes), "jpeg"))}


def _objects(pi: np.ndarray) -> np.ndarray:
    """The weights [n, S, S] of the foregrounds that hold pixels, the largest first.

    None where there is one foreground alone, which is then all that is cut out.
    """
    if len(pi) < 3:
        return pi[:0]
    held = np.bincount(pi.argmax(axis=0).ravel(), minlength=len(pi))[:-1]
    order = np.argsort(-held, kind="stable")
    return pi[order[held[order] >= ACTIVE_SHARE * pi[0].size]]


def slot_files(
    photo: np.ndarray,
    masks: np.ndarray,
    crop: str,
    soft: bool,
    file_format: str,
    refine: str = "",
) -> dict[str, tuple[str, bytes]]:
    """The files made of a photograph in which a method finds exchangeable slots.

    Args:
      photo: uint8 [H, W, 3].
      masks: float32 [K, S, S] in [0, 1], each slot's mixing weights.
      crop, soft, file_format, refine: see `extract.extract`.

    Returns:
      Folder to ending and content.

    Raises:
      UnreadableError: if the inference gave no numbers.
    """
    if not np.isfinite(masks).all():
        raise not_finite()
    height, width = photo.shape[:2]
    picture = Image.fromarray(photo)
    squares = [
        from_square(Image.fromarray(mask), width, height, crop, photo, refine) for mask in masks
    ]
    shares = np.stack([np.asarray(square) for square in squares])
    labels = np.where(shares.any(axis=0), shares.argmax(axis=0) + 1, 0)  # 0 where none looked
    made, ending = {}, f".{file_format}"
    panes = {"picture": picture, "slots": Image.fromarray(pictures.label_colours(labels))}
    for k, share in enumerate(shares):
        alpha = _grey(share)
        panes[f"slot {k + 1}"] = _on_grey(picture, alpha)
        cut_out = _with_alpha(picture, alpha)
        made[f"masks/slot_{k + 1}"] = (ending, _encoded(_mask(share, soft), file_format))
        made[f"cutouts/slot_{k + 1}"] = (ending, _encoded(cut_out, file_format))
    made["side_by_side"] = (".jpg", _encoded(_side_by_side(panes), "jpeg"))
    return made


def not_finite() -> decode.UnreadableError:
    """What is wrong with a picture for which the inference gave no numbers."""
    return decode.UnreadableError(
        "gave values that are not finite; try fewer steps or another checkpoint"
    )


def _grey(share: np.ndarray) -> Image.Image:
    """Shares in [0, 1], clipped, as an image in 0 to 255."""
    return Image.fromarray(np.round(np.clip(share, 0, 1) * 255).astype(np.uint8))


def _mask(share: np.ndarray, soft: bool) -> Image.Image:
    """Shares in [0, 1] themselves, or where they are more than one half."""
    return _grey(share if soft else np.where(share > 0.5, np.float32(1), np.float32(0)))


def _with_alpha(picture: Image.Image, alpha: Image.Image) -> Image.Image:
    """A picture with a transparency."""
    cut_out = picture.copy()
    cut_out.putalpha(alpha)
    return cut_out


def _on_grey(picture: Image.Image, alpha: Image.Image) -> Image.Image:
    grey = Image.new("RGB", picture.size, decode.BACKDROP)
    return Image.composite(picture, grey, alpha)


def _side_by_side(panes: dict[str, Image.Image]) -> Image.Image:
    """Equally large pictures, by their names, small and in a row."""
    first = next(iter(panes.values()))
    scale = min(1.0, _PANEL_SIDE / max(first.size))
    size = (max(1, round(first.width * scale)), max(1, round(first.height * scale)))
    small = [pane.resize(size, Image.Resampling.BILINEAR) for pane in panes.values()]
    row = np.stack([np.asarray(pane) for pane in small])
    return Image.fromarray(pictures.image_grid([row], [""], list(panes)))


def _encoded(image: Image.Image, file_format: str) -> bytes:
    # `exact` keeps the colours of transparent pixels, which WebP would otherwise forget.
    options: dict[str, dict[str, Any]] = {
        "webp": {"lossless": True, "exact": True},
        "jpeg": {"quality": 90},
    }
    buffer = io.BytesIO()
    image.save(buffer, format=file_format, **options.get(file_format, {}))
    return buffer.getvalue()
