"""Scores a split: inference on every image, then a table, files of numbers and pictures."""

import csv
import dataclasses
import io
import json
import os
import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np

from drc_jax import files
from drc_jax.data.packed.batches import eval_batches
from drc_jax.data.packed.format import PackedSplit
from drc_jax.errors import UserError
from drc_jax.evaluation import metrics
from drc_jax.evaluation import pictures as panels

_GRID_IMAGES = 10
_RANKED_IMAGES = 8


class Regions(Protocol):
    """What inference returns for a batch; the arrays may be NumPy's or JAX's.

    Attributes:
      images: [B, K, H, W, 3] in [-1, 1], each region's image; foregrounds first, the re-assigned
        background last.
      pi: [B, K, H, W], mixing weights, summing to 1 over K.
      reconstruction: [B, H, W, 3] in [-1, 1].
    """

    @property
    def images(self) -> Any: ...
    @property
    def pi(self) -> Any: ...
    @property
    def reconstruction(self) -> Any: ...


InferBatch = Callable[[np.ndarray, int], Regions]
"""Maps images uint8 [B, S, S, 3] and the batch's number, counted from 0, to their regions."""


@dataclasses.dataclass(frozen=True)
class Score:
    """Means over the images of a split, in [0, 1]."""

    iou: float
    dice: float


@dataclasses.dataclass(frozen=True)
class Report:
    """The means of an evaluation.

    Attributes:
      split: name of the split.
      num_images: how many images the means are over.
      scores: the columns ``fixed``, ``dataset_flip`` and ``oracle`` of `metrics.Columns`.
      is_flipped: whether ``dataset_flip`` took the complement of every mask.
      floors: ``all_foreground``, and ``mean_train_mask``, None without a mean training mask.
      reconstruction_error: mean |x - x_hat| over images, pixels and channels; pixels in [-1, 1].
      true_share, predicted_share: mean share of foreground pixels, in [0, 1]. A predicted share
        of 0 or 1 is a collapsed model.
      settings: what the caller wants kept beside the numbers, such as steps and seed.
    """

    split: str
    num_images: int
    scores: dict[str, Score]
    is_flipped: bool
    floors: dict[str, Score | None]
    reconstruction_error: float
    true_share: float
    predicted_share: float
    settings: dict[str, Any]


class _Inferred(NamedTuple):
    """What is kept of the inference on all N images: masks, errors and the first few pictures."""

    masks: np.ndarray  # bool [N, S, S]
    errors: np.ndarray  # float64 [N]
    foreground: np.ndarray  # float32 [n, S, S, 3], of the first n images only; so the next two
    background: np.ndarray
    reconstruction: np.ndarray


