"""The pictures of a comparison: all methods on the same images, their regions, their failures."""

from collections.abc import Callable

import numpy as np

from drc_jax.data.pictures.files import printable
from drc_jax.evaluation import figures, metrics, pictures
from drc_jax.evaluation.compare import Comparison, Result
from drc_jax.evaluation.report import Evaluation

_FAILURES = 8
_BAD_IOU = 0.5  # below this an image counts as a failure
_NOTHING, _ALL = 0.005, 0.995  # predicted shares that are as good as none and all

KINDS = {
    "nothing found": "the mask is empty, or as good as",
    "all foreground": "the mask is the whole image, or as good as",
    "sides exchanged": "the mask's complement fits better, and well",
    "wrong place": "less than half of the mask is right, and less than half of the truth is found",
    "background taken": "less than half of the mask is right",
    "part missed": "less than half of the truth is found",
    "outline off": "none of these",
}
"""What can be wrong with a mask, in the order in which it is looked for."""


def overview(comparison: Comparison) -> np.ndarray:
    """The first images, their true masks, and the masks of every method's first run.

    Returns:
      uint8 [H, W, 3].
    """
    first = comparison.groups[0].first.evaluation
    shown = len(first.shown.pi)
    rows = [np.asarray(first.observed[:shown]), pictures.mask_to_uint8(first.true[:shown])]
    rows += [pictures.mask_to_uint8(group.first.masks[:shown]) for group in comparison.groups]
    names = [group.name.replace("_", "\n") for group in comparison.groups]
    return pictures.image_grid(rows, ["observed", "true mask", *names])


def regions(evaluation: Evaluation) -> np.ndarray:
    """The rows of the supplement's Figures 5 to 8, or every slot as in Figures 12 to 15."""
    return figures.grid(evaluation)


def cut_outs(evaluation: Evaluation) -> np.ndarray:
    """Image, what the mask cuts out, true and inferred mask, as in the supplement's Figure 10."""
    shown = len(evaluation.shown.pi)
    observed, mask = np.asarray(evaluation.observed[:shown]), evaluation.predicted[:shown]
    rows = {
        "observed": observed,
        "foreground": pictures.cut_out(observed, mask),
        "true mask": pictures.mask_to_uint8(evaluation.true[:shown]),
        "inferred\nmask": pictures.mask_to_uint8(mask),
    }
    return pictures.image_grid(list(rows.values()), list(rows))


def channels(evaluation: Evaluation) -> np.ndarray:
    """Image, the mask of every region, and the truth, as in the supplement's Figure 11."""
    shown, count = evaluation.shown.pi.shape[:2]
    rows = {"observed": np.asarray(evaluation.observed[:shown])}
    for k in range(count):
        rows[f"mask {k + 1}"] = pictures.mask_to_uint8(evaluation.shown.pi[:, k])
    rows["true mask"] = pictures.mask_to_uint8(evaluation.true[:shown])
    return pictures.image_grid(list(rows.values()), list(rows))


FIGURES: dict[str, Callable[[Evaluation], np.ndarray]] = {
    "regions": regions,
    "cut-outs": cut_outs,
    "channels": channels,
}
"""Ways to draw what a method does to the first images."""


def failures(result: Result) -> np.ndarray:
    """The images of lowest IoU and what went wrong, as in the supplement's Figure 9.

    Returns:
      uint8 [H, W, 3].
    """
    evaluation, masks, iou, worst = result.evaluation, result.masks, result.iou, _worst(result)
    return pictures.ranked_grid(
        np.asarray(evaluation.observed[worst]),
        evaluation.true[worst],
        masks[worst],
        iou[worst],
        worst,
        [
            word.replace(" ", "\n", 1)
            for word in what_went_wrong(masks[worst], evaluation.true[worst])
        ],
    )


def failure_names(result: Result) -> str:
    """Place and name of the images of `failures`, in its order."""
    names = result.evaluation.names
    return ", ".join(f"#{i} {printable(names[i])}" for i in _worst(result))


def _worst(result: Result) -> np.ndarray:
    """Places of the images of lowest IoU, from the worst."""
    return np.argsort(result.iou, kind="stable")[:_FAILURES]


def failure_summary(result: Result) -> str:
    """How many images failed, and in which ways, in one sentence."""
    bad = result.iou < _BAD_IOU
    total = f"{int(bad.sum())} of {len(bad)} images have an IoU below {100 * _BAD_IOU:.0f}"
    found = what_went_wrong(result.masks[bad], result.evaluation.true[bad]) if bad.any() else []
    kinds = sorted(set(found), key=lambda kind: (-found.count(kind), kind))
    counts = ", ".join(f"{kind} ({found.count(kind)})" for kind in kinds)
    return f"{total}: {counts}." if counts else f"{total}."


def what_went_wrong(pred: np.ndarray, true: np.ndarray) -> list[str]:
    """In a few words for each image, how its mask differs most from the truth.

    The first of `KINDS` that is so.

    Args:
      pred, true: bool [N, H, W], N >= 1.
    """
    shares = pred.mean((1, 2))
    right = np.count_nonzero(pred & true, axis=(1, 2))
    precise = 2 * right >= np.count_nonzero(pred, axis=(1, 2))
    found = 2 * right >= np.count_nonzero(true, axis=(1, 2))
    complement = metrics.iou(~pred, true)
    is_exchanged = (complement > metrics.iou(pred, true)) & (complement > _BAD_IOU)
    *kinds, rest = KINDS
    is_so = [
        shares < _NOTHING, shares > _ALL, is_exchanged, ~precise & ~found, ~precise, ~found
    ]  # fmt: skip
    return np.select(is_so, kinds, rest).tolist()
