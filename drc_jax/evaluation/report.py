"""What an evaluation found: the numbers as a table, JSON and CSV, and their pictures, as files."""

import csv
import dataclasses
import io
import json
import pathlib
from typing import Any, NamedTuple

import numpy as np

from drc_jax.data.packed.reading import FileArray
from drc_jax.data.pictures.files import printable
from drc_jax.evaluation import mask_failures, metrics
from drc_jax.evaluation.label_metrics import LabelScores
from drc_jax.evaluation.regions import HostRegions
from drc_jax.evaluation.slot_failures import Failure
from drc_jax.files import write_atomically

COLUMNS = {
    "fixed": "fixed",
    "dataset_flip": "dataset flip",
    "oracle": "image oracle",
    "background_slot": "background slot",
    "combined": "combined",
    "background_oracle": "slot per image",
}
"""Columns of scores and how they are called in tables."""
FLOORS = {
    "all_foreground": "all foreground",
    "mean_train_mask": "mean mask",
    "saturation": "saturation",
}
LABEL_FLOORS = {
    "components": "components of the foreground",
    "k_means": "k-means of colour and place",
}

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
class LabelReport:
    """How well label maps part the objects; see `label_metrics`. Scores and rates are in [0, 1].

    Attributes:
      num_several: images of two objects or more.
      foreground_ari: mean over these images; None if there are none.
      ari, matched_iou: means over all images.
      objects, slots: true objects and active slots, means per image. The background is a slot
        where the method has no region for it.
      split_rate, missed_rate: shares of the objects; None without objects, and missed without a
        region for the background.
      merge_rate: share of the active slots; None without any.
    """

    num_several: int
    foreground_ari: float | None
    ari: float
    matched_iou: float
    objects: float
    slots: float
    split_rate: float | None
    missed_rate: float | None
    merge_rate: float | None

    @classmethod
    def of(cls, scores: LabelScores, *, has_background: bool) -> "LabelReport":
        """The means of scores per image."""
        several = scores.counts.objects >= 2
        totals = {name: int(np.sum(c)) for name, c in scores.counts._asdict().items()}

        def rate(name: str, among: str) -> float | None:
            return totals[name] / totals[among] if totals[among] else None

        return cls(
            num_several=int(np.sum(several)),
            foreground_ari=(
                float(np.mean(scores.foreground_ari[several])) if several.any() else None
            ),
            ari=float(np.mean(scores.ari)),
            matched_iou=float(np.mean(scores.matched_iou)),
            objects=float(np.mean(scores.counts.objects)),
            slots=float(np.mean(scores.counts.slots)),
            split_rate=rate("split", "objects"),
            missed_rate=rate("missed", "objects") if has_background else None,
            merge_rate=rate("merged", "slots"),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """The means of an evaluation.

    Attributes:
      split: name of the split.
      num_images: how many images the means are over.
      num_regions: K.
      scores: the columns ``fixed``, ``dataset_flip`` and ``oracle`` of `metrics.Columns`; of
        exchangeable slots ``background_slot`` (one for the whole set), ``combined`` and
        ``background_oracle`` (the slot of each image) of `metrics.SlotScores`.
      headline: the column that the paper reports.
      is_flipped: whether ``dataset_flip`` took the complement of every mask; None for slots.
      background_slot: which slot the column of that name takes, from 0; None otherwise.
      floors: ``all_foreground``; ``mean_train_mask``, None without a mean training mask; and
        ``saturation``, of `saturation.saturation_masks`.
      labels: scores of the label maps; None for data without instance labels.
      label_floors: scores of label maps that need no slots, by `LABEL_FLOORS`; ``components`` only
        where a method says what is foreground; empty for data without instance labels.
      failures: how many there are of each of `slot_failures.KINDS`; None without instance labels or
        a region for the background.
      bad_masks: how many images of the headline's IoU below a half there are of each kind of
        `mask_failures.what_went_wrong`; kinds without any are left out.
      reconstruction_error: mean |x - x_hat| over images, pixels and channels; pixels in [-1, 1].
      true_share, predicted_share: mean share of foreground pixels, in [0, 1], of the headline's
        masks. A predicted share of 0 or 1 is a collapsed model.
      settings: what the numbers depend on: method, data, steps, seed.
    """

    split: str
    num_images: int
    num_regions: int = 2
    scores: dict[str, Score]
    headline: str = "fixed"
    is_flipped: bool | None = None
    background_slot: int | None = None
    floors: dict[str, Score | None]
    labels: LabelReport | None = None
    label_floors: dict[str, LabelReport] = dataclasses.field(default_factory=dict)
    failures: dict[str, int] | None = None
    bad_masks: dict[str, int] = dataclasses.field(default_factory=dict)
    reconstruction_error: float
    true_share: float
    predicted_share: float
    settings: dict[str, Any]

    @property
    def reported(self) -> Score:
        """The scores of the column ``headline``."""
        return self.scores[self.headline]


class Evaluation(NamedTuple):
    """A report and the N images behind it.

    Attributes:
      report: the means.
      names: N strings.
      scores: the scores of each image by column; besides the report's columns ``flipped``, the
        complemented masks that ``dataset_flip`` and ``oracle`` choose from.
      label_scores: the scores of each image's label map; None for data without labels.
      failures: what went wrong; None as in the report.
      errors: float64 [N], mean |x - x_hat| of each image.
      observed: uint8 [N, S, S, 3]; read when indexed.
      true, predicted: bool [N, S, S], true and inferred foreground, that of the headline.
      true_labels: uint8 [N, S, S], 0 the background; read when indexed; None for data without.
      labels: uint16 [N, S, S], the region that weighs most at each pixel.
      shown: the regions of the first images.
    """

    report: Report
    names: list[str]
    scores: dict[str, metrics.Overlap]
    label_scores: LabelScores | None
    failures: list[Failure] | None
    errors: np.ndarray
    observed: FileArray
    true: np.ndarray
    true_labels: FileArray | None
    predicted: np.ndarray
    labels: np.ndarray
    shown: HostRegions

    @property
    def reported(self) -> metrics.Overlap:
        """The scores of each image in the column that the paper reports."""
        return self.scores[self.report.headline]


def write_numbers(evaluation: Evaluation, folder: pathlib.Path, stem: str) -> None:
    """Writes the numbers of an evaluation, each file at once and whole.

        STEM.json, STEM.csv       kept beside the files of other stems
        SPLIT.json, SPLIT.csv     the same: the newest evaluation of the split

    Args:
      evaluation: what to write.
      folder: where to; it must exist.
      stem: a file name for what the numbers depend on, such as ``test_300steps_seed0``.

    Raises:
      UserError: if a file cannot be written.
    """
    numbers = {".json": to_json(evaluation.report), ".csv": to_csv(evaluation)}
    for name in (stem, evaluation.report.split):
        for ending, text in numbers.items():
            write_atomically(folder / f"{name}{ending}", text.encode())


def to_json(report: Report) -> str:
    """The report as JSON; scores and shares are in [0, 1]."""
    return json.dumps(dataclasses.asdict(report), indent=2, allow_nan=False) + "\n"


def to_csv(evaluation: Evaluation) -> str:
    """One line per image: its name and place, its scores, foreground shares and error.

    The columns ``flipped_*`` are the scores of the complemented mask, from which dataset flip and
    oracle are chosen. Where there are instance labels, the scores of the label map follow;
    ``foreground_ari`` is empty for images of fewer than two objects. A name that a spreadsheet
    would compute gets an apostrophe in front; control characters and bytes that are not UTF-8 are
    escaped.
    """
    table: dict[str, np.ndarray] = {}
    for name, scores in evaluation.scores.items():
        if name != "dataset_flip":  # equal to fixed or to flipped
            table[f"{name}_iou"], table[f"{name}_dice"] = scores
    table["true_share"] = evaluation.true.mean((1, 2))
    table["predicted_share"] = evaluation.predicted.mean((1, 2))
    table["reconstruction_error"] = evaluation.errors
    if evaluation.label_scores is not None:
        *arrays, counts = evaluation.label_scores
        table |= dict(zip(evaluation.label_scores._fields[:-1], arrays, strict=True))
        table |= counts._asdict()
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["name", "index", *table])
    for index, (name, *values) in enumerate(zip(evaluation.names, *table.values(), strict=True)):
        writer.writerow([cell(name), index, *map(_number, values)])
    return buffer.getvalue()


