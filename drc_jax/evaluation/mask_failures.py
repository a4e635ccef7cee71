"""What went wrong with a mask, from the image, the mask and the truth alone."""

import numpy as np

from drc_jax.data.packed.reading import FileArray
from drc_jax.evaluation import metrics

BAD_IOU = 0.5
"""Below this an image counts as a failure."""

KINDS = {
    "nothing found": "the mask is empty, or as good as",
    "all foreground": "the mask is the whole image, or as good as",
    "sides exchanged": "the mask's complement fits better, and well",
    "wrong place": "less than half of the mask is right, and less than half of the truth is found",
    "background taken, bright": "less than half of the mask is right, and the wrong pixels are "
    "brighter than the background that the mask leaves out, by a tenth of the range",
    "background taken, dark": "the same, and they are darker",
    "background taken, alike": "the same, and they are about as bright",
    "part missed, alike": "less than half of the truth is found, and the mean colour of what is "
    "missed is nearer to that of the background left out than to that of what is found",
    "part missed, unlike": "the same, and it is not",
    "outline off": "none of these",
}
"""What can be wrong with a mask, in the order in which it is looked for."""

_NOTHING, _ALL = 0.005, 0.995  # predicted shares that are as good as none and all
_AT_ONCE = 256  # images in memory
_BRIGHTER = 0.1  # of the mean of the channels in [0, 1]


def what_went_wrong(observed: np.ndarray, pred: np.ndarray, true: np.ndarray) -> list[str]:
    """In a few words for each image, how its mask differs most from the truth.

    The first of `KINDS` that is so.

    Args:
      observed: uint8 [N, H, W, 3].
      pred, true: bool [N, H, W], N >= 1.
    """
    shares = pred.mean((1, 2))
    right = np.count_nonzero(pred & true, axis=(1, 2))
    precise = 2 * right >= np.count_nonzero(pred, axis=(1, 2))
    found = 2 * right >= np.count_nonzero(true, axis=(1, 2))
    complement = metrics.iou(~pred, true)
    is_exchanged = (complement > metrics.iou(pred, true)) & (complement > BAD_IOU)
    left, taken, missed = (_colours(observed, where) for where in
                           (~pred & ~true, pred & ~true, true & ~pred))  # fmt: skip
    brighter = (taken - left).mean(-1)
    away = np.linalg.norm(missed - left, axis=-1)
    is_alike = away < np.linalg.norm(missed - _colours(observed, pred & true), axis=-1)
    *kinds, rest = KINDS
    is_so = [
        shares < _NOTHING,
        shares > _ALL,
        is_exchanged,
        ~precise & ~found,
        ~precise & (brighter > _BRIGHTER),
        ~precise & (brighter < -_BRIGHTER),
        ~precise,
        ~found & is_alike,
        ~found,
    ]
    return np.select(is_so, kinds, rest).tolist()


def count(
    observed: FileArray | np.ndarray, pred: np.ndarray, true: np.ndarray, iou: np.ndarray
) -> dict[str, int]:
    """How many images with an IoU below `BAD_IOU` there are of each kind, the most frequent first.

    Args:
      observed, pred, true: as for `what_went_wrong`.
      iou: float [N], of these masks.
    """
    bad = np.flatnonzero(iou < BAD_IOU)
    words: list[str] = []
    for start in range(0, len(bad), _AT_ONCE):
        some = bad[start : start + _AT_ONCE]
        words += what_went_wrong(np.asarray(observed[some]), pred[some], true[some])
    kinds = sorted(set(words), key=lambda kind: (-words.count(kind), kind))
    return {kind: words.count(kind) for kind in kinds}


def listed(counts: dict[str, int]) -> str:
    """The kinds and their numbers in a row."""
    return "; ".join(f"{kind} ({number})" for kind, number in counts.items())


def sentence(counts: dict[str, int], num_images: int) -> str:
    """The same, and how many they are of all images."""
    bad = sum(counts.values())
    total = f"{bad} of {num_images} images have an IoU below {100 * BAD_IOU:.0f}"
    return f"{total}: {listed(counts)}." if counts else f"{total}."


def _colours(observed: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Mean colours [N, 3] in [0, 1] of some pixels of each image; 0 where there are none."""
    pixels = np.count_nonzero(where, axis=(1, 2))[:, None]
    return (observed * where[..., None]).sum(axis=(1, 2)) / np.maximum(pixels, 1) / 255.0
