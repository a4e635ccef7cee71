"""Masks, cut-outs and backgrounds of pictures of any size, as files."""

import io
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from drc_jax.data.pictures import crops, decode
from drc_jax.data.pictures.crops import Window
from drc_jax.data.pictures.files import Listing, Problem, list_files, output_stems, printable
from drc_jax.data.pictures.images import resize_image
from drc_jax.errors import UserError
from drc_jax.evaluation import pictures as panels
from drc_jax.evaluation.evaluate import InferBatch
from drc_jax.files import write_atomically

CROPS = ("stretch", "centre", "letterbox")
FORMATS = ("png", "webp")
FAILED = "failed.txt"

_SHOWN = 20  # failures in the summary; the file has all
_PANEL_SIDE = 512  # of the side-by-side pictures, which are for looking only
_ENDINGS = (".png", ".webp", ".jpg")


class Extraction(NamedTuple):
    """What became of the files.

    Attributes:
      num_done: pictures whose files were written.
      failed: pictures that could not be read, inferred or written, and folders that could not be
        entered.
      ignored: files that are no pictures.
    """

    num_done: int
    failed: list[Problem]
    ignored: list[Problem]


def extract(
    infer_batch: InferBatch,
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    image_size: int,
    batch_size: int,
    crop: str = "stretch",
    soft: bool = False,
    file_format: str = "png",
    progress: Callable[[int, int], None] | None = None,
) -> Extraction:
    """Infers the foreground of a picture, or of every picture below a folder.

    Written below ``output``, for a picture ``a/b.jpg``, all but the last of the picture's size:

        masks/a/b.png           white where the foreground's weight pi_f > 0.5, or pi_f itself
        cutouts/a/b.png         the picture with pi_f as its transparency
        backgrounds/a/b.png     the picture, with the generated background where the mask is white
                                and blended into it around there, by 2 pi_f
        side_by_side/a/b.jpg    the picture and the three others, small
        failed.txt              a line for every picture that failed; absent where none did

    Sub-folders are kept, so ``masks`` fits the preparation's ``--masks``. Where two pictures differ
    in their endings only, their outputs keep these (``b.jpg.png``). Earlier files of the same names
    are replaced.

    Args:
      infer_batch: the inference. Every batch has the same shape; the last is filled up with
        repeated pictures, whose results are dropped.
      source: a picture or a folder; see `decode.read_picture` for what is read.
      output: folder for the files, made if needed.
      image_size: the model's image side S.
      batch_size: pictures per call of ``infer_batch``; fewer if there are fewer files.
      crop: how a picture that is not square goes through the model: ``stretch`` squeezes all of it
        into the square; ``centre`` looks at the largest square in its middle, and the rest is
        background; ``letterbox`` shows all of it between grey bars, for models trained so.
      soft: masks hold pi_f in 0 to 255 instead of 0 and 255.
      file_format: ``png`` or ``webp`` (lossless), of all but the side-by-side pictures.
      progress: called after each batch with the numbers of files done and in all.

    Returns:
      What became of the files.

    Raises:
      UserError: before any inference, if there is nothing to read or ``output`` cannot be used.
    """
    folder, (names, failed, ignored) = _inputs(pathlib.Path(source), pathlib.Path(output))
    root = pathlib.Path(output)
    if not names:
        raise UserError(f"there are no files in --input={source}")
    try:
        root.mkdir(parents=True, exist_ok=True)
        (root / FAILED).unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to --output={output}: {error.strerror}") from None
    stems = output_stems(names, decode.EXTENSIONS, _ENDINGS)
    num_done, num_no_files = 0, len(failed) + len(ignored)
    for number, batch in enumerate(
        _batches(folder, names, image_size, batch_size, crop, failed, ignored)
    ):
        # Filled up, so that the last batch has the shape the others were compiled for.
        places = np.minimum(np.arange(min(batch_size, len(names))), len(batch) - 1)
        regions = infer_batch(np.stack([square for _, square in batch])[places], number)
        weights = 1.0 - np.asarray(regions.pi, np.float32)[:, -1]
        backgrounds = np.asarray(regions.images, np.float32)[:, -1]
        for (name, _), weight, background in zip(batch, weights, backgrounds, strict=False):
            try:
                # Read again, for a batch of large photographs would not fit in memory.
                photo = decode.read_picture(folder / name)
                made = _files(photo, weight, background, crop, soft, file_format)
                for kind, (ending, content) in made.items():
                    path = root / kind / f"{stems[name]}{ending}"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    write_atomically(path, content)
                num_done += 1
            except decode.UnreadableError as error:
                failed.append(Problem(name, str(error)))
            except (OSError, ValueError, MemoryError) as error:
                failed.append(Problem(name, f"cannot be written: {error}"))
        if progress is not None:
            progress(num_done + len(failed) + len(ignored) - num_no_files, len(names))
    failed.sort()
    if failed:
        lines = [f"{printable(name)}: {printable(reason)}\n" for name, reason in failed]
        write_atomically(root / FAILED, "".join(lines).encode())
    return Extraction(num_done, failed, sorted(ignored))


