"""Scores of masks against the truth: one number per image first, means after.

Everything here is NumPy on the host and vectorised over images. Masks are bool [N, H, W], True for
foreground. Scores are float64 [N] in [0, 1]. Which object a pixel belongs to is the question of
`label_metrics`.
"""

from typing import NamedTuple

import numpy as np

from drc_jax.data.packed.reading import FileArray

_PART = 4096  # masks in memory at once where they are in a file


class Overlap(NamedTuple):
    """IoU and Dice of the same masks, image by image.

    Attributes:
      iou: [N], eq. 12.
      dice: [N], eq. 13.
    """

    iou: np.ndarray
    dice: np.ndarray

    def select(self, use_other: np.ndarray | bool, other: "Overlap") -> "Overlap":
        """``other``'s scores where ``use_other`` (bool [N] or one bool), these elsewhere."""
        return Overlap(*(np.where(use_other, b, a) for a, b in zip(self, other, strict=True)))


class Columns(NamedTuple):
    """The three ways to name the foreground, which must not be compared with each other.

    Attributes:
      fixed: region 0 is the foreground, the paper's protocol.
      flipped: the complement of every mask; an intermediate result, not a column of its own.
      dataset_flip: one orientation for the whole set, that with the higher mean IoU; Dice uses the
        same one. Equal means keep the fixed orientation.
      oracle: for each image the orientation with the higher IoU, which needs the truth. Dice uses
        the same one, and as Dice = 2 IoU / (1 + IoU) it is also the higher Dice.
      is_flipped: whether ``dataset_flip`` is ``flipped`` rather than ``fixed``.
    """

    fixed: Overlap
    flipped: Overlap
    dataset_flip: Overlap
    oracle: Overlap
    is_flipped: bool


class SlotMasks(NamedTuple):
    """The foreground masks that exchangeable slots give, in both ways of appendix E.

    Attributes:
      others: bool [N, K, H, W], 1 - p_k > 0.5: the foreground if slot k is the background.
      claimed: bool [N, H, W], some p_k > 0.5: the foreground if the background is spread thinly.
    """

    others: np.ndarray
    claimed: np.ndarray


class SlotScores(NamedTuple):
    """Foreground scores of a model with exchangeable slots (appendix E).

    Attributes:
      background: everything but one slot is foreground; the same slot for every image, that with
        the highest mean IoU.
      background_slot: the index of that slot.
      background_oracle: the same with the slot of highest IoU chosen for each image, which needs
        the truth.
      combined: every pixel that some slot claims is foreground.
    """

    background: Overlap
    background_slot: int
    background_oracle: Overlap
    combined: Overlap

    @property
    def is_combined(self) -> bool:
        """Whether ``combined`` has the higher mean IoU, so that the paper reports it."""
        return bool(np.mean(self.combined.iou) > np.mean(self.background.iou))

    def better(self) -> Overlap:
        """The reported scores: ``background`` or ``combined``, by the higher mean IoU."""
        return self.combined if self.is_combined else self.background


def overlap(pred: np.ndarray, true: np.ndarray) -> Overlap:
    """IoU = |A & B| / |A | B| and Dice = 2 |A & B| / (|A| + |B|) per image (eq. 12-13).

    Where both masks are empty both scores are 1; where only one is, both are 0. So no image makes a
    mean NaN.

    Args:
      pred: bool [N, H, W], inferred foreground.
      true: bool [N, H, W], true foreground.

    Returns:
      The scores, [N] each.

    Raises:
      ValueError: if the arrays are not bool [N, H, W] of the same shape.
    """
    _check_masks(pred, true)
    both = np.count_nonzero(pred & true, axis=(1, 2))
    total = np.count_nonzero(pred, axis=(1, 2)) + np.count_nonzero(true, axis=(1, 2))
    empty = total == 0
    # The maximum only keeps 0 / 0 from being computed where `empty` decides anyway.
    return Overlap(
        np.where(empty, 1.0, both / np.maximum(total - both, 1)),
        np.where(empty, 1.0, 2 * both / np.maximum(total, 1)),
    )


