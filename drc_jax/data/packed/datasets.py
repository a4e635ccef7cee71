"""Writing a data set of several splits: dividing it, what is there already, and resuming."""

import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import tqdm

from drc_jax.data.packed.format import Record, open_split, splits
from drc_jax.data.packed.writing import write_split
from drc_jax.errors import UserError


class Part(NamedTuple):
    """What goes into one split.

    Attributes:
      records: the examples; read only if the split has to be written.
      num_images: how many there will be; None if that shows at the end.
    """

    records: Iterable[Record]
    num_images: int | None


def check_division(test_fraction: float, seed: int) -> None:
    """Raises UserError unless `divide` can use the arguments."""
    if not 0 <= test_fraction <= 1:
        raise UserError(f"test_fraction must be from 0 to 1, got {test_fraction}")
    if seed < 0:
        raise UserError(f"seed must be at least 0, got {seed}")


def divide(count: int, test_fraction: float, seed: int) -> dict[str, np.ndarray]:
    """Divides the examples 0 .. count - 1 at random into ``train`` and ``test``.

    Args:
      count: number of examples, at least 1.
      test_fraction: share of ``test``, 0 to 1; at 0 or 1 there is one split only, in between
        each has an example as long as there are two.
      seed: seed of the division, at least 0.

    Returns:
      The splits that are not empty, each int64 [n], ascending: the division is random, the order
      within a split need not be.

    Raises:
      UserError: if ``test_fraction`` or ``seed`` is out of range.
    """
    check_division(test_fraction, seed)
    num_test = round(test_fraction * count)
    if 0 < test_fraction < 1:
        num_test = min(max(1, num_test), count - 1)
    order = np.random.default_rng(seed).permutation(count)
    chosen = {"train": np.sort(order[num_test:]), "test": np.sort(order[:num_test])}
    return {split: indices for split, indices in chosen.items() if len(indices)}


def check_existing(
    root: str | os.PathLike[str],
    counts: Mapping[str, int | None],
    described: Mapping[str, Any],
    *,
    overwrite: bool,
    may_have_more: bool = False,
) -> None:
    """Refuses a folder whose splits were made from something else.

    Args:
      root: folder of the data set.
      counts: the splits to be written by name, with their number of images where it is known.
      described: ``image_size``, ``has_masks`` and the source of the splits to be written.
      overwrite: only look for splits that are not among those to be written.
      may_have_more: compare what is in ``described`` alone, because the source is not wholly known
        yet.

    Raises:
      UserError: naming the split and what differs.
    """
    others = sorted(set(splits(root)) - set(counts))
    if others:
        raise UserError(
            f"{root} also holds the split {others[0]!r}, which may be of other images; choose "
            "another output folder"
        )
    for split in [] if overwrite else splits(root):
        info = open_split(root, split).info
        found = {"image_size": info.image_size, "has_masks": info.has_masks, **info.source}
        wanted = dict(described)
        if counts[split] is not None:
            found["count"], wanted["count"] = info.count, counts[split]
        for key in wanted if may_have_more else [*wanted, *found]:
            if found.get(key) != wanted.get(key):
                raise UserError(
                    f"{pathlib.Path(root) / split} was made "
                    f"{_difference(key, found.get(key), wanted.get(key))}; choose another "
                    "folder, or replace this one by `python -m experiments.prepare --overwrite`"
                )


def _difference(key: str, found: Any, wanted: Any) -> str:
    """How a part of a source differs; digests tell a person nothing."""
    if all(isinstance(value, str) and len(value) == 64 for value in (found, wanted)):
        return f"from other files ({key} differ)"
    if wanted is None:
        return f"with {key} {found!r}, and none is asked for"
    if found is None:
        return f"without {key} {wanted!r}"
    return f"with {key} {found!r} instead of {wanted!r}"


def write_dataset(
    root: str | os.PathLike[str],
    parts: Mapping[str, Part],
    *,
    image_size: int,
    has_masks: bool,
    source: dict[str, Any],
    overwrite: bool = False,
) -> None:
    """Writes the splits that are missing, with a progress bar on a terminal.

    A split that is there and was made from the same source is kept, so a run that was killed goes
    on where it stopped, and one that was finished has nothing to do.

    Args:
      root: folder of the data set.
      parts: the splits by name.
      image_size: image side of every record.
      has_masks: whether every record has a mask.
      source: everything the records depend on, JSON only.
      overwrite: write every split again.

    Raises:
      UserError: if ``root`` holds other data; nothing has been written then.
    """
    existing = [] if overwrite else splits(root)
    counts = {split: part.num_images for split, part in parts.items()}
    described = {"image_size": image_size, "has_masks": has_masks, **source}
    check_existing(root, counts, described, overwrite=overwrite)
    for split, part in parts.items():
        if split not in existing:
            # None: no bar where the output is not a terminal.
            with tqdm.tqdm(part.records, split, part.num_images, unit="image", disable=None) as bar:
                write_split(
                    root,
                    split,
                    bar,
                    image_size=image_size,
                    has_masks=has_masks,
                    source=source,
                    overwrite=overwrite,
                )
