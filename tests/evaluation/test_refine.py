"""Refined masks follow edges and colours, keep to [0, 1], and leave plain pictures as they are."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from drc_jax.data.generated import scenes
from drc_jax.data.pictures import grabcut
from drc_jax.errors import UserError
from drc_jax.evaluation import metrics
from drc_jax.evaluation.cutouts import from_square, to_square
from drc_jax.evaluation.extract import extract
from drc_jax.evaluation.refine import check, refined
from drc_jax.evaluation.refined_regions import refining
from tests.helpers.halves import half_red


def test_masks_of_a_small_model_gain_on_large_scenes():
    before, after, true = [], [], []
    for record in scenes.records(6, size=128, seed=3, split="test"):
        small = record.mask.astype(np.float32).reshape(16, 8, 16, 8).mean((1, 3))
        square = Image.fromarray(small)
        before.append(np.asarray(from_square(square, 128, 128, "stretch")) > 0.5)
        found = np.asarray(from_square(square, 128, 128, "stretch", record.image, "edges"))
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


@pytest.mark.parametrize("how", ["edges", "colours"])
def test_pictures_of_odd_shapes_and_crops_keep_what_the_model_did_not_see(how):
    if how == "colours":
        pytest.importorskip("cv2")
    rng = np.random.default_rng(0)
    for height, width in ((1, 1), (3, 200), (97, 40)):
        photo = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        for crop in ("stretch", "centre", "letterbox"):
            weight = to_square(photo, 8, crop)[..., 0].astype(np.float32) / 255
            square = Image.fromarray(weight)
            found = np.asarray(from_square(square, width, height, crop, photo, how))
            plain = np.asarray(from_square(square, width, height, crop))
            assert found.shape == (height, width) and np.isfinite(found).all()
            if crop == "centre":
                assert not found[plain == 0].any() or (height, width) == (1, 1)


def two_coloured(side: int = 96, radius: float = 0.25) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A saturated disc on green noise, its mask, and a coarse one that has a corner too."""
    rng = np.random.default_rng(0)
    photo = rng.integers(60, 110, (side, side, 3)).astype(np.uint8)
    photo[..., 1] += 80
    y, x = np.mgrid[:side, :side] / side
    true = (y - 0.4) ** 2 + (x - 0.45) ** 2 < radius**2
    photo[true] = np.add((190, 30, 120), rng.integers(0, 40, (true.sum(), 3)))
    coarse = (true | ((y > 0.55) & (x > 0.6))).astype(np.float32)
    small = Image.fromarray(coarse).resize((8, 8), Image.Resampling.BOX)
    return photo, true, np.asarray(small.resize((side, side), Image.Resampling.BILINEAR))


def test_colours_drop_what_does_not_belong():
    pytest.importorskip("cv2")
    photo, true, share = two_coloured()

    def score(mask):
        return metrics.iou(mask[None] > 0.5, true[None]).mean()

    edges, colours = (refined(photo, share, 8, how) for how in ("edges", "colours"))
    assert score(share) < 0.7 and score(edges) < 0.75
    assert score(colours) > 0.97
    assert colours.dtype == np.float32 and 0 <= colours.min() and colours.max() <= 1
    np.testing.assert_array_equal(colours, refined(photo, share, 8, "colours"))  # no chance in it


def test_pictures_larger_than_what_is_cut_have_masks_of_their_size():
    pytest.importorskip("cv2")
    photo, true, share = two_coloured(400)
    found = refined(photo[:, :300], share[:, :300], 8, "colours")
    assert found.shape == (400, 300)
    assert metrics.iou(found[None] > 0.5, true[None, :, :300]).mean() > 0.97


def test_a_mask_stays_where_there_is_nothing_to_cut_or_the_cut_has_little_in_common_with_it():
    pytest.importorskip("cv2")
    photo, true, share = two_coloured()
    nothing = np.zeros_like(share)
    assert not refined(photo, nothing, 8, "colours").any()
    lower = np.zeros_like(share)
    lower[60:] = 1
    flat = np.full_like(photo, 90)
    np.testing.assert_array_equal(refined(flat, lower, 8, "colours") > 0.5, lower > 0.5)
    small, true, _ = two_coloured(radius=0.1)
    most = np.ones_like(share)
    most[:, 90:] = 0  # the disc is found in it, which is a thirtieth of it
    assert grabcut.from_mask(small, most > 0.5).sum() == true.sum() < 0.1 * most.sum()
    assert metrics.iou(refined(small, most, 8, "colours")[None] > 0.5, most[None] > 0).mean() > 0.9


def test_the_border_is_background_for_certain():
    pytest.importorskip("cv2")
    photo, true, _ = two_coloured()
    found = grabcut.from_mask(photo, np.ones_like(true))
    assert metrics.iou(found[None], true[None]).mean() > 0.97


def red_regions(images):
    """In the place of a model of two foregrounds at 8x8, one red above and one red below."""
    assert images.shape[1:] == (8, 8, 3)
    red = images[..., 0].astype(np.float32) / 255
    upper = np.arange(8)[:, None] < 4
    pi = np.stack([red * upper, red * ~upper, 1 - red], axis=1)
    blue = np.broadcast_to(np.float32([-1, -1, 1]), (*images.shape[:3], 3))
    return SimpleNamespace(
        pi=pi, images=np.stack([blue] * 3, 1), reconstruction=blue, foreground_weight=red
    )


def test_regions_of_larger_images_are_shared_among_foregrounds():
    photo = half_red(40, 40)
    regions = refining(red_regions, 8, "edges")(np.stack([photo, photo]))
    assert regions.images.shape == (2, 3, 40, 40, 3) and regions.pi.shape == (2, 3, 40, 40)
    np.testing.assert_allclose(regions.pi.sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(regions.pi[:, :2].sum(1), regions.foreground_weight, atol=1e-6)
    np.testing.assert_array_equal(regions.foreground_weight[0] > 0.5, photo[..., 0] == 255)
    upper, lower = regions.pi[0, :2] > 0.5
    assert upper[:16, :18].all() and not upper[24:].any() and lower[24:, :18].all()


def test_what_cannot_be_refined_is_refused_first(monkeypatch, tmp_path):
    with pytest.raises(UserError, match="empty or one of edges, colours, got 'sharp'"):
        check("sharp")

    def slots(images):
        return SimpleNamespace(**{**vars(red_regions(images)), "foreground_weight": None})

    with pytest.raises(UserError, match="methods that have a foreground"):
        refining(slots, 8, "edges")(half_red(16, 16)[None])
    monkeypatch.setitem(sys.modules, "cv2", None)
    Image.fromarray(half_red(16, 16)).save(tmp_path / "a.png")

    def never(images):
        raise AssertionError("inference began")

    with pytest.raises(UserError, match=r"needs OpenCV.*drc_jax\[baselines\]"):
        extract(never, tmp_path / "a.png", tmp_path / "out", image_size=8, refine="colours")
    with pytest.raises(UserError, match="needs OpenCV"):
        refining(never, 8, "colours")
