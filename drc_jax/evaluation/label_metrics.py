"""Scores of label maps: whether the pixels of each object share a label of their own.

Everything here is NumPy on the host and vectorised over images. A label map is an integer array
[N, H, W]. Of true labels 0 is the background and every other integer an object; of predicted labels
``background`` (0 unless said) is the background and every other integer a slot. The numbers of
objects and slots have no order: any renaming gives the same scores.

Scores are float64 [N], one per image. Counts are int64 [N]; a rate over a data set is a sum of
counts divided by the sum of what was counted.
"""

from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

SPLIT_SHARE = 0.1  # of an object's foreground pixels, held by its second slot
MERGE_SHARE = 0.5  # of an object's pixels, held by one slot
MISSED_SHARE = 0.5  # of an object's pixels, in the background
ACTIVE_SHARE = 0.005  # of an image's pixels


class ObjectCounts(NamedTuple):
    """How objects and slots meet, as counts per image.

    Attributes:
      objects: int64 [N], true objects.
      split: int64 [N], objects whose second largest slot holds 10 % or more of those of the
        object's pixels that some slot holds. ``split.sum() / objects.sum()`` is the split rate.
      missed: int64 [N], objects with more than half of their pixels in the predicted background.
      slots: int64 [N], active slots: those that hold 0.5 % of the image's pixels or more.
      merged: int64 [N], slots that hold half or more of the pixels of two objects or more.
        ``merged.sum() / slots.sum()`` is the merge rate.
    """

    objects: np.ndarray
    split: np.ndarray
    missed: np.ndarray
    slots: np.ndarray
    merged: np.ndarray


class LabelScores(NamedTuple):
    """Every score of this module, for N images.

    Attributes:
      foreground_ari: float64 [N]; NaN for images of fewer than two objects, of which it says
        nothing.
      ari, matched_iou: float64 [N].
      counts: [N] each.
    """

    foreground_ari: np.ndarray
    ari: np.ndarray
    matched_iou: np.ndarray
    counts: ObjectCounts


def label_scores(
    pred_labels: np.ndarray, true_labels: np.ndarray, *, background: int = 0
) -> LabelScores:
    """All scores of label maps.

    Args:
      pred_labels: int [N, H, W].
      true_labels: int [N, H, W].
      background: the predicted label of the background; a label that does not occur, such as -1,
        where there is none. No object is then missed.

    Returns:
      The scores.

    Raises:
      ValueError: if the arrays are not integer [N, H, W] of the same shape.
    """
    counts = object_counts(pred_labels, true_labels, background=background)
    foreground = foreground_ari(pred_labels, true_labels)
    return LabelScores(
        foreground_ari=np.where(counts.objects >= 2, foreground, np.nan),
        ari=ari(pred_labels, true_labels),
        matched_iou=matched_iou(pred_labels, true_labels, background=background),
        counts=counts,
    )


def ari(pred_labels: np.ndarray, true_labels: np.ndarray) -> np.ndarray:
    """Adjusted Rand index over all pixels, the background being a cluster like any other.

    With C the contingency table of the pixels, c2(n) = n (n - 1) / 2, and r, c, t the sums of c2
    over C's row sums, over its column sums and of the number of pixels:
    ARI = (sum c2(C) - r c / t) / ((r + c) / 2 - r c / t).

    It is 1 where the formula is 0 / 0: both labelings are one cluster, or both all singletons, or
    there are fewer than two pixels.

    Args:
      pred_labels: int [N, H, W].
      true_labels: int [N, H, W].

    Returns:
      [N] in [-1, 1], 1 for the same partition, about 0 for a random one.

    Raises:
      ValueError: if the arrays are not integer [N, H, W] of the same shape.
    """
    _check(pred_labels, true_labels)
    return _ari_where(pred_labels, true_labels, np.ones(true_labels.shape, bool))


def foreground_ari(pred_labels: np.ndarray, true_labels: np.ndarray) -> np.ndarray:
    """FG-ARI: `ari` over the true foreground pixels alone (docs/method.md, "6 Evaluation").

    With one object per image it is only ever 0 or 1 and says nothing; report it over images of two
    objects or more. Without foreground it is 1.

    Args:
      pred_labels: int [N, H, W].
      true_labels: int [N, H, W].

    Returns:
      [N] in [-1, 1], 1 for the same partition, about 0 for a random one.

    Raises:
      ValueError: if the arrays are not integer [N, H, W] of the same shape.
    """
    _check(pred_labels, true_labels)
    return _ari_where(pred_labels, true_labels, true_labels != 0)


