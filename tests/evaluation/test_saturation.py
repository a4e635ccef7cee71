"""The saturation floor: Otsu's threshold as an independent program finds it, and odd images."""

import numpy as np
import pytest

from drc_jax.data.generated import scenes
from drc_jax.evaluation import metrics
from drc_jax.evaluation.saturation import saturation_masks


def rendered(number, size=32, **options):
    made = list(scenes.records(number, size=size, seed=1, split="test", **options))
    return np.stack([r.image for r in made]), np.stack([r.mask for r in made]) > 0


def test_it_is_opencvs_threshold():
    cv2 = pytest.importorskip("cv2")
    images, _ = rendered(4)
    for image, mask in zip(images, saturation_masks(images), strict=True):
        most = image.max(-1).astype(float)
        levels = ((most - image.min(-1)) / most * 256).clip(0, 255).astype(np.uint8)
        _, expected = cv2.threshold(levels, 0, 1, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
        np.testing.assert_array_equal(mask, expected > 0)


def test_it_finds_saturated_objects_on_grey():
    images, masks = rendered(8)
    assert metrics.iou(saturation_masks(images), masks).mean() > 0.95


def test_images_of_one_colour_or_black_have_no_foreground():
    images = np.zeros((3, 4, 4, 3), np.uint8)
    images[1] = 200
    images[2, ..., 0] = 255
    assert not saturation_masks(images).any()
