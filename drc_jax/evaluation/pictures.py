"""Picture grids: rows of equally large images with labels, as uint8 arrays and PNG files.

Images are uint8, or float in [-1, 1]; masks are bool, 0 and 1, or float in [0, 1]. Both become
uint8 RGB in `to_uint8` and `mask_to_uint8` and nowhere else.
"""

import colorsys
import io
import os
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from drc_jax.files import write_atomically

_CELL = 112  # Side in pixels to which small images are enlarged, as nearly as a whole factor can.
_GAP = 4
_FONT_SIZE = 18
_PAGE = (225, 225, 225)  # Apart from an all-white mask.
_FLOOR = (40, 40, 40)  # of the background in label maps
_HUES = 8  # after so many, colours of labels come again
_GREY = 128  # Behind cut-outs: neither white nor black objects vanish on it.


def to_uint8(images: np.ndarray) -> np.ndarray:
    """Pixels as uint8.

    Args:
      images: uint8, returned as they are, or float in [-1, 1]; values outside are clipped.

    Returns:
      uint8, same shape; -1 -> 0, 1 -> 255.
    """
    if images.dtype == np.uint8:
        return images
    return np.round((np.clip(images, -1.0, 1.0) + 1.0) * 127.5).astype(np.uint8)


def mask_to_uint8(masks: np.ndarray) -> np.ndarray:
    """Masks as grey pictures.

    Args:
      masks: [N, H, W], bool, integers 0 and 1, or float in [0, 1].

    Returns:
      uint8 [N, H, W, 3], 1 white and 0 black.
    """
    grey = np.round(np.clip(masks.astype(np.float32), 0.0, 1.0) * 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)


def label_colours(labels: np.ndarray) -> np.ndarray:
    """A colour for each label: uint8 [N, H, W, 3] of integers [N, H, W], 0 dark grey."""
    # Neighbours far apart, as the first labels are the usual ones.
    hues = [colorsys.hsv_to_rgb(3 * k % _HUES / _HUES, 0.7, 0.95) for k in range(_HUES)]
    colours = np.array([_FLOOR, *(np.round(255 * np.array(hue)) for hue in hues)], np.uint8)
    return colours[np.where(labels == 0, 0, 1 + (labels.astype(int) - 1) % _HUES)]


