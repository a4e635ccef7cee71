"""One HTML file in which a chain can be played: no other file and no network is needed."""

import json

from drc_jax.app import markup
from drc_jax.app.recording import CURVES, PANELS, Recording
from drc_jax.app.strips import encoded_strip, strip
from drc_jax.evaluation import page

_BODY = """
<style>
{style}
.drc .bar {{ display: flex; flex-wrap: wrap; gap: .5em 1em; align-items: center; margin: 1em 0;
  max-width: 780px; }}
.drc .bar input {{ flex: 1 1 12em; accent-color: #4f7cff; min-width: 0; }}
.drc .bar button {{ font: inherit; padding: .35em 1em; min-width: 5.5em; cursor: pointer; }}
.drc .bar output {{ min-width: 10em; font-variant-numeric: tabular-nums; }}
.drc canvas {{ display: block; width: 100%; height: auto; border-radius: 4px;
  image-rendering: pixelated; background: #808080; }}
</style>
<div class="drc">
<p>{about}</p>
<noscript><p>Without JavaScript only the end is shown.</p>
<img alt="{title}" src="{last}"></noscript>
<div class="bar"><button type="button" id="play">Play</button>
<input type="range" id="step" min="0" max="{most}" value="{most}" aria-label="frame">
<output id="told" for="step"></output></div>
<div class="grid large">{canvases}</div>
{charts}
</div>
<script type="application/json" id="data">{data}</script>
<script>
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const find = (selector) => [...document.querySelectorAll(selector)];
const [slider, told, play] = ["step", "told", "play"].map((id) => document.getElementById(id));
const frames = data.frames.map((source) => Object.assign(new Image(), {{ src: source }}));
const last = frames.length - 1;
const short = (y) => y === null ? "" : Number(y.toPrecision(4)).toString();
let timer = null;
function show(n) {{
  slider.value = n;
  told.textContent = `step ${{data.steps[n]}} of ${{data.steps[last]}}`;
  find("canvas").forEach((canvas, k) => {{
    const side = canvas.width;
    canvas.getContext("2d").drawImage(frames[n], k * side, 0, side, side, 0, 0, side, side);
  }});
  const share = data.steps[n] / data.steps[last];
  find(".mark").forEach((line) => {{
    const x = data.left + share * (data.width - data.left);
    line.setAttribute("x1", x);
    line.setAttribute("x2", x);
  }});
  find(".chart b").forEach((value, k) => {{
    value.textContent = `${{short(data.curves[k][n])}} at step ${{data.steps[n]}}`;
  }});
}}
function stop() {{
  clearInterval(timer);
  timer = null;
  play.textContent = "Play";
}}
play.addEventListener("click", () => {{
  if (timer !== null) return stop();
  let n = Number(slider.value) === last ? 0 : Number(slider.value);
  show(n);
  play.textContent = "Pause";
  timer = setInterval(() => {{
    n += 1;
    show(n);
    if (n === last) stop();
  }}, {milliseconds});
}});
slider.addEventListener("input", () => {{ stop(); show(Number(slider.value)); }});
Promise.allSettled(frames.map((frame) => frame.decode())).then(() => show(last));
</script>
"""

MILLISECONDS = 120
"""How long a frame is shown."""


def player(recording: Recording, picture: int = 0) -> str:
    """A page that plays the chain that a picture keeps, with its curves; see `page.page`."""
    shots, side = recording.shots(picture), recording.squares.shape[1]
    names = ("observed", *PANELS)
    canvases = [
        f'<figure><canvas width="{side}" height="{side}" role="img" aria-label="{name}"></canvas>'
        f"<figcaption>{name}</figcaption></figure>"
        for name in names
    ]
    curves = recording.curves(picture)
    sources = [
        markup.data_uri(encoded_strip(strip(recording, picture, shot)), "image/webp")
        for shot in shots
    ]
    data = {
        "frames": sources,
        "steps": [shot.step for shot in shots],
        "curves": [
            [value if abs(value) < float("inf") else None for value in values]
            for _, values in curves.values()
        ],
        "left": markup.LEFT,
        "width": markup.WIDTH,
    }
    title = f"Regions competing for {recording.names[picture]}"
    body = _BODY.format(
        style=markup.STYLE,
        title=markup.text(title),
        about=markup.text(
            f"Langevin dynamics on the posterior energy, {shots[-1].step} steps at "
            f"{side}x{side} pixels. White in the mask: the foreground's mixing weight; in the "
            "responsibilities: how much of the observed pixel it explains."
        ),
        last=sources[-1],
        most=len(shots) - 1,
        canvases="".join(canvases),
        charts=markup.charts({CURVES[name]: curve for name, curve in curves.items()}, 0),
        data=json.dumps(data).replace("<", "\\u003c"),
        milliseconds=MILLISECONDS,
    )
    return page.page(title, [page.heading(title, 1), body])