def evaluate(
    infer_batch: InferBatch,
    split: PackedSplit,
    *,
    batch_size: int,
    output_dir: str | os.PathLike[str],
    split_name: str,
    mean_train_mask: np.ndarray | None = None,
    settings: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Infers the mask of every image of a split and scores it (SPEC section 6).

    A pixel is foreground where the foregrounds' mixing weights sum to more than 0.5, which for two
    regions is pi_f > 0.5. Written to ``output_dir``, each file at once and whole:

        SPLIT.json       the report
        SPLIT.csv        the scores of each image; the columns ``flipped_*`` are those of the
                         complemented mask, of which dataset flip and oracle are made
        SPLIT_grid.png   the first images in the rows of the paper's Fig. 5
        SPLIT_best.png, SPLIT_worst.png    the images of highest and lowest fixed IoU

    Args:
      infer_batch: the inference. Every batch has the same shape; the last is filled up with
        repeated images, whose results are dropped.
      split: images with masks.
      batch_size: images per call of ``infer_batch``.
      output_dir: folder for the files, made if needed.
      split_name: first part of the files' names.
      mean_train_mask: float [S, S], `metrics.mean_mask` of the training masks; None leaves that
        floor out.
      settings: kept in the report as they are; JSON only.
      progress: called after each batch with the numbers of images done and in all.

    Returns:
      The report.

    Raises:
      UserError: before any inference, if the split has no masks, the mean training mask has
        another size or the folder cannot be written; after a batch, if its results are not finite.
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
    folder = files.writable(output_dir, "results")

    inferred = _infer_all(infer_batch, split, batch_size, progress)
    true = np.asarray(masks) != 0
    columns = metrics.columns(inferred.masks, true)
    floor = None
    if mean_train_mask is not None:
        floor = _mean(metrics.mean_mask_floor(true, mean_train_mask))
    report = Report(
        split=split_name,
        num_images=len(split),
        scores={
            "fixed": _mean(columns.fixed),
            "dataset_flip": _mean(columns.dataset_flip),
            "oracle": _mean(columns.oracle),
        },
        is_flipped=columns.is_flipped,
        floors={
            "all_foreground": _mean(metrics.all_foreground_floor(true)),
            "mean_train_mask": floor,
        },
        reconstruction_error=float(np.mean(inferred.errors)),
        true_share=float(np.mean(true)),
        predicted_share=float(np.mean(inferred.masks)),
        settings=kept_settings,
    )
    text = json.dumps(dataclasses.asdict(report), indent=2, allow_nan=False) + "\n"
    files.write_atomically(folder / f"{split_name}.json", text.encode())
    text = _csv_text(split.names, columns, true, inferred)
    files.write_atomically(folder / f"{split_name}.csv", text.encode())
    _save_pictures(folder, split_name, split, true, inferred, columns.fixed.iou)
    return report


def format_table(report: Report) -> str:
    """The scores x100 with one decimal as a table for a terminal, the floors beside them."""
    columns = {
        "fixed": report.scores["fixed"],
        "dataset flip": report.scores["dataset_flip"],
        "image oracle": report.scores["oracle"],
        "all foreground": report.floors["all_foreground"],
        "mean train mask": report.floors["mean_train_mask"],
    }

    def line(label: str, cells: Iterable[str]) -> str:
        padded = [f"{cell:>{len(name) + 2}}" for cell, name in zip(cells, columns, strict=True)]
        return f"{label:<4}{''.join(padded[:3])}  |{''.join(padded[3:])}"

    lines = [
        f"{report.split}: {report.num_images} images, means x100; floors on the right",
        line("", columns),
    ]
    for label in ("IoU", "Dice"):
        cells = (
            "-" if score is None else f"{100 * getattr(score, label.lower()):.1f}"
            for score in columns.values()
        )
        lines.append(line(label, cells))
    orientation = "complemented" if report.is_flipped else "kept"
    lines.append(
        f"dataset flip: masks {orientation}; foreground share {100 * report.predicted_share:.1f}% "
        f"(truth {100 * report.true_share:.1f}%)"
    )
    lines.append(f"reconstruction error {report.reconstruction_error:.4f} (pixels in [-1, 1])")
    return "\n".join(lines)


def _infer_all(
    infer_batch: InferBatch,
    split: PackedSplit,
    batch_size: int,
    progress: Callable[[int, int], None] | None,
) -> _Inferred:
    """Runs inference on every image and keeps what the scores and pictures need."""
    count, side = len(split), split.info.image_size
    shown = min(count, _GRID_IMAGES)
    pictures = (np.zeros((shown, side, side, 3), np.float32) for _ in range(3))
    kept = _Inferred(np.zeros((count, side, side), bool), np.zeros(count), *pictures)
    for number, (images, indices, valid) in enumerate(eval_batches(split, batch_size)):
        regions = infer_batch(images, number)
        # Repeated images of the last batch end here.
        painted, pi, reconstruction = (
            np.asarray(array, np.float32)[:valid]
            for array in (regions.images, regions.pi, regions.reconstruction)
        )
        _check_shapes(painted, pi, reconstruction, images[:valid].shape)
        images, indices = images[:valid], indices[:valid]
        finite = np.isfinite(pi).all((1, 2, 3)) & np.isfinite(reconstruction).all((1, 2, 3))
        if not finite.all():
            bad = int(indices[np.argmin(finite)])
            raise UserError(
                f"inference gave values that are not finite for image {bad} "
                f"({split.names[bad]}) of {split.path}; try fewer or smaller Langevin steps, or "
                "another checkpoint"
            )
        observed = images.astype(np.float32) / 127.5 - 1.0
        kept.errors[indices] = np.abs(observed - reconstruction).mean((1, 2, 3), dtype=np.float64)
        kept.masks[indices] = pi[:, :-1].sum(axis=1) > 0.5
        new = indices < shown
        # With several foregrounds each pixel shows the one that weighs most there.
        winner = pi[new, :-1].argmax(axis=1)[:, None, :, :, None]
        kept.foreground[indices[new]] = np.take_along_axis(painted[new, :-1], winner, axis=1)[:, 0]
        kept.background[indices[new]] = painted[new, -1]
        kept.reconstruction[indices[new]] = reconstruction[new]
        if progress is not None:
            progress(int(indices[-1]) + 1, count)
    return kept


def _save_pictures(
    folder: pathlib.Path,
    split_name: str,
    split: PackedSplit,
    true: np.ndarray,
    inferred: _Inferred,
    iou: np.ndarray,
) -> None:
    """Writes the grid of the first images and those of the best and the worst."""
    shown = len(inferred.foreground)
    picture = panels.fig5_grid(
        np.asarray(split.images[:shown]),
        inferred.reconstruction,
        inferred.foreground,
        inferred.background,
        true[:shown],
        inferred.masks[:shown],
    )
    panels.save_png(folder / f"{split_name}_grid.png", picture)
    best = np.argsort(-iou, kind="stable")[:_RANKED_IMAGES]
    worst = np.argsort(iou, kind="stable")[:_RANKED_IMAGES]
    for name, order in (("best", best), ("worst", worst)):
        picture = panels.ranked_grid(
            split.images[order], true[order], inferred.masks[order], iou[order], order
        )
        panels.save_png(folder / f"{split_name}_{name}.png", picture)


def _csv_text(
    names: list[str], columns: metrics.Columns, true: np.ndarray, inferred: _Inferred
) -> str:
    """One line per image: its name and place, its scores, foreground shares and error."""
    table: dict[str, np.ndarray] = {}
    for name, scores in (
        ("fixed", columns.fixed),
        ("flipped", columns.flipped),
        ("oracle", columns.oracle),
    ):
        table[f"{name}_iou"], table[f"{name}_dice"] = scores.iou, scores.dice
    table["true_share"] = true.mean((1, 2))
    table["predicted_share"] = inferred.masks.mean((1, 2))
    table["reconstruction_error"] = inferred.errors
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["name", "index", *table])
    for index, (name, *values) in enumerate(zip(names, *table.values(), strict=True)):
        writer.writerow([name, index, *(f"{value:.6f}" for value in values)])
    return buffer.getvalue()


def _mean(scores: metrics.Overlap) -> Score:
    return Score(float(np.mean(scores.iou)), float(np.mean(scores.dice)))


def _check_shapes(
    painted: np.ndarray, pi: np.ndarray, reconstruction: np.ndarray, shape: tuple[int, ...]
) -> None:
    """ValueError unless the regions are those of images of ``shape``, [B, S, S, 3]."""
    found = (pi.shape, painted.shape, reconstruction.shape)
    regions = pi.shape[1] if pi.ndim == 4 else 0
    mixed = (shape[0], regions, *shape[1:])
    if regions < 2 or found != (mixed[:-1], mixed, shape):
        raise ValueError(
            f"infer_batch must return pi [B, K, S, S], images [B, K, S, S, 3] and reconstruction "
            f"[B, S, S, 3] with K >= 2 for images {list(shape)}, got {', '.join(map(str, found))}"
        )
