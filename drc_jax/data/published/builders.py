"""Running the builders of TensorFlow Datasets, and reading what they wrote.

TensorFlow Datasets is imported where it is used: only preparing needs it, never training.
"""

import contextlib
import logging
import os
import pathlib
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from drc_jax import files
from drc_jax.errors import UserError

# Inside --source: what the builders extract and write. It can be deleted after the preparation.
WORK_FOLDER = "tfds"
_SHUFFLE_BYTES = 64 << 20

_EXTRA = "the extra `data`; install it with `pip install 'drc_jax[data]'`"
_log = logging.getLogger(__name__)


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


def prepared_builder(
    name: str,
    source: str | os.PathLike[str],
    *,
    downloads: bool = True,
    variant: Callable[[Any], Any] | None = None,
) -> Any:
    """Runs a builder of TensorFlow Datasets, once, on archives put by hand or downloaded.

    An archive that lies in ``source`` under its published name replaces the download. Its checksum
    is checked either way. What the builder writes goes to ``source/tfds``; an interrupted build
    starts again.

    Args:
      name: the builder's name.
      source: folder of the archives.
      downloads: whether the published addresses still work.
      variant: makes the class to use of the builder's.

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
    with files.locked(work, "extracted archives", busy), _without_absl_warnings():
        builder_class = tfds.builder_cls(name)
        if variant is not None:
            builder_class = variant(builder_class)
        builder = builder_class(data_dir=work, file_format="array_record")
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
            with warnings.catch_warnings(), _small_shuffle_buffer():
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


@contextlib.contextmanager
def _small_shuffle_buffer() -> Iterator[None]:
    """Lets TensorFlow Datasets order examples on disk: by default it holds 1 GB of them.

    The order is the same.
    """
    from tensorflow_datasets.core import shuffle

    before = shuffle.MAX_MEM_BUFFER_SIZE
    shuffle.MAX_MEM_BUFFER_SIZE = _SHUFFLE_BYTES
    try:
        yield
    finally:
        shuffle.MAX_MEM_BUFFER_SIZE = before


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
