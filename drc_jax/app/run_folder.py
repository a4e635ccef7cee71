"""A training run as it stands on disk: its curves, and the pictures it has drawn."""

import json
import pathlib
import re

from drc_jax.app import markup
from drc_jax.runs.workdir import LOG_FILE

_IMAGES = "images"
_PICTURE = re.compile(r"step_(\d+)\.png")
_MOST_BYTES = 64 << 20  # of a log that is read
_MOST_PICTURE_BYTES = 32 << 20
_FIRST = ("loss", "generator_loss", "ebm_loss")
_TIME = ("iterations_per_second", "images_per_second")

Curves = dict[str, tuple[list[float], list[float]]]


def curves(workdir: pathlib.Path) -> Curves:
    """What a run has logged, by name: steps and values; losses first, speed last.

    A line that cannot be read, as one that is just being written, is left out; of a log beyond
    64 MB the end is read.
    """
    found: Curves = {}
    try:
        with (workdir / LOG_FILE).open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _MOST_BYTES))
            lines = file.read().splitlines()
    except OSError:
        return {}
    for line in lines:
        try:
            values = json.loads(line)
            step = float(values.pop("step"))
            pairs = [(name, float(value)) for name, value in values.items()]
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            continue
        for name, value in pairs:
            xs, ys = found.setdefault(name, ([], []))
            xs.append(step)
            ys.append(value)

    def place(name: str) -> tuple[int, str]:
        return (_FIRST.index(name) - 10 if name in _FIRST else int(name in _TIME), name)

    return {name: found[name] for name in sorted(found, key=place)}


def pictures(workdir: pathlib.Path) -> dict[int, pathlib.Path]:
    """The picture grids that a run has drawn, by step, ascending."""
    try:
        paths = list((workdir / _IMAGES).iterdir())
    except OSError:
        return {}
    matches = [(_PICTURE.fullmatch(path.name), path) for path in paths]
    return dict(sorted((int(match[1]), path) for match, path in matches if match))


def stamp(workdir: pathlib.Path) -> tuple[int, ...]:
    """Numbers that change when there is something new to see: looking at these is cheap."""
    found = []
    for path in (workdir / LOG_FILE, workdir / _IMAGES):
        try:
            status = path.stat()
            found += [status.st_mtime_ns, status.st_size]
        except OSError:
            found += [0, 0]
    return tuple(found)


def view(workdir: pathlib.Path, back: int = 0) -> tuple[str, int]:
    """A run's newest pictures and its curves.

    Args:
      workdir: the run's folder.
      back: how many pictures before the newest.

    Returns:
      HTML, and the number of pictures there are.
    """
    drawn, logged = pictures(workdir), curves(workdir)
    pieces = []
    if not logged and not drawn:
        pieces.append(markup.paragraph(f"Nothing is logged in {workdir} yet."))
    if drawn:
        steps = list(drawn)
        step = steps[max(0, len(steps) - 1 - back)]
        try:
            with drawn[step].open("rb") as file:
                content = file.read(_MOST_PICTURE_BYTES)
            address = markup.data_uri(content, "image/png")
            label = f"training images after {step} iterations"
            pieces += [
                markup.heading(label),
                f'<div class="scroll" tabindex="0"><img src="{address}" alt="{label}"></div>',
            ]
        except OSError:
            pass  # replaced or removed just now; the next look finds another
    if logged:
        last = max(xs[-1] for xs, _ in logged.values())
        pieces += [markup.heading(f"logged up to step {last:.0f}"), markup.charts(logged)]
    return markup.block(*pieces), len(drawn)
