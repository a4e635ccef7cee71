"""A comparison as tables: for a page and a terminal, Markdown, CSV and JSON."""

import csv
import dataclasses
import io
import json
from collections.abc import Callable
from typing import Any

from drc_jax.data.pictures.files import printable
from drc_jax.evaluation.compare import (
    COLUMNS,
    Comparison,
    Entrant,
    Group,
    Result,
    Spread,
    in_columns,
)
from drc_jax.evaluation.report import FLOORS, Report, Score, cell

Table = list[list[str]]
"""Rows of cells, the heading first."""

OBJECTS = {"foreground_ari": "FG-ARI", "ari": "ARI", "matched_iou": "matched mIoU"}
"""Scores of label maps and how they are called."""


def means(comparison: Comparison) -> Table:
    """A row for each method, and the floors: IoU / Dice x100, mean ± deviation over the runs.

    A star is at the column that the method's paper reports.
    """
    has_labels = comparison.report.labels is not None
    rows = [["method", "runs", *COLUMNS.values(), *(OBJECTS.values() if has_labels else ())]]
    for group in comparison.groups:
        row = [printable(group.name), str(len(group.results))]
        for column in COLUMNS:
            star = " *" if column == group.first.column else ""
            row.append(_scores(group, column) + star)
        if has_labels:
            row += [_percent(group.spread(_label(name))) for name in OBJECTS]
        rows.append(row)
    for name, label in FLOORS.items():
        score = comparison.report.floors[name]
        if score is not None:
            filled = [f"{label} (floor)", "", both(score)]
            rows.append(filled + [""] * (len(rows[0]) - len(filled)))
    return rows


def costs(comparison: Comparison) -> Table:
    """A row for each method: what it learnt and how long that and inference took, as means."""
    rows = [["method", "parameters", "iterations", "training time", "inference of an image"]]
    for group in comparison.groups:
        training, inference = group.training_seconds, group.seconds_per_image
        rows.append([
            printable(group.name),
            count(group.first.entrant.num_parameters),
            iterations(group.first.entrant),
            "-" if training is None else duration(training.mean),
            "-" if inference is None else milliseconds(inference.mean),
        ])  # fmt: skip
    return rows


def remarks(comparison: Comparison) -> list[str]:
    """What methods say of their images, such as how many of them were refused."""
    results = [result for group in comparison.groups for result in group.results]
    return [f"{result.entrant.path}: {result.remark}." for result in results if result.remark]


def every_run(comparison: Comparison) -> Table:
    """A row for each run: its seed, its scores x100, and what it cost."""
    rows = [["run", "method", "seed", *COLUMNS.values(), "error", "iterations", "training time"]]
    for group in comparison.groups:
        for result in group.results:
            entrant, report = result.entrant, result.evaluation.report
            scores = in_columns(report).values()
            seconds = entrant.training_seconds
            rows.append([
                printable(entrant.path),
                printable(group.name),
                "-" if entrant.seed is None else str(entrant.seed),
                *("-" if score is None else both(score) for score in scores),
                f"{report.reconstruction_error:.4f}",
                iterations(entrant),
                "-" if seconds is None else duration(seconds),
            ])  # fmt: skip
    return rows


def to_markdown(comparison: Comparison) -> str:
    """All tables; what methods and files are called is escaped."""
    report = comparison.report
    parts = [
        f"Split {report.split}, {report.num_images} images; {explanation(comparison)}",
        _markdown(means(comparison)),
        _markdown(costs(comparison)),
        *map(_md, remarks(comparison)),
        _markdown(every_run(comparison)),
        "\n".join(f"- {_md(word)}: {_md(text)}." for word, text in terms(comparison).items()),
    ]
    parts += [f"{_md(path)} has no scores: {_md(why)}" for path, why in comparison.failed]
    return "\n\n".join(parts) + "\n"


def to_text(comparison: Comparison) -> str:
    """The tables of means and of costs, and remarks, for a terminal."""
    parts = [_text(means(comparison)), _text(costs(comparison)), *remarks(comparison)]
    return "\n".join(parts)


