"""The pictures of an evaluation: the first images with all their regions, and a ranking."""

import pathlib

import numpy as np

from drc_jax.evaluation import pictures
from drc_jax.evaluation.report import Evaluation

_RANKED_IMAGES = 8


def write(evaluation: Evaluation, folder: pathlib.Path) -> None:
    """Writes the pictures of an evaluation, each file at once and whole.

        SPLIT_grid.png            the first images: the rows of the paper's Fig. 5, or every slot
        SPLIT_best.png, SPLIT_worst.png    the images of highest and lowest reported IoU

    Args:
      evaluation: what to draw.
      folder: where to; it must exist.

    Raises:
      UserError: if a file cannot be written.
    """
    split, iou = evaluation.report.split, evaluation.reported.iou
    pictures.save_png(folder / f"{split}_grid.png", grid(evaluation))
    for name, order in (
        ("best", np.argsort(-iou, kind="stable")),
        ("worst", np.argsort(iou, kind="stable")),
    ):
        pictures.save_png(folder / f"{split}_{name}.png", ranked(evaluation, order))


def grid(evaluation: Evaluation) -> np.ndarray:
    """The first images and their regions, a column each.

    The rows are those of the paper's Fig. 5; of exchangeable slots, every slot. With more than two
    regions label maps follow.

    Returns:
      uint8 [H, W, 3].
    """
    regions = evaluation.shown
    shown, count = len(regions.pi), regions.pi.shape[1]
    observed = np.asarray(evaluation.observed[:shown])
    true, predicted = evaluation.true[:shown], evaluation.predicted[:shown]
    truth = {"true mask": pictures.mask_to_uint8(true)}
    if evaluation.true_labels is not None:
        # One object alone is a mask, and looks like one.
        labels = np.asarray(evaluation.true_labels[:shown])
        truth = {"true labels": pictures.label_picture(labels, int(labels.max()) + 1, 0)}
    if regions.foreground_weight is None:
        more = {"inferred\nmask": pictures.mask_to_uint8(predicted), **truth}
        parts = (regions.reconstruction, regions.images, regions.pi)
        return pictures.slots_grid(observed, *parts, more)
    more = {}
    if count > 2:
        found = pictures.label_picture(evaluation.labels[:shown], count, count - 1)
        more = {"regions": found, **truth}
    return pictures.fig5_grid(
        observed,
        regions.reconstruction,
        regions.heaviest_foreground(),
        regions.images[:, -1],
        true,
        predicted,
        more,
    )


def ranked(evaluation: Evaluation, order: np.ndarray) -> np.ndarray:
    """The first images in ``order`` with their masks and reported IoU.

    Args:
      evaluation: what to draw.
      order: int [n], places of images.

    Returns:
      uint8 [H, W, 3].
    """
    chosen = order[:_RANKED_IMAGES]
    return pictures.ranked_grid(
        np.asarray(evaluation.observed[chosen]),
        evaluation.true[chosen],
        evaluation.predicted[chosen],
        evaluation.reported.iou[chosen],
        chosen,
    )
