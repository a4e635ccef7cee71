"""Pieces of HTML with pictures and curves inside: nothing is written to a disk to be shown."""

import base64
import html
import io
import math
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from drc_jax.data.pictures.files import printable

STYLE = """
.drc { color: var(--body-text-color, inherit); container-type: inline-size; }
.drc h4 { margin: .9em 0 .35em; font-size: .95em; font-weight: 600; overflow-wrap: anywhere;
  color: inherit; }
.drc p { margin: .4em 0; max-width: 46em; overflow-wrap: anywhere; }
.drc .grid { display: grid; gap: 10px; margin: 0 0 .6em;
  grid-template-columns: repeat(var(--columns), minmax(0, 1fr)); --columns: var(--wide, 6); }
.drc .large { --wide: 3; max-width: 780px; }
.drc figure { margin: 0; min-width: 0; }
.drc figcaption { font-size: .85em; line-height: 1.25; margin: .25em 0 0; overflow-wrap: anywhere;
  color: inherit; opacity: .8; }
.drc figure img { display: block; width: 100%; height: auto; border-radius: 4px; margin: 0;
  background: #808080; }
.drc img.pixels { image-rendering: pixelated; }
.drc img.clear { background: repeating-conic-gradient(#999 0 25%, #666 0 50%) 0 / 16px 16px; }
.drc .charts { display: grid; gap: 12px 18px; max-width: 1100px;
  grid-template-columns: repeat(auto-fit, minmax(min(9.5em, 100%), 1fr)); }
.drc svg { display: block; width: 100%; height: auto; overflow: visible; }
.drc svg text { font-size: 10px; fill: currentColor; opacity: .75; }
.drc svg .axis { stroke: currentColor; opacity: .3; fill: none; vector-effect: non-scaling-stroke; }
.drc svg .line { stroke: #4f7cff; stroke-width: 1.6; fill: none; stroke-linejoin: round;
  vector-effect: non-scaling-stroke; }
.drc svg .mark { stroke: #e8792b; stroke-width: 1.2; vector-effect: non-scaling-stroke; }
.drc .scroll { overflow-x: auto; }
.drc .scroll img { max-width: max(100%, 560px); border-radius: 4px; }
.drc p.problem { color: #d8463a; }
@container (max-width: 34em) {
  .drc .grid { --columns: 3; gap: 6px; }
  .drc .two { --columns: 2; }
  .drc .charts { grid-template-columns: repeat(2, minmax(0, 1fr)); }
}
"""
"""For everything here; colours come from the page around it, light or dark."""

WIDTH, HEIGHT = 176, 84  # of a chart, in its own units
LEFT, _TOP, _BOTTOM = 40, 8, 14
_POINTS = 400  # more are not seen


def text(plain: str) -> str:
    """Plain text, of anybody's making, as HTML in which nothing is markup or a template."""
    escaped = html.escape(printable(plain))
    for character in "${}`":
        escaped = escaped.replace(character, f"&#{ord(character)};")
    return escaped


def paragraph(plain: str, kind: str = "") -> str:
    """A paragraph of plain text, with a class."""
    return f'<p class="{kind}">{text(plain)}</p>' if plain else ""


def heading(plain: str) -> str:
    """A small heading of plain text."""
    return f"<h4>{text(plain)}</h4>"


def block(*pieces: str) -> str:
    """Pieces of HTML as one that ``STYLE`` applies to."""
    return f'<div class="drc">{"".join(pieces)}</div>'


def data_uri(content: bytes, media: str) -> str:
    """A file as an address that holds it."""
    return f"data:{media};base64,{base64.b64encode(content).decode()}"


