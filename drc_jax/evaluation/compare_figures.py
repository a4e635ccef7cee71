"""The pictures of a comparison: all methods on the same images, their regions, their failures."""

from collections.abc import Callable

import numpy as np

from drc_jax.data.pictures.files import printable
from drc_jax.evaluation import figures, mask_failures, pictures
from drc_jax.evaluation.compare import Comparison, Result
from drc_jax.evaluation.report import Evaluation

_FAILURES = 8


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
    return figures.ranked(
        result.evaluation._replace(predicted=result.masks), result.iou, _worst(result), named=True
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
    evaluation = result.evaluation
    counts = mask_failures.count(evaluation.observed, result.masks, evaluation.true, result.iou)
    return mask_failures.sentence(counts, len(result.iou))