def matched_iou(
    pred_labels: np.ndarray, true_labels: np.ndarray, *, background: int = 0
) -> np.ndarray:
    """Mean IoU of true objects with the slots that the best assignment gives them.

    Slots are assigned to objects one to one so that the sum of IoU is the highest (Hungarian
    algorithm); the background takes no part. An object without a slot counts as 0. Without true
    objects the score is 1 if there are no slots either, else 0.

    Args:
      pred_labels: int [N, H, W].
      true_labels: int [N, H, W].
      background: the predicted label of the background.

    Returns:
      [N] in [0, 1].

    Raises:
      ValueError: if the arrays are not integer [N, H, W] of the same shape.
    """
    _check(pred_labels, true_labels)
    table, is_slot, is_object = _tables(pred_labels, true_labels, background)
    slot_sizes, object_sizes = table.sum(2), table.sum(1)
    union = slot_sizes[:, :, None] + object_sizes[:, None, :] - table
    iou = table[:, is_slot][:, :, is_object] / np.maximum(union[:, is_slot][:, :, is_object], 1)
    num_objects = np.count_nonzero(object_sizes[:, is_object], axis=1)
    has_slots = slot_sizes[:, is_slot].any(axis=1)
    scores = np.where(has_slots, 0.0, 1.0)
    for i in np.flatnonzero(num_objects):
        slots, objects = linear_sum_assignment(iou[i], maximize=True)
        scores[i] = iou[i, slots, objects].sum() / num_objects[i]
    return scores


def object_counts(
    pred_labels: np.ndarray, true_labels: np.ndarray, *, background: int = 0
) -> ObjectCounts:
    """Counts of objects that are split or missed, and of slots that merge several objects.

    Args:
      pred_labels: int [N, H, W].
      true_labels: int [N, H, W].
      background: the predicted label of the background.

    Returns:
      The counts, [N] each.

    Raises:
      ValueError: if the arrays are not integer [N, H, W] of the same shape.
    """
    _check(pred_labels, true_labels)
    table, is_slot, is_object = _tables(pred_labels, true_labels, background)
    sizes = table.sum(1)[:, is_object]
    held = table[:, is_slot][:, :, is_object]
    there = sizes > 0
    in_slots = held.sum(1)
    second = np.sort(held, axis=1)[:, -2] if held.shape[1] > 1 else np.zeros_like(sizes)
    # Products instead of quotients, so that a share of exactly 10 % or one half counts.
    split = (second > 0) & (second >= SPLIT_SHARE * in_slots)
    missed = there & (sizes - in_slots > MISSED_SHARE * sizes)
    holds = (held > 0) & (held >= MERGE_SHARE * sizes[:, None])
    num_pixels = np.prod(true_labels.shape[1:])
    return ObjectCounts(
        objects=np.count_nonzero(there, axis=1),
        split=np.count_nonzero(split, axis=1),
        missed=np.count_nonzero(missed, axis=1),
        slots=np.count_nonzero(table.sum(2)[:, is_slot] >= ACTIVE_SHARE * num_pixels, axis=1),
        merged=np.count_nonzero(np.count_nonzero(holds, axis=2) >= 2, axis=1),
    )


def _tables(
    pred_labels: np.ndarray, true_labels: np.ndarray, background: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Contingency tables int64 [N, P, T], and which of the P and T labels are no background."""
    every = np.ones(true_labels.shape, bool)
    table, pred_values, true_values = _contingency(pred_labels, true_labels, every)
    return table, pred_values != background, true_values != 0


def _contingency(
    pred_labels: np.ndarray, true_labels: np.ndarray, where: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts of pixels by predicted and true label.

    Args:
      pred_labels, true_labels: int [N, H, W].
      where: bool [N, H, W], the pixels that count.

    Returns:
      int64 [N, P, T], and the P predicted and T true labels that occur.
    """
    image, row, column = np.nonzero(where)
    pred_values, pred = np.unique(pred_labels[image, row, column], return_inverse=True)
    true_values, true = np.unique(true_labels[image, row, column], return_inverse=True)
    shape = (len(true_labels), len(pred_values), len(true_values))
    cells = np.ravel_multi_index((image, pred, true), shape) if len(image) else image
    table = np.bincount(cells, minlength=int(np.prod(shape))).reshape(shape)
    return table, pred_values, true_values


def _ari_where(pred_labels: np.ndarray, true_labels: np.ndarray, where: np.ndarray) -> np.ndarray:
    """`ari` over the pixels of ``where``, bool [N, H, W]."""
    table, _, _ = _contingency(pred_labels, true_labels, where)
    together = _pairs(table).sum((1, 2))
    same_pred = _pairs(table.sum(2)).sum(1)
    same_true = _pairs(table.sum(1)).sum(1)
    total = _pairs(table.sum((1, 2)))
    trivial = (same_pred == same_true) & ((same_pred == 0) | (same_pred == total))
    expected = same_pred * same_true / np.maximum(total, 1)
    return np.where(
        trivial,
        1.0,
        (together - expected) / np.where(trivial, 1.0, (same_pred + same_true) / 2 - expected),
    )


def _pairs(count: np.ndarray) -> np.ndarray:
    """n (n - 1) / 2 in float64, as products of two such numbers overflow int64 on large images."""
    return count * (count - 1) / 2


def _check(pred_labels: np.ndarray, true_labels: np.ndarray) -> None:
    for name, labels in (("pred_labels", pred_labels), ("true_labels", true_labels)):
        if labels.ndim != 3 or not np.issubdtype(labels.dtype, np.integer):
            raise ValueError(
                f"{name} must be integer [N, H, W], got {labels.dtype} {list(labels.shape)}"
            )
    if pred_labels.shape != true_labels.shape:
        raise ValueError(
            f"pred_labels {list(pred_labels.shape)} and true_labels {list(true_labels.shape)} must "
            "have the same shape"
        )
