"""Scores against hand-computed values and brute force."""

import numpy as np
import pytest

from drc_jax.evaluation import metrics


def _masks(*rows: str) -> np.ndarray:
    """Masks [N, 1, W] from strings of 0 and 1."""
    return np.array([[[c == "1" for c in row]] for row in rows])


# Per image: 2 of 4 in the union; the same mask; disjoint; both empty; one empty, either way.
PRED = _masks("11100", "01100", "11000", "00000", "00000", "01000")
TRUE = _masks("01110", "01100", "00110", "00000", "00011", "00000")


def test_iou_and_dice_by_hand() -> None:
    np.testing.assert_allclose(metrics.iou(PRED, TRUE), [2 / 4, 1, 0, 1, 0, 0])
    np.testing.assert_allclose(metrics.dice(PRED, TRUE), [4 / 6, 1, 0, 1, 0, 0])


def test_iou_and_dice_count_over_both_axes() -> None:
    rng = np.random.default_rng(0)
    pred, true = rng.random((2, 5, 6, 7)) > 0.5
    for i in range(5):
        a, b = set(np.flatnonzero(pred[i])), set(np.flatnonzero(true[i]))
        assert metrics.iou(pred, true)[i] == pytest.approx(len(a & b) / len(a | b))
        assert metrics.dice(pred, true)[i] == pytest.approx(2 * len(a & b) / (len(a) + len(b)))


def test_columns_by_hand() -> None:
    # IoU as given: 1/4, 1/4, 3/4. Complemented: 2/4, 3/4, 0.
    pred = _masks("1100", "1000", "1110")
    true = _masks("0111", "1111", "1111")
    columns = metrics.columns(pred, true)
    np.testing.assert_allclose(columns.fixed.iou, [1 / 4, 1 / 4, 3 / 4])
    np.testing.assert_allclose(columns.flipped.iou, [2 / 3, 3 / 4, 1 / 4])
    assert columns.is_flipped  # 5/3 in all against 5/4
    np.testing.assert_allclose(columns.dataset_flip.iou, columns.flipped.iou)
    np.testing.assert_allclose(columns.dataset_flip.dice, metrics.dice(~pred, true))
    np.testing.assert_allclose(columns.oracle.iou, [2 / 3, 3 / 4, 3 / 4])
    np.testing.assert_allclose(columns.oracle.dice, [4 / 5, 6 / 7, 6 / 7])


def test_columns_keep_the_fixed_orientation_on_a_tie() -> None:
    columns = metrics.columns(_masks("10", "01"), _masks("10", "10"))
    assert not columns.is_flipped
    np.testing.assert_array_equal(columns.dataset_flip.iou, [1, 0])
    np.testing.assert_array_equal(columns.oracle.iou, [1, 1])


def test_dataset_flip_is_decided_by_iou_even_where_dice_disagrees() -> None:
    # Where all is foreground IoU is the share predicted: 0.90 + 0.30 + 0.29, less than the
    # complements' 0.10 + 0.70 + 0.71. Dice goes the other way.
    true = np.ones((3, 1, 100), bool)
    pred = np.arange(100) < np.array([90, 30, 29])[:, None, None]
    columns = metrics.columns(pred, true)
    assert columns.fixed.dice.sum() == pytest.approx(36 / 38 + 6 / 13 + 58 / 129)
    assert columns.fixed.dice.mean() > columns.flipped.dice.mean()
    assert columns.is_flipped
    np.testing.assert_array_equal(columns.dataset_flip.dice, columns.flipped.dice)


def test_oracle_is_the_higher_of_both_scores() -> None:
    rng = np.random.default_rng(1)
    pred, true = rng.random((2, 50, 3, 3)) > 0.6
    columns = metrics.columns(pred, true)
    np.testing.assert_array_equal(
        columns.oracle.iou, np.maximum(columns.fixed.iou, columns.flipped.iou)
    )
    np.testing.assert_array_equal(
        columns.oracle.dice, np.maximum(columns.fixed.dice, columns.flipped.dice)
    )


