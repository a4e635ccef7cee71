"""Batches out of a packed split: shuffled and endless for training, in order for evaluation."""

import contextlib
import functools
import sys
from collections.abc import Generator, Iterator, Sequence

import grain
import numpy as np

from drc_jax.data.packed.format import PackedSplit
from drc_jax.errors import UserError

# An element of the pipeline is a whole batch, so a few suffice to keep ahead of the train step.
_PREFETCH = grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)


def train_batches(
    split: PackedSplit,
    *,
    batch_size: int,
    seed: int,
    start_step: int,
    flip: bool,
    num_shards: int = 1,
    shards: Sequence[int] | None = None,
) -> Generator[dict[str, np.ndarray], None, None]:
    """Endless shuffled batches, read ahead by background threads.

    The batch of a step depends on (seed, step) alone, so an iterator started at step t repeats
    what another one gives from t on. Every epoch is a new permutation without its remainder of
    less than a batch, so the images of one batch are always distinct.

    With several shards, shard s is the images [s M, (s + 1) M), M = N // num_shards; the last
    N mod num_shards images are in none. Every batch has B / num_shards images of each shard, in
    the order of shards, and an epoch is a permutation inside every shard. Whoever asks for some
    shards only gets the rows of the same batches that belong to these.

    Args:
      split: the training images.
      batch_size: images B per batch, over all shards.
      seed: seed of order and mirroring, at least 0.
      start_step: step of the first batch, at least 0.
      flip: mirror each image left to right with probability 1/2.
      num_shards: parts of the split with equal shares in every batch, a divisor of B.
      shards: the shards wanted, in increasing order; None for all.

    Returns:
      An iterator over dicts with ``image`` uint8 [B', S, S, 3], mirrored where ``flip`` says so;
      ``index`` int32 [B'], the images' places in the split; and ``flip`` bool [B']. B' is B, or
      the share of the wanted shards. Its ``close``, or dropping it, ends the threads.

    Raises:
      UserError: if there are fewer than ``batch_size`` images or an argument is out of range.
    """
    check_batch_size(batch_size, len(split), split.path)
    if num_shards < 1 or batch_size % num_shards:
        raise UserError(f"num_shards must divide batch_size {batch_size}, got {num_shards}")
    if seed < 0 or start_step < 0:
        raise UserError(f"seed and start_step must be at least 0, got {seed} and {start_step}")
    read = _BatchReader(split, batch_size, seed, flip, num_shards, shards)
    steps = grain.MapDataset.range(start_step, sys.maxsize)
    return _iterate(steps.map(read).to_iter_dataset(_PREFETCH))


class _BatchReader:
    """Reads the batch of a step.

    It orders an epoch by itself: Grain's shuffle walks cycles of a fixed length, which takes
    milliseconds per image on small data sets.
    """

    def __init__(
        self,
        split: PackedSplit,
        batch_size: int,
        seed: int,
        flip: bool,
        num_shards: int,
        shards: Sequence[int] | None,
    ) -> None:
        self._split = split
        self._batch_size = batch_size
        self._seed = seed
        self._flip = flip
        self._num_shards = num_shards
        self._shards = list(range(num_shards) if shards is None else shards)
        # Threads that read ahead may be in two epochs at once.
        self._order = functools.lru_cache(maxsize=4)(self._epoch_order)

    def _epoch_order(self, epoch: int) -> np.ndarray:
        """The images of every shard in the order of the epoch, int32 [num_shards, M]."""
        rng = np.random.default_rng([self._seed, 0, epoch])
        size = len(self._split) // self._num_shards
        order = [shard * size + rng.permutation(size) for shard in range(self._num_shards)]
        return np.stack(order).astype(np.int32)

    def __call__(self, step: int) -> dict[str, np.ndarray]:
        share = self._batch_size // self._num_shards
        epoch, place = divmod(step, len(self._split) // self._num_shards // share)
        index = self._order(epoch)[self._shards, place * share : (place + 1) * share].ravel()
        flip: np.ndarray = np.zeros((self._num_shards, share), np.bool_)
        if self._flip:
            flip = np.random.default_rng([self._seed, 1, step]).random(flip.shape) < 0.5
        flip = flip[self._shards].ravel()
        image = self._split.images[index]
        image[flip] = image[flip, :, ::-1]
        return {"image": image, "index": index, "flip": flip}


def _iterate(dataset: grain.IterDataset) -> Generator[dict[str, np.ndarray], None, None]:
    """Yields the batches of a Grain data set and shuts its threads down at the end."""
    with contextlib.closing(iter(dataset)) as batches:
        yield from batches


def eval_batches(
    split: PackedSplit, batch_size: int
) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
    """Every image once, in order, in batches of one shape so that a jitted step compiles once.

    Args:
      split: the images.
      batch_size: images B per batch; may exceed the split.

    Returns:
      An iterator over (images uint8 [B, S, S, 3], indices int32 [B], number of valid images). The
      last batch is filled up by repeating the last image.

    Raises:
      UserError: if ``batch_size`` is below 1.
    """
    if batch_size < 1:
        raise UserError(f"batch_size must be at least 1, got {batch_size}")

    def iterate() -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
        for start in range(0, len(split), batch_size):
            wanted = np.arange(start, start + batch_size, dtype=np.int32)
            indices = np.minimum(wanted, np.int32(len(split) - 1))
            yield split.images[indices], indices, min(batch_size, len(split) - start)

    return iterate()


def check_batch_size(batch_size: int, num_images: int, source: object = "the data set") -> None:
    """Refuses a batch that would need an image twice.

    Args:
      batch_size: images of a batch.
      num_images: images there are.
      source: where they are, for the message.

    Raises:
      UserError: naming the number that is wrong.
    """
    if batch_size < 1:
        raise UserError(f"batch_size must be at least 1, got {batch_size}")
    if num_images < 1:
        raise UserError(f"{source} must have at least 1 image, got {num_images}")
    if batch_size > num_images:
        raise UserError(
            f"batch_size {batch_size} is more than the {num_images} images of {source}; "
            f"use at most {num_images}"
        )


def check_index(
    index: np.ndarray, shards: Sequence[int], num_shards: int, num_images: int | None
) -> None:
    """Refuses places at which JAX would read and write others, or one twice.

    Args:
      index: int [B], equal shares of ``shards`` in turn.
      shards: the devices whose rows these are, of ``num_shards``.
      num_images: N that have chains; None where nothing is kept per image.

    Raises:
      UserError: if an image repeats or is not its device's.
    """
    if len(np.unique(index)) != len(index):
        raise UserError("batch['index'] must not repeat an image: two chains would be one")
    if num_images is None:
        return
    share = num_images // num_shards
    for shard, rows in zip(shards, np.split(index, len(shards)), strict=True):
        low, high = shard * share, (shard + 1) * share
        if rows.min() < low or rows.max() >= high:
            raise UserError(
                f"batch['index'] must lie in [{low}, {high}), got {rows.min()} to {rows.max()}"
            )
