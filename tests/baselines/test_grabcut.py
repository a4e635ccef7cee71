"""GrabCut: one mask per image whatever comes before it, flat colours, a square it must find."""

import json
import sys

import numpy as np
import pytest

from drc_jax.baselines import grabcut as module
from drc_jax.baselines.grabcut import CUT, RECTANGLE, GrabCut, GrabCutConfig, grabcut
from drc_jax.data.packed.format import Record
from drc_jax.data.packed.writing import write_split
from drc_jax.errors import UserError
from drc_jax.runs import method
from tests.helpers.starting import ROOT, start

cv2 = pytest.importorskip("cv2")
SIZE = 32


def noisy_squares(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [N, 32, 32, 3] of a saturated square on grey noise, and the squares' masks."""
    rng = np.random.default_rng(0)
    images = rng.integers(90, 130, (count, SIZE, SIZE, 1)).repeat(3, -1).astype(np.uint8)
    masks = np.zeros((count, SIZE, SIZE), bool)
    for image, mask in zip(images, masks, strict=True):
        y, x = rng.integers(4, 16, 2)
        mask[y : y + 12, x : x + 12] = True
        image[mask] = np.add((230, 20, 40), rng.integers(0, 12, (mask.sum(), 3)))
    return images, masks


def colourful(count: int) -> np.ndarray:
    """Squares of many colours on clouds, uint8 [N, 48, 48, 3].

    With the pinned OpenCV, the masks of 3 of 12 depend on the state of its random generator.
    """
    rng = np.random.default_rng(1)
    images = []
    for _ in range(count):
        coarse = rng.integers(0, 150, (6, 6, 3)).astype(np.uint8)
        image = cv2.resize(coarse, (48, 48), interpolation=cv2.INTER_CUBIC).astype(int)
        for _ in range(7):
            y, x = rng.integers(4, 30, 2)
            image[y : y + 14, x : x + 14] = rng.integers(60, 256, 3)
        image = image + rng.normal(0, 30, image.shape)
        images.append(np.clip(image, 0, 255).astype(np.uint8))
    return np.array(images)


def test_finds_a_saturated_square():
    images, masks = noisy_squares(4)
    found = grabcut(images)
    assert (found.outcomes == CUT).all()
    overlap = (found.masks & masks).sum((1, 2)) / (found.masks | masks).sum((1, 2))
    assert overlap.min() > 0.9


def test_a_mask_depends_on_its_image_alone():
    images = colourful(12)
    together = grabcut(images).masks
    np.testing.assert_array_equal(grabcut(images[::-1]).masks[::-1], together)
    for image, mask in zip(images, together, strict=True):
        np.testing.assert_array_equal(grabcut(image[None]).masks[0], mask)
    assert 0 < together.mean() < 1


@pytest.mark.parametrize("colour", [0, 128, 255])
def test_flat_images_have_a_mask_and_are_counted(colour):
    found = grabcut(np.full((2, SIZE, SIZE, 3), colour, np.uint8))
    assert found.masks.shape == (2, SIZE, SIZE) and not found.masks[:, 0].any()
    refused = int((found.outcomes != CUT).sum())
    assert f"2 images, of which OpenCV refused {refused};" in module.summary(found.outcomes)


def test_refused_images_are_tried_with_noise_then_have_the_rectangle(monkeypatch):
    images, _ = noisy_squares(3)
    real, calls = cv2.grabCut, []

    def refuses_two(image, *rest):
        calls.append(image)
        if len(calls) in (2, 4, 5):
            raise cv2.error("assertion failed")
        return real(image, *rest)

    monkeypatch.setattr(cv2, "grabCut", refuses_two)
    found = grabcut(images)
    assert found.outcomes.tolist() == [CUT, module.CUT_WITH_NOISE, RECTANGLE]
    difference = np.abs(calls[1].astype(int) - calls[2].astype(int))
    assert difference.max() == 1
    expected = np.zeros((SIZE, SIZE), bool)
    expected[1:-1, 1:-1] = True
    np.testing.assert_array_equal(found.masks[2], expected)
    assert "3 images, of which OpenCV refused 2; 1 were cut with noise" in module.summary(
        found.outcomes
    )


def test_the_border_is_background():
    images, _ = noisy_squares(1)
    images[:, 2:14, 10:22] = (20, 40, 230)  # a square of which rows 2 and 3 lie in a wide border
    assert grabcut(images).masks[0, 2:4, 10:22].all()
    wide = grabcut(images, GrabCutConfig(border=0.125)).masks
    wide[:, 4:28, 4:28] = False
    assert not wide.any()


def test_the_smallest_images_keep_pixels_inside_the_widest_border():
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 6, 3), np.uint8)
    found = grabcut(images, GrabCutConfig(border=0.45))
    assert (found.outcomes == CUT).all()
    found.masks[:, 1:3, 1:5] = False
    assert not found.masks.any()


def test_regions_show_the_image_and_its_mask():
    images, _ = noisy_squares(2)
    found = method.find("grabcut")
    assert found == GrabCut()
    regions = found.segment(GrabCutConfig(), None, None, images)
    np.testing.assert_array_equal(regions.foreground_weight > 0.5, grabcut(images).masks)
    np.testing.assert_array_equal(regions.pi.sum(1), 1.0)
    np.testing.assert_allclose((regions.reconstruction + 1) * 127.5, images, atol=1e-3)
    assert regions.images.shape == (2, 2, SIZE, SIZE, 3)


def test_wrong_input_is_one_line(monkeypatch):
    with pytest.raises(UserError, match=r"takes uint8 images \[B, H, W, 3\], got float64"):
        grabcut(np.zeros((1, SIZE, SIZE, 3)))
    with pytest.raises(UserError, match="at least 4x4"):
        grabcut(np.zeros((1, 2, 2, 3), np.uint8))
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(UserError, match=r"pip install 'drc_jax\[baselines\]'"):
        grabcut(np.zeros((1, SIZE, SIZE, 3), np.uint8))


def test_a_packed_set_is_scored_without_training(tmp_path):
    images, masks = noisy_squares(5)
    records = [
        Record(image, mask.astype(np.uint8), str(i))
        for i, (image, mask) in enumerate(zip(images, masks, strict=True))
    ]
    data = tmp_path / "squares"
    write_split(data, "test", records, image_size=SIZE, has_masks=True, source={})
    config = f"--config={ROOT / 'configs' / 'baselines' / 'grabcut.py'}"
    output = f"--workdir={tmp_path / 'run'}"
    done = start("evaluate", config, f"--data={data}", output, "--batch_size=2")
    assert done.returncode == 0, done.stderr
    assert "GrabCut: 5 images, of which OpenCV refused 0;" in done.stdout
    scores = json.loads((tmp_path / "run" / "eval" / "squares" / "test.json").read_text())
    assert scores["scores"]["fixed"]["iou"] > 0.9
    done = start("evaluate", config, output)
    assert done.returncode == 2 and "grabcut has no data of its own" in done.stderr