def cut_out(images: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Images where their mask is 1, neutral grey where it is 0, blended in between.

    Args:
      images: [N, H, W, 3], uint8 or float in [-1, 1].
      masks: [N, H, W] in [0, 1].

    Returns:
      uint8 [N, H, W, 3].
    """
    alpha = masks.astype(np.float32)[..., None]
    return np.round(alpha * to_uint8(images) + (1 - alpha) * _GREY).astype(np.uint8)


def image_grid(
    rows: Sequence[np.ndarray], labels: Sequence[str], captions: Sequence[str] = ()
) -> np.ndarray:
    """Lays rows of images out with a label at the left of each row.

    Small images are enlarged by a whole factor without smoothing, so that pixels stay visible.
    Columns are at least as wide as their captions.

    Args:
      rows: one array [N, h, w, 3] per row, uint8 or float in [-1, 1]; all of the same shape.
      labels: one text per row.
      captions: one text per column, set above it; may have several lines. Empty for none.

    Returns:
      uint8 [H, W, 3].

    Raises:
      ValueError: if shapes or numbers of texts do not fit.
    """
    cells = [to_uint8(row) for row in rows]
    if not cells or any(row.shape != cells[0].shape for row in cells):
        raise ValueError(
            f"rows must have one common shape, got {[list(row.shape) for row in cells]}"
        )
    if cells[0].ndim != 4 or cells[0].shape[-1] != 3 or len(cells[0]) == 0:
        raise ValueError(f"a row must be [N, h, w, 3] with N at least 1, got {cells[0].shape}")
    count, height, width = cells[0].shape[:3]
    if len(labels) != len(cells) or len(captions) not in (0, count):
        raise ValueError(
            f"{len(cells)} rows of {count} images need as many labels and captions (or no "
            f"captions), got {len(labels)} and {len(captions)}"
        )
    factor = max(1, round(_CELL / max(height, width)))
    font = ImageFont.load_default(_FONT_SIZE)
    pen = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    left = max(_text_size(pen, font, text)[0] for text in labels) + 3 * _GAP
    top = max((_text_size(pen, font, text)[1] for text in captions), default=0) + _GAP
    widest = max((_text_size(pen, font, text)[0] for text in captions), default=0)
    step_y = height * factor + _GAP
    step_x = max(width * factor, widest + 2 * _GAP) + _GAP
    indent = (step_x - _GAP - width * factor) // 2  # of images narrower than their captions

    canvas = Image.new("RGB", (left + count * step_x, top + len(cells) * step_y), _PAGE)
    pen = ImageDraw.Draw(canvas)
    for i, (label, row) in enumerate(zip(labels, cells, strict=True)):
        y = top + i * step_y
        middle = (left - 2 * _GAP, y + height * factor // 2)
        pen.multiline_text(middle, label, fill="black", font=font, anchor="rm", align="right")
        for j, cell in enumerate(row):
            large = cell.repeat(factor, axis=0).repeat(factor, axis=1)
            canvas.paste(Image.fromarray(large), (left + j * step_x + indent, y))
    for j, caption in enumerate(captions):
        middle = (left + j * step_x + indent + width * factor // 2, top // 2)
        pen.multiline_text(middle, caption, fill="black", font=font, anchor="mm", align="center")
    return np.asarray(canvas)


def fig5_grid(
    observed: np.ndarray,
    generated: np.ndarray,
    foreground: np.ndarray,
    background: np.ndarray,
    true_mask: np.ndarray | None,
    inferred_mask: np.ndarray,
) -> np.ndarray:
    """The rows of the paper's Fig. 5, one column per image.

    Args:
      observed: [N, H, W, 3], the images given.
      generated: [N, H, W, 3], their reconstructions x_hat.
      foreground: [N, H, W, 3], the foreground region's image; shown cut out by the inferred mask.
      background: [N, H, W, 3], the re-assigned background region's image.
      true_mask: [N, H, W]; None leaves its row out.
      inferred_mask: [N, H, W].

    Returns:
      uint8 [rows, columns, 3], a picture to show or save.
    """
    rows = {
        "observed": observed,
        "generated": generated,
        "foreground": cut_out(foreground, inferred_mask),
        "background": background,
        "true mask": None if true_mask is None else mask_to_uint8(true_mask),
        "inferred\nmask": mask_to_uint8(inferred_mask),
    }
    present = {label: row for label, row in rows.items() if row is not None}
    return image_grid(list(present.values()), list(present))


def slots_grid(
    observed: np.ndarray,
    generated: np.ndarray,
    slots: np.ndarray,
    masks: np.ndarray,
    more: Mapping[str, np.ndarray] | None = None,
) -> np.ndarray:
    """Images and the slots that a slot method finds in them, one column per image.

    The row ``slots`` shows each pixel in the colour of the slot that weighs most there.

    Args:
      observed: [N, H, W, 3], the images given.
      generated: [N, H, W, 3], their reconstructions.
      slots: [N, K, H, W, 3], each slot's image; shown cut out by its mask.
      masks: [N, K, H, W] in [0, 1].
      more: further rows by their labels, [N, H, W, 3] each, such as the truth.

    Returns:
      uint8 [rows, columns, 3].
    """
    count = slots.shape[1]
    rows = {"observed": observed, "generated": generated}
    for k in range(count):
        rows[f"slot {k + 1}"] = cut_out(slots[:, k], masks[:, k])
    rows["slots"] = label_colours(masks.argmax(axis=1) + 1)
    rows |= more or {}
    return image_grid(list(rows.values()), list(rows))


def samples_grid(
    images: np.ndarray, foregrounds: np.ndarray, backgrounds: np.ndarray, masks: np.ndarray
) -> np.ndarray:
    """Samples from the prior and their parts, one column per sample.

    Args:
      images: [N, H, W, 3], the mixed samples.
      foregrounds: [N, H, W, 3], the whole foreground region's images, not cut out.
      backgrounds: [N, H, W, 3], the re-assigned background region's images.
      masks: [N, H, W], mixing weights of the foreground in [0, 1].

    Returns:
      uint8 [rows, columns, 3].
    """
    return image_grid(
        [images, foregrounds, backgrounds, mask_to_uint8(masks)],
        ["sample", "foreground\n(whole)", "background", "mask"],
    )


def ranked_grid(
    observed: np.ndarray,
    true_mask: np.ndarray,
    inferred_mask: np.ndarray,
    iou: np.ndarray,
    indices: np.ndarray,
    notes: Sequence[str] = (),
) -> np.ndarray:
    """Images with their masks and scores, in the order given, for instance from the worst.

    Args:
      observed: [N, H, W, 3], the images given.
      true_mask, inferred_mask: [N, H, W].
      iou: [N] in [0, 1], shown x100 above each column.
      indices: [N], each image's place in its data set, shown with the score.
      notes: a text for each image, shown below its score; empty for none.

    Returns:
      uint8 [rows, columns, 3].
    """
    captions = [
        f"#{index}\nIoU {100 * score:.1f}" for index, score in zip(indices, iou, strict=True)
    ]
    if notes:
        captions = [f"{caption}\n{note}" for caption, note in zip(captions, notes, strict=True)]
    rows = [observed, mask_to_uint8(true_mask), mask_to_uint8(inferred_mask)]
    return image_grid(rows, ["observed", "true mask", "inferred\nmask"], captions)


def save_png(path: str | os.PathLike[str], picture: np.ndarray) -> None:
    """Writes a PNG atomically.

    Args:
      path: the file; its folder must exist.
      picture: uint8 [H, W, 3].
    """
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG")
    write_atomically(path, buffer.getvalue())


def _text_size(
    pen: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, text: str
) -> tuple[int, int]:
    """Width and height in pixels of a text of one or more lines."""
    left, top, right, bottom = pen.multiline_textbbox((0, 0), text, font=font)
    return int(np.ceil(right - left)), int(np.ceil(bottom - top))
