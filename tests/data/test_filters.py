"""The filters of detected masks, on detections made by hand."""

import numpy as np
import pytest

from drc_jax.data.masks import filters
from drc_jax.data.masks.detect import Detection
from drc_jax.data.masks.filters import MaskFilter, connected_share, judge, person_share, raggedness

SIDE = 40
DOG = MaskFilter("dog", max_share=0.9, max_person=0.05)


def block(top, bottom, left, right):
    mask = np.zeros((SIDE, SIDE), np.float32)
    mask[top:bottom, left:right] = 1
    return mask


def found(label, score, mask):
    return Detection(label, score, mask, (0.0, 0.0, float(SIDE), float(SIDE)))


BODY = block(10, 30, 10, 30)  # 400 pixels
CAT = found("cat", 0.99, BODY)


@pytest.mark.parametrize(
    "detections, reason, detail",
    [
        ([], "none", "no dog"),
        ([CAT], "none", "no dog"),
        ([found("dog", 0.9, 0.4 * BODY)], "none", "no dog"),
        ([found("dog", 0.79, BODY), CAT], "low-score", "0.79"),
        ([found("dog", 0.8, BODY), CAT], "ok", "0.80"),
        # 1444 pixels are 90.25 %, 1440 are 90 %.
        ([found("dog", 0.95, block(0, 38, 0, 38))], "large", "90 %"),
        ([found("dog", 0.95, block(0, 36, 0, 40))], "ok", "0.95"),
        # A piece of 45 pixels beside 400, and one of 40.
        ([found("dog", 0.95, BODY + block(31, 36, 0, 9))], "ragged", "piece 0.90"),
        ([found("dog", 0.95, BODY + block(31, 36, 0, 8))], "ok", "0.95"),
        # 40 and 20 pixels of a person in the box of the dog: 10 % and 5 %.
        ([found("dog", 0.95, BODY), found("person", 0.6, block(9, 31, 28, 40))], "person", "0.10"),
        ([found("dog", 0.95, BODY), found("person", 0.6, block(9, 31, 29, 40))], "ok", "0.95"),
    ],
)
def test_reasons(detections, reason, detail):
    verdict = judge(detections, DOG)
    assert (verdict.reason, verdict.detail) == (reason, detail)
    if reason == filters.NONE:
        assert verdict.mask is None
    else:
        np.testing.assert_array_equal(verdict.mask, detections[0].mask >= 0.5)
        assert verdict.mask.dtype == np.uint8


def test_a_person_in_the_box_of_the_dog():
    frame = block(10, 30, 10, 30) - block(20, 30, 20, 30)  # 300 pixels; its box has a free corner
    dog = found("dog", 0.95, frame)
    # 16 pixels of a person inside the box are more than 5 % of 300, 15 are not.
    over = [dog, found("person", 0.6, block(26, 40, 26, 40))]
    assert judge(over, DOG).reason == "person" and person_share(over, frame) == 16 / 300
    assert judge(over, MaskFilter("dog")).reason == "ok"
    assert judge([dog, found("person", 0.49, block(26, 40, 26, 40))], DOG).reason == "ok"
    assert judge([dog, found("person", 0.6, block(27, 40, 25, 40))], DOG).reason == "ok"
    two = [
        dog,
        found("person", 0.6, block(26, 30, 26, 29)),
        found("person", 0.6, block(26, 30, 27, 30)),
    ]
    assert person_share(two, frame) == 16 / 300


def test_the_largest_confident_object_is_the_foreground():
    small, large = block(0, 8, 0, 8), block(20, 40, 0, 20)
    verdict = judge([found("dog", 0.99, small), found("dog", 0.85, large)], DOG)
    np.testing.assert_array_equal(verdict.mask, large)
    verdict = judge([found("dog", 0.99, small), found("dog", 0.7, large)], DOG)
    np.testing.assert_array_equal(verdict.mask, small)


def test_raggedness():
    assert raggedness(block(5, 25, 5, 25)) == pytest.approx(80**2 / (4 * np.pi * 400))
    # At the picture's border only the two inner sides count.
    assert raggedness(block(0, 20, 0, 20)) == pytest.approx(40**2 / (4 * np.pi * 400))
    y, x = np.mgrid[:400, :400] - 199.5
    assert raggedness(y**2 + x**2 < 180**2) == pytest.approx(16 / np.pi**2, rel=0.01)
    # A comb: a spine of 20 pixels with ten teeth of 19 by 1. Sides: 2 * 19 and a tip per tooth,
    # the spine's 20 on the left, 10 between the teeth, 2 at its ends.
    comb = block(10, 30, 10, 30)
    comb[11:30:2, 11:] = 0
    assert connected_share(comb) == 1
    assert raggedness(comb) == pytest.approx(422**2 / (4 * np.pi * 210))
    assert judge([found("dog", 0.9, comb)], DOG).reason == "ragged"
