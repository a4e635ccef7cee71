"""A score depends on the images, the seed and the steps alone: not on batches, nor on order."""

import jax
import numpy as np
import pytest

from drc_jax.data.packed.format import PackedSplit, Record, open_split
from drc_jax.data.packed.writing import write_split
from drc_jax.evaluation.evaluate import evaluate
from drc_jax.evaluation.report import Evaluation
from drc_jax.inference import image_keys, infer
from drc_jax.model.render import init_params
from tests.helpers.small import ONE_BLOCK

# Few steps: programs of other batch sizes round differently, and long chains amplify that.
COUNT, SIDE, STEPS = 7, 8, 10


@pytest.fixture(scope="module")
def params():
    """Noise in the place of trained parameters, so that masks are of every kind."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: init_params(ONE_BLOCK, jax.random.key(0)))
    return jax.tree.map(lambda x: rng.normal(size=x.shape, scale=0.3).astype(np.float32), shapes)


def split_of(root, order) -> PackedSplit:
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (COUNT, SIDE, SIDE, 3), np.uint8)
    masks = rng.integers(0, 2, (COUNT, SIDE, SIDE), np.uint8)
    records = [Record(images[i], masks[i], f"image {i}") for i in order]
    write_split(root, "test", records, image_size=SIDE, has_masks=True, source={"kind": "made up"})
    return open_split(root, "test")


def scored(params, split, batch_size, seed=0) -> Evaluation:
    def infer_batch(images):
        keys = image_keys(jax.random.key(seed), images)
        return infer(ONE_BLOCK, params, keys, images, num_steps=STEPS)

    return evaluate(infer_batch, split, batch_size=batch_size)


def test_batch_size_and_order_change_nothing(tmp_path, params):
    order = np.random.default_rng(2).permutation(COUNT)
    split, shuffled = split_of(tmp_path / "a", range(COUNT)), split_of(tmp_path / "b", order)
    first = scored(params, split, 1)
    assert 0.1 < first.predicted.mean() < 0.9
    for batch_size in (3, 64):
        other = scored(params, split, batch_size)
        np.testing.assert_array_equal(other.predicted, first.predicted)
        np.testing.assert_allclose(other.errors, first.errors, rtol=1e-4)
        assert other.report.scores == first.report.scores
    first, other = scored(params, split, 3), scored(params, shuffled, 3)
    # Bit for bit, for the program is the same.
    np.testing.assert_array_equal(other.predicted, first.predicted[order])
    np.testing.assert_array_equal(other.errors, first.errors[order])
    # The mean of the same numbers in another order.
    found, expected = other.report.scores["fixed"], first.report.scores["fixed"]
    assert found.iou == pytest.approx(expected.iou, abs=1e-12)


def test_the_seed_changes_the_chains(tmp_path, params):
    split = split_of(tmp_path, range(COUNT))
    first, other = scored(params, split, 64), scored(params, split, 64, seed=1)
    assert (first.predicted != other.predicted).any(axis=(1, 2)).all()


def test_keys_depend_on_the_image_alone():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, SIDE, SIDE, 3), np.uint8)
    images[3] = images[0]
    key = jax.random.key(3)
    keys = jax.random.key_data(image_keys(key, images))
    np.testing.assert_array_equal(keys[3], keys[0])
    assert len({bytes(np.asarray(row)) for row in keys}) == 3
    alone = jax.random.key_data(image_keys(key, images[1:2]))
    np.testing.assert_array_equal(alone[0], keys[1])
    one_bit = images[:1].copy()
    one_bit[0, 4, 4, 2] ^= 1
    assert (jax.random.key_data(image_keys(key, one_bit))[0] != keys[0]).any()