def summary(result: Extraction, output: str | os.PathLike[str]) -> str:
    """What a terminal shows at the end: the failures and the numbers."""
    lines = [
        f"failed: {printable(name)} {printable(reason)}" for name, reason in result.failed[:_SHOWN]
    ]
    if len(result.failed) > _SHOWN:
        lines.append(f"failed: {len(result.failed) - _SHOWN} more")
    parts = [f"{result.num_done} picture{'' if result.num_done == 1 else 's'} done"]
    if result.failed:
        parts.append(f"{len(result.failed)} failed ({pathlib.Path(output) / FAILED})")
    if result.ignored:
        parts.append(f"{len(result.ignored)} left out that are no pictures")
    if result.num_done:
        parts.append(f"look at {pathlib.Path(output) / 'side_by_side'} first")
    return "\n".join([*lines, "; ".join(parts)])


def _inputs(source: pathlib.Path, output: pathlib.Path) -> tuple[pathlib.Path, Listing]:
    """The folder and what is in it."""
    # Not pathlib's tests, which raise where a folder on the way is closed.
    if os.path.isdir(source):
        if source.resolve() == output.resolve():
            raise UserError(f"--output={output} is the folder of the pictures; give one of its own")
        return source, list_files(source, [output])
    if os.path.exists(source):
        return source.parent, Listing([source.name], [], [])
    raise UserError(f"there is no picture or folder --input={source}")


def _batches(
    folder: pathlib.Path,
    names: list[str],
    image_size: int,
    batch_size: int,
    crop: str,
    failed: list[Problem],
    ignored: list[Problem],
) -> Iterator[list[tuple[str, np.ndarray]]]:
    """Names and squares uint8 [S, S, 3] of the pictures, 1 to ``batch_size`` at a time.

    Files that give none are appended to ``failed`` and ``ignored``.
    """
    batch = []
    for name in names:
        try:
            photo = decode.read_picture(folder / name)
        except decode.NotAPictureError as error:
            ignored.append(Problem(name, str(error)))
            continue
        except decode.UnreadableError as error:
            failed.append(Problem(name, str(error)))
            continue
        batch.append((name, to_square(photo, image_size, crop)))
        if len(batch) == batch_size:
            yield batch
            batch = []
    if batch:
        yield batch


def to_square(photo: np.ndarray, size: int, crop: str) -> np.ndarray:
    """What the model sees of a picture.

    Args:
      photo: uint8 [H, W, 3].
      size: side S of the square in pixels.
      crop: ``stretch``, ``centre`` or ``letterbox``; see `extract`.

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


def _files(
    photo: np.ndarray,
    weight: np.ndarray,
    background: np.ndarray,
    crop: str,
    soft: bool,
    file_format: str,
) -> dict[str, tuple[str, bytes]]:
    """The contents of a picture's files.

    Args:
      photo: uint8 [H, W, 3].
      weight: float32 [S, S], pi_f.
      background: float32 [S, S, 3] in [-1, 1].
      crop, soft, file_format: see `extract`.

    Returns:
      Folder to ending and content.

    Raises:
      UnreadableError: if the inference gave no numbers.
    """
    if not (np.isfinite(weight).all() and np.isfinite(background).all()):
        raise decode.UnreadableError(
            "gave values that are not finite; try fewer steps or another checkpoint"
        )
    height, width = photo.shape[:2]
    picture = Image.fromarray(photo)
    share = np.asarray(from_square(Image.fromarray(weight), width, height, crop))
    alpha = _grey(share)
    mask = alpha if soft else Image.fromarray(np.where(share > 0.5, np.uint8(255), np.uint8(0)))
    painted = Image.fromarray(panels.to_uint8(background))
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
    return Image.fromarray(panels.image_grid([row], [""], captions))


def _encoded(image: Image.Image, file_format: str) -> bytes:
    # `exact` keeps the colours of transparent pixels, which WebP would otherwise forget.
    options: dict[str, dict[str, Any]] = {
        "webp": {"lossless": True, "exact": True},
        "jpeg": {"quality": 90},
    }
    buffer = io.BytesIO()
    image.save(buffer, format=file_format, **options.get(file_format, {}))
    return buffer.getvalue()
