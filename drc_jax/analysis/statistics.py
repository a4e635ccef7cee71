"""What a data set with masks looks like: colours, shapes and floors, in numbers (appendix G.1)."""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from drc_jax.data.packed.format import PackedSplit, open_split, splits
from drc_jax.data.packed.reading import FileArray
from drc_jax.errors import UserError
from drc_jax.evaluation import metrics
from drc_jax.evaluation.report import Score

CHANNELS = ("red", "green", "blue")
REGIONS = ("foreground", "background")
COLOUR_BINS = 64  # of 4 values each: finer ones show the comb that a contrast stretch leaves.
SHARE_BINS = 20
NUM_EXAMPLES = 5

_PIECE_PIXELS = 2**20


@dataclasses.dataclass(frozen=True)
class Statistics:
    """The statistics of one split.

    Attributes:
      path: the split's folder.
      split: its name.
      num_images: how many images N.
      image_size: image side S in pixels.
      fingerprint: of the data, from its description.
      foreground, background: float64 [3, COLOUR_BINS], the share of the region's pixels that has
        each value, per channel in the order R, G, B; value v is in bin v // 4. Each row sums to 1.
      heat_map: float64 [S, S] in [0, 1], the masks summed and divided by the maximum (Fig. 17).
      shares: float64 [N] in [0, 1], the share of foreground pixels of each image.
      floors: ``all_foreground`` and ``mean_mask``, the scores of these constant predictions.
      mean_mask_split: the split whose mean mask is predicted. A floor from a split's own masks is a
        little too high.
      example_images, example_masks: uint8 [n, S, S, 3] and [n, S, S] of 0 and 1; at most
        NUM_EXAMPLES, evenly spread over the split.
    """

    path: str
    split: str
    num_images: int
    image_size: int
    fingerprint: str
    foreground: np.ndarray
    background: np.ndarray
    heat_map: np.ndarray
    shares: np.ndarray
    floors: dict[str, Score]
    mean_mask_split: str
    example_images: np.ndarray
    example_masks: np.ndarray

    @property
    def colour_overlap(self) -> float:
        """How alike foreground and background are in colour; see `intersection`."""
        return intersection(self.foreground, self.background)

    def share_histogram(self) -> np.ndarray:
        """The part of the images in each of SHARE_BINS equal ranges of foreground share."""
        return np.histogram(self.shares, SHARE_BINS, (0.0, 1.0))[0] / self.num_images


def intersection(first: np.ndarray, second: np.ndarray) -> float:
    """Histogram intersection sum_i min(p_i, q_i), the mean over channels.

    Args:
      first, second: float [3, bins], each row summing to 1.

    Returns:
      0 where the two have no value in common, 1 where they are the same.
    """
    return float(np.minimum(first, second).sum(axis=1).mean())


