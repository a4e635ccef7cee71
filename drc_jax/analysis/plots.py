"""One plot of one data set's statistics each, as the bytes of a PNG.

The figures are made without pyplot: nothing is opened, and nothing is left behind.
"""

import io

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from drc_jax.analysis.statistics import CHANNELS, COLOUR_BINS, REGIONS, Statistics, intersection
from drc_jax.evaluation import pictures

_COLOURS = ("#c62828", "#2e7d32", "#1565c0")
_DPI = 110


def examples(item: Statistics) -> bytes:
    """The example pictures, and below each what its mask leaves of it on grey."""
    cut_outs = pictures.cut_out(item.example_images, item.example_masks)
    buffer = io.BytesIO()
    grid = pictures.image_grid([item.example_images, cut_outs], ["", ""])
    Image.fromarray(grid).save(buffer, format="png")
    return buffer.getvalue()


def colour_top(item: Statistics) -> float:
    """A height for `colours` that white or black backdrops, all in one bin, do not stretch."""
    both = np.stack([item.foreground, item.background])
    inner = float(both[..., 1:-1].max())
    return 1.15 * (inner or float(both.max()))


def colours(item: Statistics, top: float) -> bytes:
    """The histograms of both regions, a panel per channel (appendix G.1, Fig. 16).

    Args:
      item: the statistics.
      top: upper end of the axis, for instance the largest `colour_top` of several data sets.
    """
    figure = Figure(figsize=(4.8, 5.6), layout="constrained")
    edges = np.linspace(0, 256, COLOUR_BINS + 1)
    for row, axes in enumerate(figure.subplots(3, 1, sharex=True, sharey=True)):
        foreground, background = item.foreground[row], item.background[row]
        filled = axes.stairs(foreground, edges, fill=True, color=_COLOURS[row], alpha=0.55)
        line = axes.stairs(background, edges, color="#333333", linewidth=1.3)
        if row == 0:
            figure.legend(
                [filled, line], REGIONS, loc="outside upper right", ncols=2, frameon=False
            )
        common = intersection(foreground[None], background[None])
        axes.set_title(f"{CHANNELS[row]}: overlap {100 * common:.0f} %", fontsize=10, loc="left")
        for edge, side in ((0, "left"), (-1, "right")):
            high = [
                f"{region} {100 * values[edge]:.0f} %"
                for region, values in zip(REGIONS, (foreground, background), strict=True)
                if values[edge] > top
            ]
            axes.text(
                0.03 if side == "left" else 0.97,
                0.94,
                "\n".join(high),
                transform=axes.transAxes,
                ha=side,
                va="top",
                fontsize=8,
            )
        axes.set(xlim=(0, 256), ylim=(0, top), xticks=(0, 64, 128, 192, 255))
        axes.yaxis.set_major_formatter(_percent)
        axes.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("value", fontsize=10)
    figure.supylabel("share of the region's pixels, per bin of 4 values", fontsize=10)
    return _png(figure)


def heat_map(item: Statistics) -> bytes:
    """The summed masks over their maximum (appendix G.1, Fig. 17)."""
    figure = Figure(figsize=(4.2, 3.5), layout="constrained")
    axes = figure.subplots()
    shown = axes.imshow(item.heat_map, cmap="inferno", vmin=0, vmax=1, interpolation="nearest")
    axes.set(xticks=(), yticks=())
    figure.colorbar(shown, ax=axes, label="masks, share of the maximum")
    return _png(figure)


def shares(item: Statistics, tallest: float) -> bytes:
    """How the share of foreground is spread over the images.

    Args:
      item: the statistics.
      tallest: the highest bar to make room for, of one or several data sets.
    """
    figure = Figure(figsize=(4.2, 2.8), layout="constrained")
    axes = figure.subplots()
    values = item.share_histogram()
    axes.stairs(values, np.linspace(0, 1, len(values) + 1), fill=True, color="#5c7fa3")
    axes.axvline(item.shares.mean(), color="#222222", linestyle="--", linewidth=1.3)
    axes.set(xlim=(0, 1), ylim=(0, 1.08 * tallest))
    axes.set(xlabel="foreground, share of the image", ylabel="share of the images")
    axes.xaxis.set_major_formatter(_percent)
    axes.yaxis.set_major_formatter(_percent)
    axes.spines[["top", "right"]].set_visible(False)
    return _png(figure)


def _percent(value: float, _: object) -> str:
    """The label of a tick at a share."""
    return f"{100 * value:g} %"


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI)
    return buffer.getvalue()
