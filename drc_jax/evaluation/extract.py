"""Cut-outs of every picture below a folder: reading, inference in blocks, writing, failures."""

import math
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterator
from typing import IO, NamedTuple

import numpy as np

from drc_jax import files
from drc_jax.data.pictures import decode
from drc_jax.data.pictures.files import Listing, Problem, list_files, output_stems, printable
from drc_jax.errors import NonFiniteError, UserError
from drc_jax.evaluation import cutouts
from drc_jax.evaluation.refine import check
from drc_jax.evaluation.regions import HostRegions, InferBatch, block_size, infer_on_host

FAILED = "failed.txt"

_SHOWN = 20  # failures in the summary; the file has all
_PHOTOS_IN_MEMORY = 2**28  # bytes of decoded photographs; those of a block beyond go to a file


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
    crop: str = "stretch",
    soft: bool = False,
    refine: str = "",
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

    Of DRC with several slots also every object, a slot that holds 0.5 % of the pixels or more, the
    largest first:

        objects/1/a/b.png       the picture with the slot's weight as its transparency

    Of a method of exchangeable slots there is no foreground to cut out, so every slot is:

        masks/slot_1/a/b.png    white where the slot's weight is more than 0.5, or that weight
        cutouts/slot_1/a/b.png  the picture with the slot's weight as its transparency
        side_by_side/a/b.jpg    the picture, the slot that weighs most in colours, and all cut-outs

    Sub-folders are kept, so ``masks`` fits the preparation's ``--masks``. Where two pictures differ
    in their endings only, their outputs keep these (``b.jpg.png``). Earlier files of the same names
    are replaced. Every picture is decoded once; `write_failures` lists those that failed.

    Args:
      infer_batch: the inference. Every block has the same shape; the last is filled up with
        repeated pictures, whose results are dropped.
      source: a picture or a folder; see `decode.read_picture` for what is read.
      output: folder for the files, made if needed.
      image_size: the model's image side S.
      crop: how a picture that is not square goes through the model: ``stretch`` squeezes all of it
        into the square; ``centre`` looks at the largest square in its middle, and the rest is
        background; ``letterbox`` shows all of it between grey bars, for models trained so.
      soft: masks hold pi_f in 0 to 255 instead of 0 and 255.
      refine: how masks follow their pictures, which are finer than the model's pixels: ``edges``
        or ``colours`` (`refine.refined`); empty for not at all.
      file_format: ``png`` or ``webp`` (lossless), of all but the side-by-side pictures.
      progress: called first, and after each block, with the numbers of files done and in all.

    Returns:
      What became of the files.

    Raises:
      UserError: before any inference, if there is nothing to read, ``output`` cannot be used, or
        ``refine`` is unknown, or ``colours`` and OpenCV absent; if the photographs of a block fit
        neither in memory nor on the disk of ``output``.
      ValueError: if ``infer_batch`` returns wrong shapes.
    """
    check(refine)
    folder, (names, failed, ignored) = _inputs(pathlib.Path(source), pathlib.Path(output))
    if not names:
        raise UserError(f"there are no files in --input={source}")
    root = files.writable(output, "cut-outs")
    try:
        (root / FAILED).unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"cannot replace {root / FAILED}: {error.strerror}") from None
    stems = output_stems(names, decode.EXTENSIONS, cutouts.ENDINGS)
    options = (crop, soft, file_format, refine)
    num_done, num_no_files = 0, len(failed) + len(ignored)
    if progress is not None:
        progress(0, len(names))
    # Decoding is slow, and the photographs of a block together may not fit in memory.
    with tempfile.SpooledTemporaryFile(_PHOTOS_IN_MEMORY, dir=str(root)) as spool:
        for block in _blocks(folder, names, spool, failed, ignored):
            squares = [
                cutouts.to_square(photo, image_size, crop) for _, photo in _read(block, spool)
            ]
            regions = _infer(infer_batch, np.stack(squares))
            for i, (name, photo) in enumerate(_read(block, spool)):
                try:
                    if regions is None:
                        raise cutouts.not_finite()
                    if regions.foreground_weight is None:
                        made = cutouts.slot_files(photo, regions.pi[i], *options)
                    else:
                        weight, background = regions.foreground_weight[i], regions.images[i, -1]
                        made = cutouts.files(photo, weight, background, regions.pi[i], *options)
                    for kind, (ending, content) in made.items():
                        path = root / kind / f"{stems[name]}{ending}"
                        path.parent.mkdir(parents=True, exist_ok=True)
                        files.write_atomically(path, content)
                    num_done += 1
                except decode.UnreadableError as error:
                    failed.append(Problem(name, str(error)))
                except (OSError, ValueError, MemoryError) as error:
                    failed.append(Problem(name, f"cannot be written: {error}"))
            if progress is not None:
                progress(num_done + len(failed) + len(ignored) - num_no_files, len(names))
    return Extraction(num_done, sorted(failed), sorted(ignored))


def _infer(infer_batch: InferBatch, squares: np.ndarray) -> HostRegions | None:
    """The regions of a block's pictures uint8 [n, S, S, 3]; None where all chains diverged."""
    try:
        return infer_on_host(infer_batch, squares)
    except NonFiniteError:
        return None


def write_failures(result: Extraction, output: str | os.PathLike[str]) -> None:
    """Writes ``failed.txt`` where some pictures failed: a line for each.

    Raises:
      UserError: if it cannot be written.
    """
    if result.failed:
        lines = [f"{printable(name)}: {printable(reason)}\n" for name, reason in result.failed]
        files.write_atomically(pathlib.Path(output) / FAILED, "".join(lines).encode())


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


class _Kept(NamedTuple):
    """A decoded photograph in the spool.

    Attributes:
      name: its file.
      shape: (H, W, 3) of its uint8 pixels, which follow those of the one before.
    """

    name: str
    shape: tuple[int, ...]


def _blocks(
    folder: pathlib.Path,
    names: list[str],
    spool: IO[bytes],
    failed: list[Problem],
    ignored: list[Problem],
) -> Iterator[list[_Kept]]:
    """The pictures, a block at a time, each decoded once and its pixels in ``spool``.

    Files that give none are appended to ``failed`` and ``ignored``.
    """
    block: list[_Kept] = []
    for name in names:
        try:
            photo = decode.read_picture(folder / name)
            spool.write(photo.tobytes())
        except decode.NotAPictureError as error:
            ignored.append(Problem(name, str(error)))
            continue
        except decode.UnreadableError as error:
            failed.append(Problem(name, str(error)))
            continue
        except OSError as error:
            raise UserError(
                f"cannot keep photographs beside the output: {error.strerror}"
            ) from None
        block.append(_Kept(name, photo.shape))
        if len(block) == block_size():
            yield block
            block = []
            spool.seek(0)
            spool.truncate()
    if block:
        yield block


def _read(block: list[_Kept], spool: IO[bytes]) -> Iterator[tuple[str, np.ndarray]]:
    """Names and photographs uint8 [H, W, 3] of a block, from the spool, one at a time."""
    spool.seek(0)
    for name, shape in block:
        yield name, np.frombuffer(spool.read(math.prod(shape)), np.uint8).reshape(shape)