def analyse(
    split: PackedSplit,
    train: PackedSplit | None = None,
    *,
    progress: Callable[[int], None] | None = None,
) -> Statistics:
    """Reads a split in pieces; of each image only its foreground share is kept in memory.

    Args:
      split: images with masks.
      train: the split whose mean mask is the constant prediction of the second floor
        (docs/method.md, "6 Evaluation"); None takes the mean of ``split``'s own masks.
      progress: called after each piece with the number of images in it.

    Returns:
      The statistics.

    Raises:
      UserError: if a split has no masks, the masks of ``split`` are all empty or all full, or the
        two splits are of different sizes.
    """
    reference = split if train is None else train
    masks, mean_mask = _masks(split), metrics.mean_mask(_masks(reference))
    if mean_mask.shape != masks.shape[1:]:
        raise UserError(
            f"{reference.path} has masks of {list(mean_mask.shape)} but {split.path} of "
            f"{list(masks.shape[1:])}; both must come from one preparation"
        )
    own_mean = mean_mask if reference is split else metrics.mean_mask(masks)
    if not 0 < own_mean.mean() < 1:
        state = "empty" if own_mean.mean() == 0 else "full"
        raise UserError(
            f"all masks of {split.path} are {state}, but there must be some foreground and some "
            "background"
        )
    counts = np.zeros((3, 2, COLOUR_BINS), np.int64)
    shares, everything, constant = [], [], []
    for part in _pieces(split):
        true = np.asarray(masks[part]) != 0
        for channel, table in enumerate(counts):
            bins = split.images[part, ..., channel].astype(np.intp) * COLOUR_BINS // 256
            cells = np.bincount((bins + COLOUR_BINS * true).ravel(), minlength=2 * COLOUR_BINS)
            table += cells.reshape(table.shape)
        shares.append(true.mean(axis=(1, 2)))
        everything.append(_sums(metrics.all_foreground_floor(true)))
        constant.append(_sums(metrics.mean_mask_floor(true, mean_mask)))
        if progress is not None:
            progress(len(true))
    spread = np.linspace(0, len(split) - 1, min(len(split), NUM_EXAMPLES)).round().astype(np.intp)
    histograms = counts / counts.sum(axis=-1, keepdims=True)
    return Statistics(
        path=str(split.path),
        split=split.info.split,
        num_images=len(split),
        image_size=split.info.image_size,
        fingerprint=split.info.fingerprint,
        foreground=histograms[:, 1],
        background=histograms[:, 0],
        heat_map=own_mean / own_mean.max(),
        shares=np.concatenate(shares),
        floors={
            name: Score(*(float(value) for value in np.sum(sums, axis=0) / len(split)))
            for name, sums in (("all_foreground", everything), ("mean_mask", constant))
        },
        mean_mask_split=reference.info.split,
        example_images=np.array(split.images[spread]),
        example_masks=np.array(masks[spread]),
    )


def analyse_folders(
    folders: Sequence[str | os.PathLike[str]],
    split: str,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Statistics]:
    """Analyses one split of several data sets.

    The mean mask of the second floor is that of the data set's ``train`` split if it has one with
    masks, and the split's own otherwise.

    Args:
      folders: the data sets, each once.
      split: name of the split, the same for all.
      progress: called with the numbers of images done and in all.

    Returns:
      The statistics by name: the folder's own, or its whole path where two folders share it.

    Raises:
      UserError: before any work, if a data set is absent, given twice or without masks; see also
        `analyse`.
    """
    paths = [pathlib.Path(folder) for folder in folders]
    for path in paths:
        if sum(path.resolve() == other.resolve() for other in paths) > 1:
            raise UserError(f"{path} is given more than once; name every data set once")
    opened = [open_split(path, split) for path in paths]
    trains = [
        open_split(path, "train") if split != "train" and "train" in splits(path) else None
        for path in paths
    ]
    for item in opened:
        _masks(item)
    done, total = 0, sum(map(len, opened))

    def advance(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(done, total)

    names = [path.resolve().name for path in paths]
    results = {}
    for path, name, item, train in zip(paths, names, opened, trains, strict=True):
        label = name if names.count(name) == 1 else str(path)
        has_reference = train is not None and train.masks is not None
        results[label] = analyse(item, train if has_reference else None, progress=advance)
    return results


def _masks(split: PackedSplit) -> FileArray:
    """The masks, uint8 [N, S, S]; UserError if there are none."""
    if split.masks is None:
        raise UserError(
            f"{split.path} has no masks to tell foreground from background; prepare the data from "
            "a source with masks"
        )
    return split.masks


def _pieces(split: PackedSplit) -> Iterator[slice]:
    """Slices that cover the split, each of about a million pixels."""
    step = max(1, _PIECE_PIXELS // split.info.image_size**2)
    for start in range(0, len(split), step):
        yield slice(start, start + step)


def _sums(scores: metrics.Overlap) -> tuple[float, float]:
    return float(scores.iou.sum()), float(scores.dice.sum())
