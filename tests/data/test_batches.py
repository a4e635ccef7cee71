"""Batches: the same from any start, always of distinct images, mirrored where they say so."""

import itertools
import threading
import time

import numpy as np
import pytest

from drc_jax.data.packed.batches import check_batch_size, eval_batches, train_batches
from drc_jax.data.packed.format import Record, open_split
from drc_jax.data.packed.writing import write_split
from drc_jax.errors import UserError

COUNT, SIZE = 11, 3


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    rng = np.random.default_rng(0)
    root = tmp_path_factory.mktemp("data")
    images = rng.integers(0, 256, (COUNT, SIZE, SIZE, 3), dtype=np.uint8)
    records = [Record(image, image[..., 0] > 127, str(i)) for i, image in enumerate(images)]
    write_split(root, "train", records, image_size=SIZE, has_masks=True, source={})
    return open_split(root, "train")


def take(split, count, *, batch_size=4, seed=0, start_step=0, flip=True, **sharding):
    batches = train_batches(
        split, batch_size=batch_size, seed=seed, start_step=start_step, flip=flip, **sharding
    )
    try:
        return list(itertools.islice(batches, count))
    finally:
        batches.close()


def assert_same(batches, others):
    for a, b in zip(batches, others, strict=True):
        assert a.keys() == b.keys() == {"image", "index", "flip"}
        for key in a:
            np.testing.assert_array_equal(a[key], b[key])


@pytest.mark.parametrize("batch_size", [1, 4, 5, COUNT])
def test_batches_depend_on_seed_and_step_alone(split, batch_size):
    whole = take(split, 9, batch_size=batch_size)
    for start in range(8):
        rest = take(split, 9 - start, batch_size=batch_size, start_step=start)
        assert_same(whole[start:], rest)


@pytest.mark.parametrize("batch_size", [1, 4, 5, 6, COUNT])
def test_batches_are_disjoint_and_epochs_are_permutations(split, batch_size):
    per_epoch = COUNT // batch_size
    batches = take(split, 20 * per_epoch, batch_size=batch_size)
    epochs = []
    for start in range(0, len(batches), per_epoch):
        epoch = [int(i) for batch in batches[start : start + per_epoch] for i in batch["index"]]
        assert len(set(epoch)) == len(epoch) == per_epoch * batch_size
        epochs.append(tuple(epoch))
    assert len(set(epochs)) > 10
    # The remainder that an epoch drops is another one each time: every image has its turn.
    assert set(itertools.chain(*epochs)) == set(range(COUNT))


def test_contents_types_and_mirroring(split):
    batches = take(split, 30)
    flips = np.concatenate([batch["flip"] for batch in batches])
    assert 0.3 < flips.mean() < 0.7
    for batch in batches:
        assert batch["image"].dtype == np.uint8 and batch["image"].shape == (4, SIZE, SIZE, 3)
        assert batch["index"].dtype == np.int32 and batch["flip"].dtype == np.bool_
        for image, index, flip in zip(batch["image"], batch["index"], batch["flip"], strict=True):
            original = split.images[index]
            expected = original[:, [2, 1, 0]] if flip else original
            np.testing.assert_array_equal(image, expected)
    # Both orientations of an image turn up.
    seen = {(int(i), bool(f)) for b in batches for i, f in zip(b["index"], b["flip"], strict=True)}
    assert len(seen) == 2 * COUNT
    assert not any(batch["flip"].any() for batch in take(split, 30, flip=False))


def test_seeds_differ_and_epochs_of_neighbouring_seeds_are_unrelated(split):
    first = take(split, 4, batch_size=COUNT, seed=0)
    second = take(split, 4, batch_size=COUNT, seed=1)
    orders = {tuple(batch["index"].tolist()) for batch in first + second}
    assert len(orders) == 8


