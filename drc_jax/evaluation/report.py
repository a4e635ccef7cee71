"""What an evaluation found: the numbers as a table, JSON and CSV, and their pictures, as files."""

import csv
import dataclasses
import io
import json
import pathlib
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from drc_jax.data.packed.reading import FileArray
from drc_jax.data.pictures.files import printable
from drc_jax.evaluation import metrics, pictures
from drc_jax.files import write_atomically

_RANKED_IMAGES = 8
# A spreadsheet takes a cell that begins so for a formula and computes it.
_FORMULA = ("=", "+", "-", "@")


@dataclasses.dataclass(frozen=True)
class Score:
    """Means over the images of a split, in [0, 1]."""

    iou: float
    dice: float

    @classmethod
    def mean(cls, scores: metrics.Overlap) -> "Score":
        """The means of scores per image."""
        return cls(float(np.mean(scores.iou)), float(np.mean(scores.dice)))


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
      settings: what the numbers depend on: method, data, steps, seed.
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


class Evaluation(NamedTuple):
    """A report and the N images behind it.

    Attributes:
      report: the means.
      names: N strings.
      columns: the scores of each image.
      errors: float64 [N], mean |x - x_hat| of each image.
      observed: uint8 [N, S, S, 3]; read when indexed.
      true, predicted: bool [N, S, S], true and inferred foreground.
      foreground, background, reconstruction: float32 [n, S, S, 3] in [-1, 1], of the first n images
        only.
    """

    report: Report
    names: list[str]
    columns: metrics.Columns
    errors: np.ndarray
    observed: FileArray
    true: np.ndarray
    predicted: np.ndarray
    foreground: np.ndarray
    background: np.ndarray
    reconstruction: np.ndarray


def write(evaluation: Evaluation, folder: pathlib.Path, stem: str) -> None:
    """Writes an evaluation, each file at once and whole.

        STEM.json, STEM.csv       kept beside the files of other stems
        SPLIT.json, SPLIT.csv     the same: the newest evaluation of the split
        SPLIT_grid.png            the first images in the rows of the paper's Fig. 5
        SPLIT_best.png, SPLIT_worst.png    the images of highest and lowest fixed IoU

    Args:
      evaluation: what to write.
      folder: where to; it must exist.
      stem: a file name for what the numbers depend on, such as ``test_300steps_seed0``.

    Raises:
      UserError: if a file cannot be written.
    """
    split = evaluation.report.split
    numbers = {".json": to_json(evaluation.report), ".csv": to_csv(evaluation)}
    for name in (stem, split):
        for ending, text in numbers.items():
            write_atomically(folder / f"{name}{ending}", text.encode())
    pictures.save_png(folder / f"{split}_grid.png", _grid(evaluation))
    iou = evaluation.columns.fixed.iou
    for name, order in (
        ("best", np.argsort(-iou, kind="stable")),
        ("worst", np.argsort(iou, kind="stable")),
    ):
        pictures.save_png(folder / f"{split}_{name}.png", _ranked(evaluation, order))


def to_json(report: Report) -> str:
    """The report as JSON; scores and shares are in [0, 1]."""
    return json.dumps(dataclasses.asdict(report), indent=2, allow_nan=False) + "\n"


def to_csv(evaluation: Evaluation) -> str:
    """One line per image: its name and place, its scores, foreground shares and error.

    The columns ``flipped_*`` are the scores of the complemented mask, from which dataset flip and
    oracle are chosen. A name that a spreadsheet would compute gets an apostrophe in front; control
    characters and bytes that are not UTF-8 are escaped.
    """
    table: dict[str, np.ndarray] = {}
    for name in ("fixed", "flipped", "oracle"):
        scores = getattr(evaluation.columns, name)
        table[f"{name}_iou"], table[f"{name}_dice"] = scores.iou, scores.dice
    table["true_share"] = evaluation.true.mean((1, 2))
    table["predicted_share"] = evaluation.predicted.mean((1, 2))
    table["reconstruction_error"] = evaluation.errors
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["name", "index", *table])
    for index, (name, *values) in enumerate(zip(evaluation.names, *table.values(), strict=True)):
        writer.writerow([_cell(name), index, *(f"{value:.6f}" for value in values)])
    return buffer.getvalue()


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
    if report.settings:
        lines.append(", ".join(f"{key} {value}" for key, value in report.settings.items()))
    return "\n".join(lines)


def _cell(name: str) -> str:
    """A name as a CSV cell that is shown and not computed."""
    text = printable(name)
    return f"'{text}" if text.startswith(_FORMULA) else text


def _grid(evaluation: Evaluation) -> np.ndarray:
    shown = len(evaluation.foreground)
    return pictures.fig5_grid(
        np.asarray(evaluation.observed[:shown]),
        evaluation.reconstruction,
        evaluation.foreground,
        evaluation.background,
        evaluation.true[:shown],
        evaluation.predicted[:shown],
    )


def _ranked(evaluation: Evaluation, order: np.ndarray) -> np.ndarray:
    """The first images in ``order`` with their masks and fixed IoU."""
    chosen = order[:_RANKED_IMAGES]
    return pictures.ranked_grid(
        np.asarray(evaluation.observed[chosen]),
        evaluation.true[chosen],
        evaluation.predicted[chosen],
        evaluation.columns.fixed.iou[chosen],
        chosen,
    )