def _text(table: Table) -> str:
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    lines = []
    for row in table:
        first, *others = (
            f"{text:<{width}}" if i == 0 else f"{text:>{width}}"
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join([first, *others]).rstrip())
    return "\n".join(lines)


def to_csv(comparison: Comparison) -> str:
    """A line for each run; scores are in [0, 1], and empty where there is none."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    scored = [f"{column}_{score}" for column in COLUMNS for score in ("iou", "dice")]
    writer.writerow([
        *("group", "method", "run", "seed", "iterations", "parameters", "training_seconds"),
        *("seconds_per_image", *scored, *OBJECTS),
        *("reconstruction_error", "predicted_share", "true_share"),
    ])  # fmt: skip
    for group in comparison.groups:
        for result in group.results:
            entrant, report = result.entrant, result.evaluation.report
            scores = in_columns(report)
            numbers: list[float | None] = []
            for score in scores.values():
                numbers += [None, None] if score is None else [score.iou, score.dice]
            numbers += [_label(name)(report) for name in OBJECTS]
            numbers += [report.reconstruction_error, report.predicted_share, report.true_share]
            writer.writerow([
                cell(group.name),
                cell(entrant.method),
                cell(entrant.path),
                "" if entrant.seed is None else entrant.seed,
                entrant.iterations,
                entrant.num_parameters,
                "" if entrant.training_seconds is None else f"{entrant.training_seconds:.1f}",
                "" if result.seconds_per_image is None else f"{result.seconds_per_image:.5f}",
                *("" if number is None else f"{number:.6f}" for number in numbers),
            ])  # fmt: skip
    return buffer.getvalue()


def to_json(comparison: Comparison) -> str:
    """Everything: the groups' means and deviations, and every run's report; scores in [0, 1]."""
    report = comparison.report
    values = {
        "split": report.split,
        "num_images": report.num_images,
        "floors": {
            name: None if score is None else dataclasses.asdict(score)
            for name, score in report.floors.items()
        },
        "groups": [_group_json(group) for group in comparison.groups],
        "runs": [_run_json(result) for group in comparison.groups for result in group.results],
        "failed": [{"run": path, "reason": reason} for path, reason in comparison.failed],
    }
    return json.dumps(values, indent=2, allow_nan=False) + "\n"


def explanation(comparison: Comparison) -> str:
    """What the cells of `means` are, in a few sentences."""
    text = (
        "cells are IoU / Dice x100, mean ± standard deviation over the runs. Columns must not be "
        "compared with each other: fixed uses no truth, the others choose orientation or slots "
        "by the true masks. * is what the method's paper reports."
    )
    labels = comparison.report.labels
    if labels is None and any(group.first.is_slots for group in comparison.groups):
        text += " No FG-ARI: the data have no instance labels."
    elif labels is not None and labels.foreground_ari is None:
        text += " No FG-ARI: no image has two objects or more."
    elif labels is not None:
        text += f" FG-ARI is over the {labels.num_several} images of two objects or more."
    return text


def terms(comparison: Comparison) -> dict[str, str]:
    """The words of the tables and what they mean."""
    meanings = {
        "IoU": "pixels in both the found mask and the true one, divided by those in either; the "
        "mean over the images",
        "Dice": "twice the pixels in both masks, divided by the sum of their sizes; likewise",
        "fixed": "the foreground that the method itself names, without a look at the truth; "
        "exchangeable slots name none",
        "best per set": "one choice for all images, by the true masks: of two regions which is the "
        "foreground, of slots the better of the two ways of the paper's appendix E (all but one "
        "slot, or every pixel that a slot claims)",
        "best per image": "the same choice for every image, of slots which one is the background: "
        "flatters every method",
        "all foreground, mean mask": "floors that look at no image: every pixel, or the pixels "
        "that are foreground in more than half of the training masks. A method that does not beat "
        "both has found nothing",
        "saturation": "a floor without training: the pixels above Otsu's threshold of each image's "
        "saturation",
        "FG-ARI": "adjusted Rand index of the pixels of true objects: 100 where each object has a "
        "label of its own, about 0 for chance. It does not see the background",
        "ARI": "the same of all pixels, the background being one more object",
        "matched mIoU": "mean IoU of the objects with the slots that the best one-to-one "
        "assignment gives them",
        "error": "mean difference of pixels in [-1, 1] between image and reconstruction; not a "
        "score of masks, and 0 where a method keeps the image itself",
        "training time": "of the iterations alone, without compiling, drawing and saving, on the "
        "machine of that time",
        "inference of an image": "the mean over all blocks of images but the first, which may "
        "compile",
    }
    if comparison.report.labels is None:
        meanings = {word: text for word, text in meanings.items() if word not in OBJECTS.values()}
    return meanings


def both(score: Score) -> str:
    """IoU / Dice x100."""
    return f"{100 * score.iou:.1f} / {100 * score.dice:.1f}"


def count(number: int) -> str:
    """A number of parameters in three digits."""
    for size, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:.3g} {letter}"
    return str(number) if number else "-"


def iterations(entrant: Entrant) -> str:
    """Of the training."""
    return f"{entrant.iterations:,}" if entrant.iterations else "-"


def duration(seconds: float) -> str:
    """Hours and minutes, minutes and seconds, or seconds."""
    if seconds >= 3600:
        return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60):02d} min"
    if seconds >= 60:
        return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"
    return f"{seconds:.1f} s"


def milliseconds(seconds: float) -> str:
    """Milliseconds in two digits, or seconds."""
    return f"{1000 * seconds:.2g} ms" if seconds < 0.1 else f"{seconds:.2g} s"


def _label(name: str) -> Callable[[Report], float | None]:
    return lambda report: None if report.labels is None else getattr(report.labels, name)


def _column(column: str, kind: str) -> Callable[[Report], float | None]:
    def value(report: Report) -> float | None:
        score = in_columns(report)[column]
        return None if score is None else getattr(score, kind)

    return value


def _scores(group: Group, column: str) -> str:
    cells = [_percent(group.spread(_column(column, kind))) for kind in ("iou", "dice")]
    return "-" if cells[0] == "-" else " / ".join(cells)


def _percent(spread: Spread | None) -> str:
    if spread is None:
        return "-"
    mean = f"{100 * spread.mean:.1f}"
    return mean if spread.deviation is None else f"{mean} ± {100 * spread.deviation:.1f}"


def _markdown(table: Table) -> str:
    heading, *rows = ["| " + " | ".join(map(_md, row)) + " |" for row in table]
    rule = "|" + "---|" * len(table[0])
    return "\n".join([heading, rule, *rows])


def _md(text: str) -> str:
    """Text that Markdown shows as it is."""
    text = printable(text).replace("&", "&amp;").replace("<", "&lt;")
    return "".join(f"\\{c}" if c in "\\`*_{}[]()#!|~" else c for c in text)


def _spread_json(spread: Spread | None) -> dict[str, Any] | None:
    return None if spread is None else spread._asdict()


def _group_json(group: Group) -> dict[str, Any]:
    entrant = group.first.entrant
    return {
        "name": group.name,
        "method": entrant.method,
        "runs": [result.entrant.path for result in group.results],
        "seeds": [result.entrant.seed for result in group.results],
        "reported": group.first.column,
        "scores": {
            column: {
                kind: _spread_json(group.spread(_column(column, kind))) for kind in ("iou", "dice")
            }
            for column in COLUMNS
        },
        "labels": {name: _spread_json(group.spread(_label(name))) for name in OBJECTS},
        "iterations": entrant.iterations,
        "num_parameters": entrant.num_parameters,
        "training_seconds": _spread_json(group.training_seconds),
        "seconds_per_image": _spread_json(group.seconds_per_image),
    }


def _run_json(result: Result) -> dict[str, Any]:
    entrant = result.entrant
    return {
        "run": entrant.path,
        "method": entrant.method,
        "seed": entrant.seed,
        "iterations": entrant.iterations,
        "num_parameters": entrant.num_parameters,
        "training_seconds": entrant.training_seconds,
        "seconds_per_image": result.seconds_per_image,
        "remark": result.remark,
        "report": dataclasses.asdict(result.evaluation.report),
    }
