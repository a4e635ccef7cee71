"""Scores of label maps against scikit-learn, pair counting, brute force and maps made by hand."""

import itertools

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from drc_jax.evaluation import label_metrics


def _ari_by_pairs(pred: np.ndarray, true: np.ndarray) -> float:
    """Hubert and Arabie's index from the four kinds of pixel pairs."""
    both = only_pred = only_true = neither = 0
    for i, j in itertools.combinations(range(len(pred)), 2):
        match bool(pred[i] == pred[j]), bool(true[i] == true[j]):
            case (True, True):
                both += 1
            case (True, False):
                only_pred += 1
            case (False, True):
                only_true += 1
            case _:
                neither += 1
    denominator = (both + only_pred) * (only_pred + neither) + (both + only_true) * (
        only_true + neither
    )
    return 2 * (both * neither - only_pred * only_true) / denominator if denominator else 1.0


def test_foreground_ari_against_pair_counting() -> None:
    rng = np.random.default_rng(3)
    # Labels are not consecutive, one is negative, and the background's own clusters do not count.
    pred = rng.choice([-4, 0, 7, 1000], (40, 4, 4))
    true = rng.choice([0, 2, 3, 50], (40, 4, 4))
    pred[:10] = np.where(rng.random((10, 4, 4)) < 0.8, true[:10], pred[:10])
    expected = [_ari_by_pairs(p[t != 0], t[t != 0]) for p, t in zip(pred, true, strict=True)]
    actual = label_metrics.foreground_ari(pred, true)
    np.testing.assert_allclose(actual, expected, atol=1e-12)
    assert actual[:10].mean() > 0.3 > abs(actual[10:].mean()) + 0.1


def test_foreground_ari_of_trivial_labelings() -> None:
    true = np.array(
        [[[0, 1, 2, 2]], [[0, 1, 1, 1]], [[0, 1, 1, 1]], [[0, 0, 0, 0]], [[0, 0, 0, 9]]]
    )
    pred = np.array(
        [[[5, 8, 3, 3]], [[0, 4, 4, 4]], [[0, 4, 4, 5]], [[0, 1, 2, 3]], [[1, 1, 1, 1]]]
    )
    # Same partition; one object whole; one object split; no foreground; one foreground pixel.
    np.testing.assert_array_equal(label_metrics.foreground_ari(pred, true), [1, 1, 0, 1, 1])
    assert (
        label_metrics.foreground_ari(np.zeros_like(true), np.zeros_like(true)).tolist() == [1] * 5
    )


def test_foreground_ari_does_not_overflow() -> None:
    true = np.arange(1, 3).repeat(512 * 256).reshape(1, 512, 512)
    assert label_metrics.foreground_ari(true, true) == [1.0]


def _maps(*rows: str) -> np.ndarray:
    """Label maps [N, 1, W] from strings of digits."""
    return np.array([[[int(c) for c in row]] for row in rows])


