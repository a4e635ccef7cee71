"""CLEVR6: the scenes of CLEVR-with-masks that have at most six objects.

See docs/method.md, "7 Data".
"""

import collections
import os
import pathlib
from collections.abc import Iterator
from concurrent import futures
from typing import Any, NamedTuple

import numpy as np

from drc_jax.data.packed.datasets import Part, write_dataset
from drc_jax.data.packed.format import Record
from drc_jax.data.pictures.crops import Window
from drc_jax.data.pictures.decode import UnreadableError
from drc_jax.data.pictures.images import resize_image, resize_labels
from drc_jax.data.published import builders, official
from drc_jax.errors import UserError

FILE = "clevr_with_masks_train.tfrecords"
ADDRESS = f"https://storage.googleapis.com/multi-object-datasets/clevr_with_masks/{FILE}"
MAX_OBJECTS = 6
HEIGHT, WIDTH, ENTITIES = 240, 320, 11
# Rows 29:221, columns 64:256.
CROP = Window(left=64, top=29, right=256, bottom=221)
_AHEAD = 8  # scenes in memory, of 3 MB each


class Scene(NamedTuple):
    """One record of the file.

    Attributes:
      number: its place in the file, from 0.
      serialized: its bytes.
    """

    number: int
    serialized: bytes


def prepare(
    output: str | os.PathLike[str],
    *,
    source: str,
    size: int = 128,
    num_train: int = 70_000,
    num_test: int = 2_000,
    max_damaged: float = official.MAX_DAMAGED,
    overwrite: bool = False,
) -> None:
    """Writes the scenes with at most six objects as packed splits ``train`` and ``test``.

    The paper's set is ``train``, out of the first 70,000 records. It names no test set: ``test`` is
    taken from the records that follow.

    Args:
      output: folder of the data set.
      source: folder of ``clevr_with_masks_train.tfrecords``, or that file.
      size: image side S in pixels.
      num_train: records, before the choice by objects, from which ``train`` is taken.
      num_test: records after those from which ``test`` is taken; 0 for no such split.
      max_damaged: share of damaged records that is tolerated.
      overwrite: replace splits that are there.

    Raises:
      UserError: if the extra ``data`` is not installed, or the file, an argument or what lies at
        ``output`` is not as required.
    """
    official.check_options(size, max_damaged)
    if num_train < 1 or num_test < 0:
        raise UserError(
            f"num_train must be at least 1 and num_test at least 0, got {num_train} and {num_test}"
        )
    builders.import_tensorflow()
    path = _find(pathlib.Path(source))
    ranges = {"train": (0, num_train)}
    if num_test:
        ranges["test"] = (num_train, num_train + num_test)
    write_dataset(
        output,
        {
            split: Part(_records(path, start, stop, size, max_damaged), None)
            for split, (start, stop) in ranges.items()
        },
        image_size=size,
        has_masks=True,
        source={
            "dataset": "clevr6",
            "file_bytes": path.stat().st_size,
            "num_train": num_train,
            "num_test": num_test,
            "max_objects": MAX_OBJECTS,
        },
        overwrite=overwrite,
    )


def _find(source: pathlib.Path) -> pathlib.Path:
    path = source / FILE if source.is_dir() else source
    if not path.is_file():
        raise UserError(f"there is no file {path}; download it from {ADDRESS} and put it there")
    return path


def _records(
    path: pathlib.Path, start: int, stop: int, size: int, max_damaged: float
) -> Iterator[Record]:
    with futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        scenes = official.skip_damaged(
            _ahead(_scenes(path, start, stop), pool, size),
            lambda pending: pending.converted.result(),
            lambda pending: _name(pending.scene),
            stop - start,
            max_damaged,
        )
        yield from (record for record in scenes if record is not None)


class _Pending(NamedTuple):
    """A scene whose conversion has been started."""

    scene: Scene
    converted: futures.Future[Record | None]


def _ahead(
    scenes: Iterator[Scene], pool: futures.ThreadPoolExecutor, size: int
) -> Iterator[_Pending]:
    """Converts a few scenes ahead, on all cores: parsing one takes a tenth of a second."""
    waiting: collections.deque[_Pending] = collections.deque()
    for scene in scenes:
        waiting.append(_Pending(scene, pool.submit(_convert, scene, size)))
        if len(waiting) > _AHEAD:
            yield waiting.popleft()
    yield from waiting


def _scenes(path: pathlib.Path, start: int, stop: int) -> Iterator[Scene]:
    """The records start to stop - 1 of the file."""
    tf = builders.import_tensorflow()
    number = start  # of the next record
    stored = tf.data.TFRecordDataset(str(path), compression_type="GZIP")
    try:
        for serialized in stored.skip(start).take(stop - start):
            yield Scene(number, serialized.numpy())
            number += 1
    except tf.errors.OpError as error:
        # A broken stream cannot be taken up again behind the damage.
        raise UserError(
            f"{path} is damaged at record {number} ({type(error).__name__}); download it again "
            f"from {ADDRESS}"
        ) from None
    if number != stop:
        raise UserError(
            f"{path} has no record {number}, but {start} to {stop - 1} were asked for; choose a "
            "smaller num_train or num_test"
        )


def _convert(scene: Scene, size: int) -> Record | None:
    """Parses a record; None for a scene with too many objects."""
    tf = builders.import_tensorflow()
    visibility = _parse(tf, scene, "visibility", [ENTITIES], tf.float32).numpy()
    # Entity 0 is the background, which is always visible.
    if visibility.sum() - 1 > MAX_OBJECTS:
        return None
    image = _bytes(tf, scene, "image", [HEIGHT, WIDTH, 3])
    masks = _bytes(tf, scene, "mask", [ENTITIES, HEIGHT, WIDTH, 1])
    # Each pixel shows one entity; entity 0, the background, loses wherever another is marked.
    objects = masks[1:, :, :, 0] >= 128
    labels = np.where(objects.any(axis=0), objects.argmax(axis=0) + 1, 0).astype(np.uint8)
    labels = resize_labels(CROP.cut(labels), size)
    mask = (labels > 0).astype(np.uint8)
    return Record(resize_image(CROP.cut(image), size), mask, _name(scene), labels)


def _name(scene: Scene) -> str:
    return f"clevr/{scene.number:06d}"


def _parse(tf: Any, scene: Scene, feature: str, shape: list[int], kind: Any) -> Any:
    """One feature of a record as a tensor."""
    form = {feature: tf.io.FixedLenFeature(shape, kind)}
    try:
        return tf.io.parse_single_example(scene.serialized, form)[feature]
    except tf.errors.InvalidArgumentError as error:
        raise UnreadableError(f"has no valid {feature}: {error.message.splitlines()[0]}") from None


def _bytes(tf: Any, scene: Scene, feature: str, shape: list[int]) -> np.ndarray:
    """A feature stored as a list of strings of one byte, one per number: uint8 of ``shape``."""
    strings = _parse(tf, scene, feature, shape, tf.string)
    try:
        return tf.io.decode_raw(strings, tf.uint8).numpy().reshape(shape)
    except (tf.errors.InvalidArgumentError, ValueError):
        raise UnreadableError(f"has a {feature} that is not of single bytes") from None
