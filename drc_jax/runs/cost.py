"""What a run has cost, from its own records."""

import json
import pathlib
import statistics

from drc_jax.runs.workdir import LOG_FILE


def training_seconds(workdir: pathlib.Path, iterations: int) -> float | None:
    """How long a run's first iterations took, by ``metrics.jsonl``.

    Each line's speed counts for the iterations since the line before; lines without one, as the
    first after a compile, and iterations after the last line get the median of the others.
    Compiling, drawing and saving are left out.

    Args:
      workdir: a run's folder.
      iterations: how many; those of a checkpoint, which may be fewer than the lines tell of.

    Returns:
      Seconds; None where no line has a speed.
    """
    speeds: dict[int, float | None] = {}
    try:
        lines = (workdir / LOG_FILE).read_bytes().splitlines()
    except OSError:
        return None
    for line in lines:
        try:
            values = json.loads(line)
            step, speed = int(values["step"]), values.get("iterations_per_second")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            continue  # damaged; training sets such lines aside
        speeds[step] = float(speed) if isinstance(speed, int | float) and speed > 0 else None
    known = [speed for speed in speeds.values() if speed is not None]
    if not known:
        return None
    usual, total, before = statistics.median(known), 0.0, 0
    for step in sorted(speeds):
        until = min(step, iterations)
        total += (until - before) / (speeds[step] or usual)
        before = until
    return total + (iterations - before) / usual
