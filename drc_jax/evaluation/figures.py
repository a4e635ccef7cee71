"""The pictures of an evaluation: the first images with all their regions, and a ranking."""

import pathlib
from collections.abc import Mapping

import numpy as np

from drc_jax.evaluation import mask_failures, pictures, slot_pictures
from drc_jax.evaluation.regions import Regions
from drc_jax.evaluation.report import Evaluation

_RANKED_IMAGES = 8


def write(evaluation: Evaluation, folder: pathlib.Path) -> None:
    """Writes the pictures of an evaluation, each file at once and whole.

        SPLIT_grid.png            the first images: the rows of the paper's Fig. 5, or every slot
        SPLIT_best.png, SPLIT_worst.png    the images of highest and lowest reported IoU, the
                                  latter with what went wrong
        SPLIT_failures.png        of several objects, if any: the largest failures of each kind
        SPLIT_removed.png         the first images without each of their slots, of DRC with several

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
        picture = ranked(evaluation, iou, order[:_RANKED_IMAGES], named=name == "worst")
        pictures.save_png(folder / f"{split}_{name}.png", picture)
    failed = failures(evaluation)
    if failed is not None:
        pictures.save_png(folder / f"{split}_failures.png", failed)
    shown = evaluation.shown
    if slot_pictures.are_objects(shown):
        observed = np.asarray(evaluation.observed[: len(shown.pi)])
        removed = slot_pictures.removal_grid(observed, shown)
        pictures.save_png(folder / f"{split}_removed.png", removed)


def failures(evaluation: Evaluation) -> np.ndarray | None:
    """The largest failures of each kind; None if none are known.

    Returns:
      uint8 [H, W, 3].
    """
    if evaluation.failures is None or evaluation.true_labels is None:
        return None
    labels = (evaluation.labels.astype(int) + 1) % evaluation.report.num_regions
    return slot_pictures.failures_grid(
        evaluation.failures, evaluation.observed, labels, evaluation.true_labels
    )


def grid(evaluation: Evaluation) -> np.ndarray:
    """The first images and their regions, a column each.

    The rows are those of the paper's Fig. 5; of exchangeable slots and of several objects, every
    slot and the label maps.

    Returns:
      uint8 [H, W, 3].
    """
    regions = evaluation.shown
    shown = len(regions.pi)
    observed = np.asarray(evaluation.observed[:shown])
    true, predicted = evaluation.true[:shown], evaluation.predicted[:shown]
    labels = true.astype(np.uint8)
    if evaluation.true_labels is not None:
        labels = np.asarray(evaluation.true_labels[:shown])
    more = {
        "inferred\nmask": pictures.mask_to_uint8(predicted),
        "true objects": pictures.label_colours(labels),
    }
    return regions_grid(observed, regions, true, labels, more)


def regions_grid(
    observed: np.ndarray,
    regions: Regions,
    true_mask: np.ndarray | None = None,
    true_labels: np.ndarray | None = None,
    slot_rows: Mapping[str, np.ndarray] | None = None,
) -> np.ndarray:
    """Images and the regions that a method finds in them, one column per image.

    Args:
      observed: [N, H, W, 3], the images given.
      regions: of these images.
      true_mask: [N, H, W], for the rows of Fig. 5; None leaves its row out.
      true_labels: [N, H, W], for several objects; None leaves its row out.
      slot_rows: further rows for exchangeable slots, by label.

    Returns:
      uint8 [H, W, 3]: `objects_grid` of several foregrounds, `slots_grid` of slots without a
      foreground, else `fig5_grid`.
    """
    if slot_pictures.are_objects(regions):
        return slot_pictures.objects_grid(observed, regions, true_labels)
    generated, images = np.asarray(regions.reconstruction), np.asarray(regions.images)
    pi = np.asarray(regions.pi)
    if regions.foreground_weight is None:
        return pictures.slots_grid(observed, generated, images, pi, slot_rows)
    return pictures.fig5_grid(
        observed=observed,
        generated=generated,
        foreground=images[:, 0],
        background=images[:, -1],
        true_mask=true_mask,
        inferred_mask=1.0 - pi[:, -1],
    )


def ranked(
    evaluation: Evaluation, iou: np.ndarray, chosen: np.ndarray, *, named: bool
) -> np.ndarray:
    """Images with their masks and IoU, in the order given.

    Args:
      evaluation: what to draw.
      iou: float [N], of the predicted masks.
      chosen: int [n], places of images.
      named: also say below each score what went wrong.

    Returns:
      uint8 [H, W, 3].
    """
    observed = np.asarray(evaluation.observed[chosen])
    true, predicted = evaluation.true[chosen], evaluation.predicted[chosen]
    words = mask_failures.what_went_wrong(observed, predicted, true) if named else []
    notes = [word.replace(" ", "\n", 1) for word in words]
    return pictures.ranked_grid(observed, true, predicted, iou[chosen], chosen, notes)