def iou(pred: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Intersection over union per image, [N]; see `overlap`."""
    return overlap(pred, true).iou


def dice(pred: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Dice (F1) score per image, [N]; see `overlap`."""
    return overlap(pred, true).dice


def columns(pred: np.ndarray, true: np.ndarray) -> Columns:
    """The scores under a fixed, a per-set and a per-image orientation.

    The three columns of docs/method.md, "6 Evaluation", which are never mixed.

    Args:
      pred: bool [N, H, W], the masks of region 0; N >= 1.
      true: bool [N, H, W], true foreground.

    Returns:
      The three columns, and the scores of the complemented masks they are made of.

    Raises:
      ValueError: if the arrays are not bool [N, H, W] of the same shape, or N = 0.
    """
    _check_not_empty(pred)
    fixed, flipped = overlap(pred, true), overlap(~pred, true)
    is_flipped = bool(np.mean(flipped.iou) > np.mean(fixed.iou))
    return Columns(
        fixed=fixed,
        flipped=flipped,
        dataset_flip=fixed.select(is_flipped, flipped),
        oracle=fixed.select(flipped.iou > fixed.iou, flipped),
        is_flipped=is_flipped,
    )


def all_foreground_floor(true: np.ndarray) -> Overlap:
    """The scores of calling every pixel foreground: what a model must beat to have found anything.

    Args:
      true: bool [N, H, W], true foreground.

    Returns:
      The scores, [N] each.
    """
    return overlap(np.ones_like(true, bool), true)


def mean_mask(masks: np.ndarray | FileArray) -> np.ndarray:
    """The share of images in which each pixel is foreground.

    Args:
      masks: bool, or uint8 of 0 and 1, [N, H, W]; of a file, a part at a time is in memory.

    Returns:
      float64 [H, W] in [0, 1].
    """
    total = np.zeros(masks.shape[1:], np.int64)
    for start in range(0, len(masks), _PART):
        total += masks[start : start + _PART].sum(axis=0, dtype=np.int64)
    return total / len(masks)


def mean_mask_floor(true: np.ndarray, mean_train_mask: np.ndarray) -> Overlap:
    """The scores of predicting ``mean_train_mask > 0.5`` for every image, whatever it shows.

    Centred photographs make this a high floor. Where objects lie anywhere the prediction is empty
    and the floor is near 0.

    Args:
      true: bool [N, H, W], true foreground.
      mean_train_mask: float [H, W] in [0, 1], from `mean_mask` of the training masks.

    Returns:
      The scores, [N] each.

    Raises:
      ValueError: if the mean mask is not of the masks' size.
    """
    if mean_train_mask.shape != true.shape[1:]:
        raise ValueError(
            f"mean_train_mask must be {list(true.shape[1:])} like the masks, got "
            f"{list(mean_train_mask.shape)}"
        )
    return overlap(np.broadcast_to(mean_train_mask > 0.5, true.shape), true)


def slots_to_foreground(slot_probs: np.ndarray, true: np.ndarray) -> SlotScores:
    """Scores a model of several slots against foreground masks, in both ways of appendix E.

    (1) Each slot in turn is the background and the pixels that it does not hold, 1 - p_k > 0.5, are
    the foreground. The paper says only that the best slot is chosen. One slot for the whole set,
    by mean IoU, is the stricter reading and is ``background``; exchangeable slots may put the
    background elsewhere in each image, and ``background_oracle`` chooses per image.
    (2) Every slot is thresholded, p_k > 0.5, and their union is the foreground, for models that
    spread the background thinly over all slots.

    Args:
      slot_probs: float [N, K, H, W] in [0, 1], summing to 1 over K >= 2; N >= 1.
      true: bool [N, H, W], true foreground.

    Returns:
      Both ways' scores; ``.better()`` is the one to report.

    Raises:
      ValueError: if the shapes do not fit.
    """
    return slot_scores(slot_masks(slot_probs), true)


def slot_masks(slot_probs: np.ndarray) -> SlotMasks:
    """The masks of ``slots_to_foreground``, which are smaller than what they are made from.

    Args:
      slot_probs: float [N, K, H, W] in [0, 1], summing to 1 over K >= 2.

    Returns:
      The masks.

    Raises:
      ValueError: if the shape does not fit.
    """
    if slot_probs.ndim != 4 or slot_probs.shape[1] < 2:
        raise ValueError(
            f"slot_probs must be [N, K, H, W] with K at least 2, got {list(slot_probs.shape)}"
        )
    return SlotMasks(1 - slot_probs > 0.5, np.any(slot_probs > 0.5, axis=1))


def slot_scores(masks: SlotMasks, true: np.ndarray) -> SlotScores:
    """The scores of ``slots_to_foreground``.

    Args:
      masks: of N >= 1 images.
      true: bool [N, H, W], true foreground.

    Returns:
      Both ways' scores.

    Raises:
      ValueError: if the shapes do not fit.
    """
    _check_not_empty(masks.claimed)
    each = [overlap(masks.others[:, k], true) for k in range(masks.others.shape[1])]
    oracle = each[0]
    for other in each[1:]:
        oracle = oracle.select(other.iou > oracle.iou, other)
    best = int(np.argmax([np.mean(scores.iou) for scores in each]))
    return SlotScores(
        background=each[best],
        background_slot=best,
        background_oracle=oracle,
        combined=overlap(masks.claimed, true),
    )


def _check_masks(pred: np.ndarray, true: np.ndarray) -> None:
    for name, mask in (("pred", pred), ("true", true)):
        if mask.ndim != 3 or mask.dtype != np.bool_:
            raise ValueError(f"{name} must be bool [N, H, W], got {mask.dtype} {list(mask.shape)}")
    if pred.shape != true.shape:
        raise ValueError(
            f"pred {list(pred.shape)} and true {list(true.shape)} must have the same shape"
        )


def _check_not_empty(masks: np.ndarray) -> None:
    if len(masks) == 0:
        raise ValueError("the mean over 0 images is not defined; give at least one")
