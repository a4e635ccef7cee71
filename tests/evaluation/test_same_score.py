"""A score depends on the images, the seed and the steps alone: not on what else is scored."""

import jax
import numpy as np
import pytest

from drc_jax.data.packed.format import PackedSplit, Record, open_split
from drc_jax.data.packed.writing import write_split
from drc_jax.evaluation.evaluate import evaluate
from drc_jax.evaluation.regions import block_size
from drc_jax.evaluation.report import Evaluation
from drc_jax.inference import image_keys, infer
from drc_jax.model.render import init_params
from tests.helpers.small import ONE_BLOCK

# Long chains: what another rounding changes has grown by then.
COUNT, SIDE, STEPS = 64, 8, 60


@pytest.fixture(scope="module")
def params():
    """Noise in the place of trained parameters, so that masks are of every kind."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: init_params(ONE_BLOCK, jax.random.key(0)))
    return jax.tree.map(lambda x: rng.normal(size=x.shape, scale=0.3).astype(np.float32), shapes)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, params) -> Evaluation:
    """All images in their order."""
    return scored(params, split_of(tmp_path_factory.mktemp("whole"), range(COUNT)))


def split_of(root, order) -> PackedSplit:
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (COUNT, SIDE, SIDE, 3), np.uint8)
    masks = rng.integers(0, 2, (COUNT, SIDE, SIDE), np.uint8)
    records = [Record(images[i], masks[i], f"image {i}") for i in order]
    write_split(root, "test", records, image_size=SIDE, has_masks=True, source={"kind": "made up"})
    return open_split(root, "test")


def scored(params, split, seed=0) -> Evaluation:
    def infer_batch(images):
        keys = image_keys(jax.random.key(seed), images)
        return infer(ONE_BLOCK, params, keys, images, num_steps=STEPS)

    return evaluate(infer_batch, split)


def one_step(params, images) -> np.ndarray:
    keys = image_keys(jax.random.key(0), images)
    return np.asarray(infer(ONE_BLOCK, params, keys, images, num_steps=1).reconstruction)


@pytest.fixture(scope="module")
def in_two_orders(params) -> tuple[np.ndarray, np.ndarray]:
    """What one step makes of a block's images, each at one place and at another."""
    images = np.random.default_rng(1).integers(0, 256, (block_size(), SIDE, SIDE, 3), np.uint8)
    order = np.roll(np.arange(len(images)), 3)
    return one_step(params, images)[order], one_step(params, images[order])


def test_an_images_place_in_a_block_changes_no_more_than_its_rounding(in_two_orders):
    np.testing.assert_allclose(*in_two_orders, rtol=0, atol=1e-6)


@pytest.mark.parametrize("count", [1, 3, 8, 21, 64])
def test_an_image_has_one_score_alone_in_a_part_and_in_another_order(
    tmp_path, params, whole, in_two_orders, count, request
):
    if not np.array_equal(*in_two_orders):  # A known fault: everything below is run all the same.
        why = "this processor rounds an image by its place in a block: docs/method.md, 6"
        request.applymarker(pytest.mark.xfail(reason=why))
    order = np.random.default_rng(count).permutation(COUNT)[:count]
    found = scored(params, split_of(tmp_path, order))
    assert 0.1 < whole.predicted.mean() < 0.9
    # Bit for bit: the error has every bit of the reconstruction in it.
    np.testing.assert_array_equal(found.predicted, whole.predicted[order])
    np.testing.assert_array_equal(found.errors, whole.errors[order])
    expected = whole.scores["fixed"].iou[order]
    np.testing.assert_array_equal(found.scores["fixed"].iou, expected)
    assert found.report.scores["fixed"].iou == pytest.approx(expected.mean(), abs=1e-12)


def test_the_seed_changes_the_chains(tmp_path, params, whole):
    other = scored(params, split_of(tmp_path, range(8)), seed=1)
    assert (whole.predicted[:8] != other.predicted).any(axis=(1, 2)).all()


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
