"""The statistics of data sets side by side: one HTML page that needs no other file, and a JSON."""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from drc_jax import files
from drc_jax.analysis import plots
from drc_jax.analysis.statistics import CHANNELS, REGIONS, Statistics, intersection
from drc_jax.evaluation import page

HTML, JSON = "analysis.html", "analysis.json"

_PERCENTILES = (0, 5, 25, 50, 75, 95, 100)

_NUMBERS = """\
Foreground share: the part of an image's pixels that is foreground. The two floors are the scores
(IoU / Dice, x100, mean over images) of predictions that look at no image: every pixel is
foreground, and the pixels that are foreground in more than half of the masks of the split named. A
floor from a split's own masks is a little too high. A model must beat both floors to have found
anything. Colour overlap: the part that the colour histograms of foreground and background have in
common, 0 to 100 %; the lower, the easier the two are told apart by colour alone."""
_EXAMPLES = """\
Pictures from the beginning to the end of the split, as they are packed, above what their masks
leave of them. Look whether the masks fit."""
_COLOUR = """\
How the values 0 (dark) to 255 (bright) of each channel are spread over the foreground's pixels
(filled) and over the background's (dark line), all images together; each curve sums to 100 %.
The scales are the same for all data sets. Where pure black or white goes beyond the scale, its
share is written beside it. Overlap is the part that the two curves have in common."""
_HEAT = """\
All masks summed and divided by the maximum: bright where most objects are. A small bright blob
means that objects are centred and alike in shape, so that a constant mask scores well; an even
field means that they lie anywhere. Each map has the resolution of its own data set."""
_SHARE = """\
How many of the images have which share of foreground; the dashed line is the mean. The scales are
the same for all data sets. Images close to 0 or 100 % have hardly anything to separate."""
_COMPARISON = """\
Histogram intersection, 100 % for the same colours and 0 % for none in common, as the mean over the
three channels. The paper's appendix G.1 reads likeness here and in the heat maps as a reason why a
model trained on one data set does well on another."""


def write(results: Mapping[str, Statistics], folder: pathlib.Path) -> None:
    """Writes ``analysis.json`` and ``analysis.html``, each at once and whole.

    Args:
      results: the statistics by name, at least one.
      folder: where to; it must exist.
    """
    text = json.dumps(to_json(results), allow_nan=False, ensure_ascii=False) + "\n"
    files.write_atomically(folder / JSON, text.encode())
    files.write_atomically(folder / HTML, to_html(results).encode())


def to_json(results: Mapping[str, Statistics]) -> dict[str, Any]:
    """The numbers as JSON values; shares and scores are in [0, 1].

    ``sets`` has an object for every name; ``colour_intersection`` a matrix of the names in order
    for ``foreground`` and for ``background``.
    """
    return {
        "sets": {name: _set_json(item) for name, item in results.items()},
        "colour_intersection": {
            region: _matrix(results, region).tolist() for region in ("foreground", "background")
        },
    }


def to_html(results: Mapping[str, Statistics]) -> str:
    """The page; its pictures are part of the text."""
    title = "Data analysis: " + ", ".join(results)
    sets = list(results.values())
    top = max(plots.colour_top(item) for item in sets)
    tallest = max(item.share_histogram().max() for item in sets)

    def section(heading: str, caption: str, draw: Callable[[Statistics], bytes]) -> list[str]:
        drawn = [page.figure(draw(item), name) for name, item in results.items()]
        return [page.heading(heading), page.paragraph(caption), page.row(drawn)]

    def table(region: str) -> str:
        rows = zip(results, _matrix(results, region), strict=True)
        return page.table([["", *results], *([name, *map(_percent, row)] for name, row in rows)])

    numbers = [[name, *_summary(item).values()] for name, item in results.items()]
    body = [
        page.heading(title, 1),
        page.table([["data set", *_summary(sets[0])], *numbers]),
        page.paragraph(_NUMBERS),
        *section("Examples", _EXAMPLES, plots.examples),
        *section("Colours", _COLOUR, lambda item: plots.colours(item, top)),
        *section("Mask heat map", _HEAT, plots.heat_map),
        *section("Foreground share", _SHARE, lambda item: plots.shares(item, tallest)),
    ]
    if len(results) > 1:
        body += [page.heading("Colours compared between data sets"), page.paragraph(_COMPARISON)]
        for region in REGIONS:
            body += [page.heading(f"{region.capitalize()}s", 3), table(region)]
    return page.page(title, body)


def summary(results: Mapping[str, Statistics]) -> str:
    """The page's table of numbers as text for a terminal, a block per data set."""
    lines = []
    for name, item in results.items():
        lines.append(name)
        lines += [f"  {label:<24} {value}" for label, value in _summary(item).items()]
    return "\n".join(lines)


def _summary(item: Statistics) -> dict[str, str]:
    """The most important numbers by heading."""
    low, high = np.percentile(item.shares, (5, 95))
    floors = {
        name: f"{100 * score.iou:.1f} / {100 * score.dice:.1f}"
        for name, score in item.floors.items()
    }
    return {
        "split": item.split,
        "images": str(item.num_images),
        "side": f"{item.image_size} px",
        "foreground share": _percent(item.shares.mean()),
        "5th to 95th percentile": f"{_percent(low)} to {_percent(high)}",
        "floor: all foreground": floors["all_foreground"],
        "floor: mean mask": f"{floors['mean_mask']} ({item.mean_mask_split})",
        "colour overlap": _percent(item.colour_overlap),
    }


def _set_json(item: Statistics) -> dict[str, Any]:
    percentiles = np.percentile(item.shares, _PERCENTILES)
    return {
        "path": item.path,
        "split": item.split,
        "num_images": item.num_images,
        "image_size": item.image_size,
        "fingerprint": item.fingerprint,
        "foreground_share": {
            "mean": float(item.shares.mean()),
            "percentiles": dict(zip(map(str, _PERCENTILES), percentiles.tolist(), strict=True)),
            "histogram": item.share_histogram().tolist(),
            "num_empty": int(np.count_nonzero(item.shares == 0)),
        },
        "floors": {name: dataclasses.asdict(score) for name, score in item.floors.items()},
        "mean_mask_split": item.mean_mask_split,
        "colour_overlap": item.colour_overlap,
        "histograms": {
            region: dict(zip(CHANNELS, getattr(item, region).tolist(), strict=True))
            for region in REGIONS
        },
        "heat_map": np.round(item.heat_map, 4).tolist(),
    }


def _matrix(results: Mapping[str, Statistics], region: str) -> np.ndarray:
    """Histogram intersections of every two data sets, float64 [sets, sets]."""
    histograms = [getattr(item, region) for item in results.values()]
    return np.array([[intersection(a, b) for b in histograms] for a in histograms])


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