def encoded(picture: np.ndarray) -> bytes:
    """PNG of uint8 [H, W, 3 or 4]."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG")
    return buffer.getvalue()


def figure(picture: np.ndarray, caption: str, kind: str = "pixels") -> str:
    """A picture uint8 [H, W, 3 or 4] over its caption, as wide as there is room.

    ``kind`` is ``pixels``, ``photo`` or, with transparency, ``clear``.
    """
    address, label = data_uri(encoded(picture), "image/png"), text(caption)
    return (
        f'<figure><img class="{kind}" src="{address}" alt="{label}">'
        f"<figcaption>{label}</figcaption></figure>"
    )


def grid(figures: Sequence[str], kind: str = "", columns: int = 0) -> str:
    """Figures side by side: ``large`` three by three, ``two`` by two where it is narrow."""
    style = f' style="--wide: {columns}"' if columns else ""
    return f'<div class="grid {kind}"{style}>{"".join(figures)}</div>'


def charts(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    mark: float | None = None,
    until: float | None = None,
) -> str:
    """Curves side by side, each with an axis of its own.

    Args:
      curves: by title, x and y.
      mark: an x to be marked, whose y is told in the titles; None for the last.
      until: where the axes end; None for the last x.
    """
    drawn = [chart(title, xs, ys, mark, until) for title, (xs, ys) in curves.items()]
    return f'<div class="charts">{"".join(drawn)}</div>'


def chart(
    title: str,
    xs: Sequence[float],
    ys: Sequence[float],
    mark: float | None = None,
    until: float | None = None,
) -> str:
    """One curve as inline SVG; gaps where y is no finite number."""
    pairs = [(x, y) for x, y in zip(xs, ys, strict=True) if math.isfinite(y)]
    told = ""
    if pairs:
        x, y = pairs[-1] if mark is None else min(pairs, key=lambda pair: abs(pair[0] - mark))
        told = f"{short(y)} at step {short(x)}"
    label = text(title)
    return (
        f'<figure class="chart"><figcaption>{label}<br><b>{told}</b></figcaption>'
        f"{_drawn(label, pairs, mark, until)}</figure>"
    )


def _drawn(
    label: str, pairs: Sequence[tuple[float, float]], mark: float | None, until: float | None
) -> str:
    if not pairs:
        return ""
    stride = math.ceil(len(pairs) / _POINTS)
    pairs = [*pairs[:-1:stride], pairs[-1]]
    low, high = _limits([y for _, y in pairs])
    more = "+" if any(y > high for _, y in pairs) else ""
    first = pairs[0][0]
    last = max(pairs[-1][0] if until is None else until, first + 1)

    def across(x: float) -> float:
        return LEFT + (x - first) / (last - first) * (WIDTH - LEFT)

    def down(y: float) -> float:
        share = (min(max(y, low), high) - low) / (high - low)
        return _TOP + (1 - share) * (HEIGHT - _TOP - _BOTTOM)

    floor = HEIGHT - _BOTTOM
    points = " ".join(f"{across(x):.1f},{down(y):.1f}" for x, y in pairs)
    line = ""
    if mark is not None:
        place = f"{across(min(max(mark, first), last)):.1f}"
        line = f'<line class="mark" x1="{place}" x2="{place}" y1="{_TOP}" y2="{floor}"/>'
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">'
        f'<path class="axis" d="M{LEFT} {_TOP}V{floor}H{WIDTH}"/>'
        f'<text x="{LEFT - 4}" y="{_TOP + 5}" text-anchor="end">{short(high)}{more}</text>'
        f'<text x="{LEFT - 4}" y="{floor}" text-anchor="end">{short(low)}</text>'
        f'<text x="{LEFT}" y="{HEIGHT - 2}">{short(first)}</text>'
        f'<text x="{WIDTH}" y="{HEIGHT - 2}" text-anchor="end">{short(last)}</text>'
        f'<polyline class="line" points="{points}"/>{line}</svg>'
    )


def _limits(ys: Sequence[float]) -> tuple[float, float]:
    """The range drawn; the first twentieth does not count at its upper end, as of a fresh chain."""
    low, high = min(ys), max(ys[len(ys) // 20 :])
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def short(number: float) -> str:
    """A number in few characters."""
    if number == int(number) and abs(number) < 1e5:
        return str(int(number))
    return str(round(number)) if 1e4 <= abs(number) < 1e6 else f"{number:.4g}"