def test_the_stream_of_one_shard_is_what_it_has_always_been(split):
    """Runs begun by earlier versions go on with the batches they would have had."""
    batches = take(split, 5, batch_size=4, seed=7)
    for step, batch in enumerate(batches):
        order = np.random.default_rng([7, 0, step // 2]).permutation(COUNT)
        np.testing.assert_array_equal(batch["index"], order[step % 2 * 4 :][:4])
        flip = np.random.default_rng([7, 1, step]).random(4) < 0.5
        np.testing.assert_array_equal(batch["flip"], flip)


def test_every_batch_has_the_same_share_of_every_shard(split):
    """Five shards of two images each; the eleventh image is in none."""
    batches = take(split, 60, batch_size=5, num_shards=5)
    for batch in batches:
        np.testing.assert_array_equal(batch["index"] // 2, np.arange(5))
        for image, index, flip in zip(batch["image"], batch["index"], batch["flip"], strict=True):
            original = split.images[index]
            np.testing.assert_array_equal(image, original[:, ::-1] if flip else original)
    for first, second in zip(batches[::2], batches[1::2], strict=True):
        both = np.concatenate([first["index"], second["index"]])
        np.testing.assert_array_equal(np.sort(both), np.arange(10))
    # Shards are ordered independently of each other, and mirrored so.
    assert len({tuple(batch["index"] % 2) for batch in batches[::2]}) > 10
    assert len({tuple(batch["flip"]) for batch in batches}) > 10


def test_some_shards_are_rows_of_all(split):
    whole = take(split, 7, batch_size=6, num_shards=3, seed=2)
    for shards in ([0, 1], [2], [0, 2]):
        rows = [row for shard in shards for row in (2 * shard, 2 * shard + 1)]
        expected = [{name: values[rows] for name, values in batch.items()} for batch in whole]
        found = take(split, 7, batch_size=6, num_shards=3, seed=2, shards=shards)
        assert_same(found, expected)


def reader_threads():
    return [t for t in threading.enumerate() if t.name.startswith("grain")]


def test_closing_ends_the_threads(split):
    def wait_until_gone():
        deadline = time.monotonic() + 10
        while reader_threads() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not reader_threads()

    batches = train_batches(split, batch_size=2, seed=0, start_step=0, flip=True)
    next(batches)
    assert reader_threads()
    batches.close()
    wait_until_gone()
    batches = train_batches(split, batch_size=2, seed=0, start_step=0, flip=True)
    next(batches)
    del batches
    wait_until_gone()


def test_refusals_come_at_once(split):
    arguments = dict(batch_size=2, seed=0, start_step=0, flip=True)
    with pytest.raises(UserError, match="batch_size 12 is more than the 11 images"):
        train_batches(split, **{**arguments, "batch_size": 12})
    with pytest.raises(UserError, match="at least 1, got 0"):
        train_batches(split, **{**arguments, "batch_size": 0})
    with pytest.raises(UserError, match="num_shards must divide batch_size 2, got 3"):
        train_batches(split, **arguments, num_shards=3)
    with pytest.raises(UserError, match="got 0 and -1"):
        train_batches(split, **{**arguments, "start_step": -1})
    with pytest.raises(UserError, match="at least 1, got 0"):
        eval_batches(split, 0)


@pytest.mark.parametrize("batch_size, valid", [(4, [4, 4, 3]), (11, [11]), (16, [11])])
def test_evaluation_sees_every_image_once(split, batch_size, valid):
    batches = list(eval_batches(split, batch_size))
    assert [n for _, _, n in batches] == valid
    for images, indices, _ in batches:
        assert images.shape == (batch_size, SIZE, SIZE, 3) and images.dtype == np.uint8
        assert indices.dtype == np.int32
        np.testing.assert_array_equal(images, split.images[indices])
    seen = np.concatenate([indices[:n] for _, indices, n in batches])
    np.testing.assert_array_equal(seen, np.arange(COUNT))
    _, indices, n = batches[-1]
    assert (indices[n:] == COUNT - 1).all()


def test_no_images_are_said_to_be_none():
    with pytest.raises(UserError, match="the data set must have at least 1 image, got 0"):
        check_batch_size(2, 0)