def cell(name: str) -> str:
    """A name as a CSV cell that is shown and not computed."""
    text = printable(name)
    return f"'{text}" if text.startswith(_FORMULA) else text


def _number(value: np.generic) -> str:
    if isinstance(value, np.integer):
        return str(value)
    return "" if np.isnan(value) else f"{value:.6f}"


def format_table(report: Report) -> str:
    """The scores x100 with one decimal as a table for a terminal, the floors beside them."""
    own = {COLUMNS[name]: score for name, score in report.scores.items()}
    floors = {FLOORS[name]: score for name, score in report.floors.items()}
    if report.background_slot is not None:
        reported = COLUMNS[report.headline]
        own = {f"{name} *" if name == reported else name: own[name] for name in own}

    def line(label: str, cells: dict[str, str]) -> str:
        padded = [f"{cells[name]:>{len(name) + 2}}" for name in cells]
        return f"{label:<4}{''.join(padded[: len(own)])} |{''.join(padded[len(own) :])}"

    columns = own | floors
    lines = [
        f"{report.split}: {report.num_images} images, means x100; floors on the right",
        line("", {name: name for name in columns}),
    ]
    for label in ("IoU", "Dice"):
        cells = {
            name: "-" if score is None else f"{100 * getattr(score, label.lower()):.1f}"
            for name, score in columns.items()
        }
        lines.append(line(label, cells))
    if report.background_slot is None:
        choice = f"dataset flip: masks {'complemented' if report.is_flipped else 'kept'}"
    else:
        choice = (
            "* the better of the two ways, as the paper reports; background slot: "
            f"{report.background_slot + 1} of {report.num_regions}"
        )
    shares = (
        f"foreground share {100 * report.predicted_share:.1f}% "
        f"(truth {100 * report.true_share:.1f}%)"
    )
    lines += [f"{choice}; {shares}"] if len(choice) < 40 else [choice, shares]
    if report.bad_masks:
        bad, kinds = sum(report.bad_masks.values()), mask_failures.listed(report.bad_masks)
        lines.append(f"IoU below 50: {bad} images: {kinds}")
    lines += label_lines(report)
    lines.append(f"reconstruction error {report.reconstruction_error:.4f} (pixels in [-1, 1])")
    if report.settings:
        lines.append(", ".join(f"{key} {value}" for key, value in report.settings.items()))
    return "\n".join(lines)


