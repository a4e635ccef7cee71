"""What went wrong with a mask, from the image, the mask and the truth alone."""

import numpy as np

from drc_jax.data.packed.reading import FileArray
from drc_jax.evaluation import metrics

BAD_IOU = 0.5
"""Below this an image counts as a failure."""

_NOTHING, _ALL = 0.005, 0.995  # predicted shares that are as good as none and all
_AT_ONCE = 256  # images in memory
_BRIGHTER = 0.1  # of the mean of the channels in [0, 1]


def what_went_wrong(observed: np.ndarray, pred: np.ndarray, true: np.ndarray) -> list[str]:
    """In a few words for each image, how its mask differs most from the truth.

    In this order: ``nothing found``; ``all foreground``; ``sides exchanged``, where the complement
    fits better, and well; ``wrong place``, where less than half of the mask is right and less than
    half of the truth is found; ``background taken`` and ``part missed``, where one of both is so;
    else ``outline off``. Two of these have a second word on the colours:

    - ``background taken, bright`` or ``dark``: the wrong pixels of the mask are brighter or darker
      than the background that it leaves out, by a tenth of the range; else ``alike``;
    - ``part missed, alike``: the missing pixels' mean colour is nearer to that of the background
      that the mask leaves out than to that of the part that is found; else ``unlike``.

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
    kinds = {
        "nothing found": shares < _NOTHING,
        "all foreground": shares > _ALL,
        "sides exchanged": is_exchanged,
        "wrong place": ~precise & ~found,
        "background taken, bright": ~precise & (brighter > _BRIGHTER),
        "background taken, dark": ~precise & (brighter < -_BRIGHTER),
        "background taken, alike": ~precise,
        "part missed, alike": ~found & is_alike,
        "part missed, unlike": ~found,
    }
    return np.select(list(kinds.values()), list(kinds), "outline off").tolist()


def summary(
    observed: FileArray | np.ndarray, pred: np.ndarray, true: np.ndarray, iou: np.ndarray
) -> tuple[str, dict[str, int]]:
    """How many images have an IoU below `BAD_IOU`, and in which ways.

    Args:
      observed, pred, true: as for `what_went_wrong`.
      iou: float [N], of these masks.

    Returns:
      One sentence, and how many of them there are of each kind, the most frequent first.
    """
    bad = np.flatnonzero(iou < BAD_IOU)
    words: list[str] = []
    for start in range(0, len(bad), _AT_ONCE):
        some = bad[start : start + _AT_ONCE]
        words += what_went_wrong(np.asarray(observed[some]), pred[some], true[some])
    kinds = sorted(set(words), key=lambda kind: (-words.count(kind), kind))
    counts = {kind: words.count(kind) for kind in kinds}
    total = f"{len(bad)} of {len(iou)} images have an IoU below {100 * BAD_IOU:.0f}"
    text = "; ".join(f"{kind} ({number})" for kind, number in counts.items())
    return f"{total}: {text}." if text else f"{total}.", counts


def _colours(observed: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Mean colours [N, 3] in [0, 1] of some pixels of each image; 0 where there are none."""
    pixels = np.count_nonzero(where, axis=(1, 2))[:, None]
    return (observed * where[..., None]).sum(axis=(1, 2)) / np.maximum(pixels, 1) / 255.0