def _random_maps(seed: int, count: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Predicted and true labels that agree in part, with labels in no order."""
    rng = np.random.default_rng(seed)
    true = rng.choice([0, 2, 3, 50], (count, 5, 6), p=[0.4, 0.3, 0.2, 0.1])
    renamed = np.select([true == 2, true == 3, true == 50], [9, -4, 1], 0)
    noise = rng.choice([-4, 0, 1, 9, 1000], true.shape)
    pred = np.where(rng.random(true.shape) < rng.random((count, 1, 1)), renamed, noise)
    return pred, true


def test_both_indices_agree_with_scikit_learn() -> None:
    pred, true = _random_maps(4)
    expected = [adjusted_rand_score(t.ravel(), p.ravel()) for p, t in zip(pred, true, strict=True)]
    np.testing.assert_allclose(label_metrics.ari(pred, true), expected, atol=1e-12)
    inside = [adjusted_rand_score(t[t != 0], p[t != 0]) for p, t in zip(pred, true, strict=True)]
    np.testing.assert_allclose(label_metrics.foreground_ari(pred, true), inside, atol=1e-12)
    assert np.ptp(expected) > 0.5


def test_ari_counts_the_background_and_foreground_ari_does_not() -> None:
    true, pred = _maps("0012", "0012"), _maps("0012", "5612")
    np.testing.assert_array_equal(label_metrics.foreground_ari(pred, true), [1, 1])
    assert label_metrics.ari(pred, true).tolist() == [1, 0]


def _matched_by_brute_force(pred: np.ndarray, true: np.ndarray) -> float:
    slots = [pred == label for label in set(pred.ravel().tolist()) - {0}]
    objects = [true == label for label in set(true.ravel().tolist()) - {0}]
    slots += [np.zeros_like(true, bool)] * len(objects)  # an object may go without
    return max(
        sum((s & o).sum() / (s | o).sum() for s, o in zip(chosen, objects, strict=True))
        for chosen in itertools.permutations(slots, len(objects))
    ) / len(objects)


def test_matched_iou_by_brute_force() -> None:
    pred, true = _random_maps(5, 30)
    expected = [_matched_by_brute_force(p, t) for p, t in zip(pred, true, strict=True)]
    np.testing.assert_allclose(label_metrics.matched_iou(pred, true), expected)


TRUE = _maps("00111222", "00111222", "00111222", "00111222", "00111222", "00000000", "00000000")
PRED = _maps("00777555", "00777556", "00777777", "00000000", "77777777", "00000000", "00000001")
# Perfect; object 2 split; both merged; both missed; all one slot; empty and found so; one too many.


def test_matched_iou_by_hand() -> None:
    expected = [1, (1 + 2 / 3) / 2, 3 / 6 / 2, 0, 3 / 8 / 2, 1, 0]
    np.testing.assert_allclose(label_metrics.matched_iou(PRED, TRUE), expected)


def test_counts_by_hand() -> None:
    counts = label_metrics.object_counts(PRED, TRUE)
    assert counts.objects.tolist() == [2, 2, 2, 2, 2, 0, 0]
    assert counts.split.tolist() == [0, 1, 0, 0, 0, 0, 0]
    assert counts.missed.tolist() == [0, 0, 0, 2, 0, 0, 0]
    assert counts.slots.tolist() == [2, 3, 1, 0, 1, 0, 1]
    assert counts.merged.tolist() == [0, 0, 1, 0, 1, 0, 0]


def test_the_shares_at_which_an_object_is_split_missed_or_merged() -> None:
    true = np.zeros((6, 1, 1000), int)
    true[:, 0, :20], true[:, 0, 20:40] = 1, 2
    pred = true.copy()
    pred[0, 0, :2] = 3  # exactly 10 % of object 1
    pred[1, 0, :1] = 3  # 5 %
    pred[2, 0, :10] = 0  # half of it
    pred[3, 0, :11] = 0
    pred[4, 0, 20:30] = 1  # slot 1 has all of object 1 and half of object 2
    pred[5, 0, 20:29] = 1
    counts = label_metrics.object_counts(pred, true)
    assert counts.split.tolist() == [1, 0, 0, 0, 1, 1]
    assert counts.missed.tolist() == [0, 0, 0, 1, 0, 0]
    assert counts.merged.tolist() == [0, 0, 0, 0, 1, 0]
    # A slot of fewer than five of 1,000 pixels is not active.
    assert counts.slots.tolist() == [2, 2, 2, 2, 2, 2]


def test_another_label_may_be_the_background() -> None:
    pred = np.where(PRED == 0, 42, np.where(PRED == 7, 0, PRED))
    for function in (label_metrics.matched_iou, label_metrics.object_counts):
        np.testing.assert_array_equal(function(pred, TRUE, background=42), function(PRED, TRUE))


def test_no_images_give_no_scores() -> None:
    none = np.zeros((0, 4, 4), int)
    assert label_metrics.matched_iou(none, none).shape == (0,)
    assert label_metrics.ari(none, none).shape == (0,)
    assert label_metrics.object_counts(none, none).objects.shape == (0,)


@pytest.mark.parametrize(
    "function",
    [
        label_metrics.ari,
        label_metrics.foreground_ari,
        label_metrics.matched_iou,
        label_metrics.object_counts,
    ],
)
def test_misfits_are_named(function) -> None:
    with pytest.raises(ValueError, match="pred_labels must be integer"):
        function(PRED > 0, TRUE)
    with pytest.raises(ValueError, match="true_labels must be integer"):
        function(PRED, TRUE[0])
    with pytest.raises(ValueError, match="same shape"):
        function(PRED, TRUE[:1])
