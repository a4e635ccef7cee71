"""How many sampler steps new images need, from one start of their chains or another."""

import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from drc_jax.data.packed.format import PackedSplit
from drc_jax.evaluation.evaluate import evaluate
from drc_jax.runs.trained import Run

_DPI = 110
_COLOURS = ("#1565c0", "#c62828")


class Point(NamedTuple):
    """The scores of a split after some steps of fresh chains.

    Attributes:
      start: where the chains began, as for ``drc_jax.infer``.
      num_steps: Langevin steps.
      iou, dice: fixed, means over the images, in [0, 1].
    """

    start: str
    num_steps: int
    iou: float
    dice: float


def score(run: Run, split: PackedSplit, start: str, num_steps: int, seed: int) -> Point:
    """Scores a split after that many steps; the noise is the first of any longer chain's."""
    infer_batch = run.infer_batch(seed, num_steps=num_steps, start=start)
    fixed = evaluate(infer_batch, split).report.scores["fixed"]
    return Point(start, num_steps, fixed.iou, fixed.dice)


def table(points: Sequence[Point]) -> str:
    """Fixed IoU x100: a line per start, a column per number of steps."""
    columns = sorted({point.num_steps for point in points})
    lines = ["steps    " + "".join(f"{number:>8d}" for number in columns)]
    for start in dict.fromkeys(point.start for point in points):
        found = {point.num_steps: point.iou for point in points if point.start == start}
        cells = [f"{100 * found[n]:8.1f}" if n in found else " " * 8 for n in columns]
        lines.append(f"{start:<9}" + "".join(cells))
    return "\n".join(lines)


def curves(points: Sequence[Point]) -> bytes:
    """Fixed IoU against steps, a line per start, as a PNG."""
    figure = Figure(figsize=(5.6, 3.6), layout="constrained")
    axes = figure.subplots()
    starts = list(dict.fromkeys(point.start for point in points))
    for colour, start in zip(_COLOURS, starts, strict=False):
        own = sorted(point for point in points if point.start == start)
        steps = np.array([point.num_steps for point in own])
        iou = 100 * np.array([point.iou for point in own])
        axes.plot(steps, iou, marker="o", color=colour, label=f"from the {start}")
    axes.set_xscale("log")
    axes.set_xticks(sorted({point.num_steps for point in points}))
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.minorticks_off()
    axes.set_ylim(0, 100)
    axes.set_xlabel("Langevin steps")
    axes.set_ylabel("fixed IoU x100")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc="lower right")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI)
    return buffer.getvalue()
