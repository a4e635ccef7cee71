"""Refined masks follow edges, keep to [0, 1], and leave plain pictures as they are."""

import numpy as np
from PIL import Image

from drc_jax.data.generated import scenes
from drc_jax.evaluation import metrics
from drc_jax.evaluation.cutouts import from_square, to_square
from drc_jax.evaluation.refine import refined


def test_masks_of_a_small_model_gain_on_large_scenes():
    before, after, true = [], [], []
    for record in scenes.records(6, size=128, seed=3, split="test"):
        small = record.mask.astype(np.float32).reshape(16, 8, 16, 8).mean((1, 3))
        square = Image.fromarray(small)
        before.append(np.asarray(from_square(square, 128, 128, "stretch")) > 0.5)
        found = np.asarray(from_square(square, 128, 128, "stretch", record.image))
        assert found.dtype == np.float32 and 0 <= found.min() and found.max() <= 1
        after.append(found > 0.5)
        true.append(record.mask > 0)
    coarse = metrics.iou(np.stack(before), np.stack(true)).mean()
    fine = metrics.iou(np.stack(after), np.stack(true)).mean()
    assert fine > coarse + 0.02 and fine > 0.97


def test_without_edges_a_mask_stays():
    share = np.zeros((64, 64), np.float32)
    share[:, 32:] = 1
    photo = np.full((64, 64, 3), 90, np.uint8)
    found = refined(photo, share, 16)
    np.testing.assert_array_equal(found > 0.5, share > 0.5)


def test_pictures_of_odd_shapes_and_crops_keep_what_the_model_did_not_see():
    rng = np.random.default_rng(0)
    for height, width in ((1, 1), (3, 200), (97, 40)):
        photo = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        for crop in ("stretch", "centre", "letterbox"):
            weight = to_square(photo, 8, crop)[..., 0].astype(np.float32) / 255
            square = Image.fromarray(weight)
            found = np.asarray(from_square(square, width, height, crop, photo))
            plain = np.asarray(from_square(square, width, height, crop))
            assert found.shape == (height, width) and np.isfinite(found).all()
            if crop == "centre":
                assert not found[plain == 0].any() or (height, width) == (1, 1)
