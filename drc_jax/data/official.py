"""The published data sets: building them with TensorFlow Datasets, and skipping what is damaged.

TensorFlow Datasets is imported where it is used: only preparing needs it, never training.
"""

import contextlib
import io
import logging
import os
import pathlib
import shutil
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from drc_jax import folders
from drc_jax.data.crops import Box
from drc_jax.data.decode import UnreadableError
from drc_jax.errors import UserError

# Share of damaged images above which a preparation fails.
MAX_DAMAGED = 0.01
# Inside --source: what the builders extract and write. It can be deleted after the preparation.
WORK_FOLDER = "tfds"

_EXTRA = "the extra `data`; install it with `pip install 'drc_jax[data]'`"
_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_Example = TypeVar("_Example")


def import_tensorflow() -> Any:
    """TensorFlow, without its start-up chatter and without taking the GPU's memory.

    Raises:
      UserError: if it is not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        with _silent_stderr():
            import tensorflow

            # RuntimeError: the program has used TensorFlow before.
            with contextlib.suppress(RuntimeError):
                tensorflow.config.set_visible_devices([], "GPU")
    except ImportError as error:
        raise UserError(f"{error}: preparing this data set needs {_EXTRA}") from None
    return tensorflow


@contextlib.contextmanager
def _silent_stderr() -> Iterator[None]:
    """Drops what is written to the process's stderr; no setting quietens TensorFlow's first lines.

    Python's exceptions are not affected.
    """
    sys.stderr.flush()
    with open(os.devnull, "wb") as nothing:
        stderr = os.dup(2)
        os.dup2(nothing.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def prepared_builder(name: str, source: str | os.PathLike[str], *, downloads: bool = True) -> Any:
    """Runs a builder of TensorFlow Datasets, once, on archives put by hand or downloaded.

    An archive that lies in ``source`` under its published name replaces the download. Its checksum
    is checked either way. What the builder writes goes to ``source/tfds``; an interrupted build
    starts again.

    Args:
      name: the builder's name.
      source: folder of the archives.
      downloads: whether the published addresses still work.

    Returns:
      The ``tfds.core.DatasetBuilder``, its examples written.

    Raises:
      UserError: if the extra ``data`` is not installed, ``source`` is no folder, an archive is
        missing and cannot be downloaded, or is not the published one.
    """
    folder = pathlib.Path(source)
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; --source must name one for the archives")
    import_tensorflow()
    try:
        import tensorflow_datasets as tfds
        from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError
    except ImportError as error:
        raise UserError(f"{error}: preparing this data set needs {_EXTRA}") from None
    work = folder / WORK_FOLDER
    busy = f"another preparation is using {work}; wait until it ends"
    with folders.locked(work, "extracted archives", busy), _without_absl_warnings():
        builder = tfds.builder(name, data_dir=work, file_format="array_record")
        if builder.is_prepared():
            return builder
        missing = _missing_archives(builder, folder)
        if missing and not downloads:
            raise UserError(f"the published addresses of {name} are dead; {_by_hand(missing)}")
        for archive in missing:
            _log.warning("downloading %s; if that fails, put it there by hand", archive)
        for leftover in work.glob(f"{name}/*incomplete*"):
            shutil.rmtree(leftover)
        config = tfds.download.DownloadConfig(manual_dir=folder, try_download_gcs=False)
        try:
            # Pillow warns of odd EXIF data in the published pictures.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                builder.download_and_prepare(
                    download_dir=work / "downloads", download_config=config
                )
        except NonMatchingChecksumError as error:
            raise UserError(
                f"an archive of {name} is damaged or not the published one: "
                f"{' '.join(str(error).split('To debug')[0].split())}; get it again"
            ) from None
        except OSError as error:  # of which requests' own errors are kinds
            if not missing:
                raise
            reason = error.strerror or type(error).__name__
            raise UserError(f"cannot download {name} ({reason}); {_by_hand(missing)}") from None
    return builder


def _missing_archives(builder: Any, folder: pathlib.Path) -> list[str]:
    """What to put where, for every archive that is not in ``folder``."""
    addresses: dict[str, str] = {}
    for url, info in builder.url_infos.items():
        addresses.setdefault(info.filename, url)
    return [
        f"{folder / file} (published at {url})"
        for file, url in addresses.items()
        if not (folder / file).exists()
    ]


def _by_hand(missing: Sequence[str]) -> str:
    return f"put these archives there by hand: {', '.join(missing)}"


@contextlib.contextmanager
def _without_absl_warnings() -> Iterator[None]:
    """Quietens TensorFlow Datasets, which warns of folders that it has just made itself."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def examples(builder: Any, split: str, *, encoded: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The examples of a builder's split in their stored order, one in memory at a time.

    Args:
      builder: of `prepared_builder`.
      split: the builder's name of the split.
      encoded: features that are pictures, to be left as the bytes of their files.
    """
    import tensorflow_datasets as tfds

    decoders = {feature: tfds.decode.SkipDecoding() for feature in encoded}
    stored = builder.as_data_source(split, decoders=decoders)
    for i in range(len(stored)):
        yield stored[i]


def num_examples(builder: Any, split: str) -> int:
    """How many examples a builder's split has."""
    return builder.info.splits[split].num_examples


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