def label_lines(report: Report) -> list[str]:
    """What label maps scored, in words; for many regions also why they did not."""
    labels = report.labels
    if labels is None:
        is_for_objects = report.num_regions > 2 or report.background_slot is not None
        return ["no FG-ARI: the data have no instance labels"] if is_for_objects else []
    shares = [
        "-" if rate is None else f"{100 * rate:.1f}%"
        for rate in (labels.split_rate, labels.missed_rate, labels.merge_rate)
    ]
    several = f"FG-ARI is over the {labels.num_several} images of two objects or more"
    if labels.foreground_ari is None:
        several = "no FG-ARI: no image has two objects or more"
    lines = [
        f"{_label_scores(labels)}; {several}",
        f"per image {labels.objects:.2f} objects and {labels.slots:.2f} active slots",
        f"objects split {shares[0]}, missed {shares[1]}; slots that merge objects {shares[2]}",
    ]
    if report.failures is not None:
        counts = ", ".join(f"{kind} {count}" for kind, count in report.failures.items())
        lines.append(f"failures: {counts}")
    return lines + [
        f"{_label_scores(floor)}: {LABEL_FLOORS[name]}, a floor"
        for name, floor in report.label_floors.items()
    ]


def _label_scores(labels: LabelReport) -> str:
    scores = {
        "FG-ARI": labels.foreground_ari,
        "ARI": labels.ari,
        "matched mIoU": labels.matched_iou,
    }
    return ", ".join(f"{name} {100 * s:.1f}" for name, s in scores.items() if s is not None)
