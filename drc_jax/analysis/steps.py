"""How many sampler steps and chains new images need, from one start or another."""

import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from drc_jax.data.packed.format import PackedSplit
from drc_jax.evaluation.evaluate import evaluate
from drc_jax.runs.trained import Run

_DPI = 110
_COLOURS = ("#1565c0", "#c62828", "#2e7d32", "#6a1b9a", "#ef6c00", "#00838f", "#4e342e", "#37474f")


class Point(NamedTuple):
    """The scores of a split after some steps of fresh chains.

    Attributes:
      start: where the chains began, as for ``drc_jax.infer``.
      num_steps: Langevin steps of each chain.
      iou, dice: fixed, means over the images, in [0, 1].
      num_chains: chains per image, as for ``drc_jax.infer``.
    """

    start: str
    num_steps: int
    iou: float
    dice: float
    num_chains: int = 1

    @property
    def line(self) -> str:
        """What the points of one line have in common."""
        return self.start + (f", {self.num_chains} chains" if self.num_chains > 1 else "")


def score(
    run: Run,
    split: PackedSplit,
    start: str,
    num_steps: int,
    seed: int,
    *,
    num_chains: int = 1,
    mask_from: str = "pi",
) -> Point:
    """Scores a split after that many steps; the noise is the first of any longer chain's."""
    infer_batch = run.infer_batch(
        seed, num_steps=num_steps, start=start, num_chains=num_chains, mask_from=mask_from
    )
    fixed = evaluate(infer_batch, split).report.scores["fixed"]
    return Point(start, num_steps, fixed.iou, fixed.dice, num_chains)


def table(points: Sequence[Point]) -> str:
    """Fixed IoU x100: a line per start and number of chains, a column per number of steps."""
    columns = sorted({point.num_steps for point in points})
    names = list(dict.fromkeys(point.line for point in points))
    width = max(map(len, ("steps", *names))) + 2
    lines = ["steps".ljust(width) + "".join(f"{number:>8d}" for number in columns)]
    for name in names:
        found = {point.num_steps: point.iou for point in points if point.line == name}
        cells = [f"{100 * found[n]:8.1f}" if n in found else " " * 8 for n in columns]
        lines.append(name.ljust(width) + "".join(cells))
    return "\n".join(lines)


def curves(points: Sequence[Point]) -> bytes:
    """Fixed IoU against steps, a line per start and number of chains, as a PNG."""
    figure = Figure(figsize=(5.6, 3.6), layout="constrained")
    axes = figure.subplots()
    for number, name in enumerate(dict.fromkeys(point.line for point in points)):
        own = sorted(point for point in points if point.line == name)
        steps = np.array([point.num_steps for point in own])
        iou = 100 * np.array([point.iou for point in own])
        colour = _COLOURS[number % len(_COLOURS)]
        axes.plot(steps, iou, marker="o", color=colour, label=f"from the {name}")
    axes.set_xscale("log")
    axes.set_xticks(sorted({point.num_steps for point in points}))
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.minorticks_off()
    axes.set_ylim(0, 100)
    axes.set_xlabel("Langevin steps of a chain")
    axes.set_ylabel("fixed IoU x100")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc="lower right")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI)
    return buffer.getvalue()