def test_all_foreground_floor_is_the_foreground_share() -> None:
    floor = metrics.all_foreground_floor(TRUE)
    share = TRUE.mean((1, 2))
    np.testing.assert_allclose(floor.iou, share)
    np.testing.assert_allclose(floor.dice, 2 * share / (1 + share))


def test_mean_mask_floor_by_brute_force() -> None:
    rng = np.random.default_rng(2)
    train = (rng.random((9, 4, 5)) > 0.4).astype(np.uint8)
    true = rng.random((6, 4, 5)) > 0.5
    mean = metrics.mean_mask(train)
    constant = np.zeros((4, 5), bool)
    for y, x in np.ndindex(4, 5):
        assert mean[y, x] == pytest.approx(sum(int(mask[y, x]) for mask in train) / 9)
        constant[y, x] = sum(int(mask[y, x]) for mask in train) >= 5
    floor = metrics.mean_mask_floor(true, mean)
    for i in range(6):
        assert floor.iou[i] == pytest.approx(
            (constant & true[i]).sum() / (constant | true[i]).sum()
        )
    # Exactly one half is not foreground.
    assert metrics.mean_mask_floor(_masks("11"), np.array([[0.5, 0.6]])).iou == [0.5]


def test_slots_to_foreground_by_hand() -> None:
    true = _masks("1100", "0011")
    probs = np.zeros((2, 3, 1, 4))
    # Slot 1 holds the background of image 0, slot 2 that of image 1.
    probs[0, :, 0] = np.array([[0.9, 0.1, 0.2, 0], [0, 0, 0.8, 0.9], [0.1, 0.9, 0, 0.1]])
    probs[1, :, 0] = np.array([[0.1, 0.2, 0.7, 0.2], [0.3, 0, 0.2, 0.7], [0.6, 0.8, 0.1, 0.1]])
    scores = metrics.slots_to_foreground(probs, true)
    # Slot 0: foregrounds 0111, 1101; slot 1: 1100, 1110; slot 2: 1011, 0011.
    each = [[1 / 4, 1 / 4], [1, 1 / 4], [1 / 4, 1]]
    assert scores.background_slot == 1  # the first of equal means
    np.testing.assert_allclose(scores.background.iou, each[1])
    np.testing.assert_allclose(scores.background.dice, [1, 2 * 1 / (2 + 3)])
    np.testing.assert_allclose(scores.background_oracle.iou, [1, 1])
    np.testing.assert_allclose(scores.combined.iou, [0.5, 0.5])
    assert scores.better() is scores.background


def test_combined_slots_are_better_where_the_background_is_spread_thinly() -> None:
    true = _masks("1100")
    probs = np.array([[0.9, 0.1, 0.4, 0.3], [0.05, 0.8, 0.3, 0.3], [0.05, 0.1, 0.3, 0.4]])
    scores = metrics.slots_to_foreground(probs[None, :, None], true)
    np.testing.assert_array_equal(scores.combined.iou, [1])
    assert scores.background.iou < 1
    assert scores.better() is scores.combined


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.iou(PRED, TRUE[:2]), "same shape"),
        (lambda: metrics.dice(PRED[0], TRUE[0]), r"pred must be bool \[N, H, W\]"),
        (lambda: metrics.iou(PRED, TRUE.astype(np.uint8)), "true must be bool.* uint8"),
        (lambda: metrics.columns(PRED[:0], TRUE[:0]), "0 images"),
        (lambda: metrics.mean_mask_floor(TRUE, np.zeros((2, 5))), r"must be \[1, 5\].* \[2, 5\]"),
        (lambda: metrics.slots_to_foreground(np.ones((6, 1, 1, 5)), TRUE), "K at least 2"),
        (lambda: metrics.slots_to_foreground(np.ones((6, 2, 1, 4)), TRUE), "same shape"),
    ],
)
def test_misfits_are_named(call, message) -> None:
    with pytest.raises(ValueError, match=message):
        call()
