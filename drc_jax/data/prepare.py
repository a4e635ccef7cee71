"""Making data sets by name: what `experiments.prepare` calls, and training for generated data."""

import contextlib
import dataclasses
import errno
import functools
import inspect
import os
from collections.abc import Callable, Iterator
from typing import Any

from drc_jax.config import SceneOptions
from drc_jax.data import folder, npz
from drc_jax.data.generated import scenes, tm_dsprites
from drc_jax.data.masks import detected
from drc_jax.data.packed.datasets import Part, write_dataset
from drc_jax.data.packed.format import Record
from drc_jax.data.published import birds, cars, clevr6, dogs, pets
from drc_jax.errors import UserError

_GENERATORS: dict[str, Callable[..., Iterator[Record]]] = {
    "tm_dsprites": tm_dsprites.records,
    "scenes": scenes.records,
}
# Raise it when a generator's pictures change: data of an older one are then told from new ones.
_GENERATOR_VERSION = 1
# What only writing meets: a full disk, a quota, a limit on file sizes, a read-only file system.
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


def prepare_synthetic(
    dataset: str,
    output: str | os.PathLike[str],
    *,
    size: int = 128,
    num_train: int = 20_000,
    num_test: int = 1_000,
    seed: int = 0,
    workers: int = 1,
    overwrite: bool = False,
    **scene: Any,
) -> None:
    """Generates the splits ``train`` and ``test`` where they are missing.

    Args:
      dataset: ``tm_dsprites`` or ``scenes``.
      output: folder of the data set.
      size: image side in pixels, at least 8.
      num_train, num_test: images per split, at least 1.
      seed: seed of the data set, at least 0.
      workers: processes that draw; the bytes do not depend on it.
      overwrite: generate splits again that are there.
      **scene: fields of `SceneOptions`, for ``scenes`` alone. Those that are not its defaults
        belong to the source that the splits record.

    Raises:
      UserError: if an argument is out of range, or ``output`` holds data made with others.
    """
    if dataset not in _GENERATORS:
        raise UserError(
            f"dataset {dataset!r} cannot be generated; use one of {', '.join(_GENERATORS)}"
        )
    options = SceneOptions(**scene).scene_options()
    if options and dataset != "scenes":
        raise UserError(f"dataset {dataset} takes no {next(iter(options))}")
    records = functools.partial(
        _GENERATORS[dataset], size=size, seed=seed, workers=workers, **options
    )
    with _disk_errors(output):
        write_dataset(
            output,
            {
                "train": Part(records(num_train, split="train"), num_train),
                "test": Part(records(num_test, split="test"), num_test),
            },
            image_size=size,
            has_masks=True,
            source={
                "dataset": dataset,
                "generator_version": _GENERATOR_VERSION,
                "seed": seed,
                **{k: list(v) if isinstance(v, tuple) else v for k, v in options.items()},
            },
            overwrite=overwrite,
        )


# Each takes the output folder, and as keywords the options that it understands.
PREPARERS: dict[str, Callable[..., None]] = {
    "tm_dsprites": functools.partial(prepare_synthetic, "tm_dsprites"),
    "scenes": functools.partial(prepare_synthetic, "scenes"),
    "npz": npz.prepare,
    "folder": folder.prepare,
    "birds": birds.prepare,
    "dogs": functools.partial(detected.prepare, dogs.DOGS),
    "cars": functools.partial(detected.prepare, cars.CARS),
    "clevr6": clevr6.prepare,
    "pets": pets.prepare,
}


def prepare(dataset: str, output: str | os.PathLike[str], **options: Any) -> None:
    """Makes a data set by name.

    Args:
      dataset: a key of `PREPARERS`.
      output: folder of the data set.
      **options: what the data set's function takes; the others have its defaults.

    Raises:
      UserError: on an unknown name, an option the data set does not take or lacks, a ``size`` that
        no model takes, a full disk, or anything that its function refuses.
    """
    if dataset not in PREPARERS:
        raise UserError(f"unknown dataset {dataset!r}; use one of {', '.join(PREPARERS)}")
    parameters = inspect.signature(PREPARERS[dataset]).parameters.values()
    known = {p.name: p for p in parameters if p.kind is p.KEYWORD_ONLY}
    names = list(known)
    if dataset == "scenes":
        names += [f.name for f in dataclasses.fields(SceneOptions)]
    for name in options:
        if name not in names:
            raise UserError(
                f"dataset {dataset} takes no {name}; its options are {', '.join(names)}"
            )
    for name, parameter in known.items():
        if parameter.default is parameter.empty and name not in options:
            raise UserError(f"dataset {dataset} needs the option {name}")
    size = options.get("size")
    if size is not None and size > 0 and other_sides(size):  # the data set refuses what is no size
        raise UserError(
            f"size must be a side that models have, such as 32, 64 or 128; got {size}, try "
            f"{other_sides(size)}"
        )
    with _disk_errors(output):
        PREPARERS[dataset](output, **options)


def other_sides(size: int) -> str:
    """The nearest sides that models have, ``"32 or 64"``; empty where they have this one, 4 * 2^k.

    Args:
      size: image side in pixels, at least 1.
    """
    if size >= 8 and size & (size - 1) == 0:
        return ""
    below = 1 << size.bit_length() - 1
    return f"{below} or {2 * below}" if size > 8 else "8"


@contextlib.contextmanager
def _disk_errors(output: str | os.PathLike[str]) -> Iterator[None]:
    """Turns a disk that is full or read-only into a UserError."""
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_ERRORS:
            raise
        raise UserError(f"cannot write the data set at {output}: {error.strerror}") from None
