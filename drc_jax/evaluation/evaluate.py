"""Scores a split: the regions of every image, and their masks against the truth."""

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from drc_jax.data.packed.batches import eval_batches
from drc_jax.data.packed.format import PackedSplit
from drc_jax.data.pictures.files import printable
from drc_jax.errors import NonFiniteError, UserError
from drc_jax.evaluation import metrics
from drc_jax.evaluation.regions import InferBatch, block_size, infer_on_host
from drc_jax.evaluation.report import Evaluation, Report, Score

_SHOWN_IMAGES = 10


class _Inferred(NamedTuple):
    """What is kept of the regions of all N images; see `Evaluation`."""

    masks: np.ndarray
    errors: np.ndarray
    foreground: np.ndarray
    background: np.ndarray
    reconstruction: np.ndarray


def evaluate(
    infer_batch: InferBatch,
    split: PackedSplit,
    *,
    mean_train_mask: np.ndarray | None = None,
    settings: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Infers the mask of every image of a split and scores it (docs/method.md, "6 Evaluation").

    A pixel is foreground where the foregrounds' mixing weights sum to more than 0.5, which for two
    regions is pi_f > 0.5.

    Args:
      infer_batch: the inference. Every block has the same shape; the last is filled up with
        repeated images, whose results are dropped.
      split: images with masks.
      mean_train_mask: float [S, S], `metrics.mean_mask` of the training masks; None leaves that
        floor out.
      settings: kept in the report as they are; JSON only.
      progress: called after each block with the numbers of images done and in all.

    Returns:
      The report and the images behind it; `report.write` puts them on disk.

    Raises:
      UserError: before any inference, if the split has no masks or the mean training mask has
        another size; after a block, if its results are not finite.
      ValueError: if ``infer_batch`` returns wrong shapes.
    """
    masks = split.require_masks()
    if mean_train_mask is not None and mean_train_mask.shape != masks.shape[1:]:
        raise UserError(
            f"the mean training mask is {mean_train_mask.shape} but the masks of {split.path} are "
            f"{masks.shape[1:]}; both must come from one data set"
        )
    kept_settings = dict(settings or {})
    json.dumps(kept_settings)  # Fails here rather than after an hour of inference.

    inferred = _infer_all(infer_batch, split, progress)
    true = np.asarray(masks) != 0
    columns = metrics.columns(inferred.masks, true)
    floor = None
    if mean_train_mask is not None:
        floor = Score.mean(metrics.mean_mask_floor(true, mean_train_mask))
    report = Report(
        split=split.info.split,
        num_images=len(split),
        scores={
            "fixed": Score.mean(columns.fixed),
            "dataset_flip": Score.mean(columns.dataset_flip),
            "oracle": Score.mean(columns.oracle),
        },
        is_flipped=columns.is_flipped,
        floors={
            "all_foreground": Score.mean(metrics.all_foreground_floor(true)),
            "mean_train_mask": floor,
        },
        reconstruction_error=float(np.mean(inferred.errors)),
        true_share=float(np.mean(true)),
        predicted_share=float(np.mean(inferred.masks)),
        settings=kept_settings,
    )
    return Evaluation(
        report=report,
        names=split.names,
        columns=columns,
        errors=inferred.errors,
        observed=split.images,
        true=true,
        predicted=inferred.masks,
        foreground=inferred.foreground,
        background=inferred.background,
        reconstruction=inferred.reconstruction,
    )


def _infer_all(
    infer_batch: InferBatch,
    split: PackedSplit,
    progress: Callable[[int, int], None] | None,
) -> _Inferred:
    """Runs inference on every image and keeps what the scores and pictures need."""
    count, side = len(split), split.info.image_size
    shown = min(count, _SHOWN_IMAGES)
    pictures = (np.zeros((shown, side, side, 3), np.float32) for _ in range(3))
    kept = _Inferred(np.zeros((count, side, side), bool), np.zeros(count), *pictures)
    for images, indices, valid in eval_batches(split, block_size()):
        try:
            # Repeated images of the last block end here.
            regions = infer_on_host(infer_batch, images).take(slice(valid))
        except NonFiniteError:
            raise _not_finite(split, int(indices[0])) from None
        images, indices, done = images[:valid], indices[:valid], int(indices[valid - 1]) + 1
        is_finite = regions.is_finite()
        if not is_finite.all():
            raise _not_finite(split, int(indices[np.argmin(is_finite)]))
        observed = images.astype(np.float32) / 127.5 - 1.0
        difference = np.abs(observed - regions.reconstruction)
        kept.errors[indices] = difference.mean((1, 2, 3), dtype=np.float64)
        kept.masks[indices] = regions.foreground_weight > 0.5
        first = indices < shown
        regions, indices = regions.take(first), indices[first]
        kept.foreground[indices] = regions.heaviest_foreground()
        kept.background[indices] = regions.images[:, -1]
        kept.reconstruction[indices] = regions.reconstruction
        if progress is not None:
            progress(done, count)
    return kept


def _not_finite(split: PackedSplit, bad: int) -> UserError:
    return UserError(
        f"inference gave values that are not finite for image {bad} "
        f"({printable(split.names[bad])}) of {split.path}; try fewer or smaller Langevin steps, or "
        "another checkpoint"
    )
