"""What ``experiments.benchmark`` prints and stores: tables, JSON, and two reports side by side."""

import dataclasses
import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax

from drc_jax.benchmark.breakdown import Breakdown
from drc_jax.benchmark.timing import Memory, Timing
from drc_jax.config import differing_fields
from drc_jax.errors import UserError


def report(
    config: Mapping[str, Any],
    timings: Iterable[Timing],
    breakdown: Breakdown | None,
    memory: Mapping[str, Memory],
) -> dict[str, Any]:
    """All figures as what JSON can hold, with the device and the config they belong to."""
    device = jax.devices()[0]
    return {
        "device": device.device_kind,
        "platform": device.platform,
        "jax": jax.__version__,
        "config": config,
        "timings": [dataclasses.asdict(timing) for timing in timings],
        "breakdown": dataclasses.asdict(breakdown) if breakdown else None,
        "memory": {part: dataclasses.asdict(found) for part, found in memory.items()},
    }


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.4g} ms"


def _megabytes(count: float | None) -> str:
    return "-" if count is None else f"{count / 2**20:.4g} MiB"


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as lines: the first column to the left, the others to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    )


def timing_table(timings: Iterable[Timing]) -> str:
    """Times, rates and memory by part."""
    rows: list[tuple[str, ...]] = [
        ("", "compile", "min", "median", "images*steps/s", "GFLOP/s", "memory")
    ]
    for timing in timings:
        row = (
            timing.what,
            f"{timing.compile_seconds:.1f} s",
            _milliseconds(timing.seconds_min),
            _milliseconds(timing.seconds_median),
            f"{timing.image_steps_per_second:.1f}",
            "-" if timing.gflops_per_second is None else f"{timing.gflops_per_second:.1f}",
            _megabytes(timing.peak_bytes or timing.program_bytes),
        )
        rows.append(row)
    return aligned(rows)


def memory_table(memory: Mapping[str, Memory]) -> str:
    """Compiled programs' memory by part."""
    rows: list[tuple[str, ...]] = [("", "arguments", "results", "temporaries", "total")]
    for part, found in memory.items():
        sizes = (found.what_comes_in, found.what_goes_out, found.temporaries, found.total)
        rows.append((part, *map(_megabytes, sizes)))
    return aligned(rows)


def layer_table(breakdown: Breakdown) -> str:
    """A ``Breakdown`` as lines: times and shares, and how near each layer comes to its bound."""
    header = ("layer", "", "time", "share", "direct GFLOP", "GFLOP/s", "moved", "bound", "reached")
    rows: list[tuple[str, ...]] = [header]
    whole = breakdown.step_seconds
    for layer in breakdown.layers:
        rows.append(
            (
                layer.name,
                f"x{layer.count}",
                _milliseconds(layer.seconds),
                f"{layer.seconds / whole:.1%}",
                f"{layer.flops / 1e9:.3g}",
                f"{layer.flops / layer.seconds / 1e9:.4g}",
                _megabytes(layer.bytes),
                _milliseconds(layer.bound_seconds),
                f"{layer.bound_seconds / layer.seconds:.0%}",
            )
        )
    parts = sum(layer.seconds for layer in breakdown.layers)
    flops = sum(layer.flops for layer in breakdown.layers)
    bound = sum(layer.bound_seconds for layer in breakdown.layers)
    rows.append(("sum of the layers", "", _milliseconds(parts), f"{parts / whole:.1%}",
                 f"{flops / 1e9:.3g}", f"{flops / parts / 1e9:.4g}",
                 _megabytes(sum(layer.bytes for layer in breakdown.layers)),
                 _milliseconds(bound), f"{bound / parts:.0%}"))  # fmt: skip
    rows.append(("whole step", "", _milliseconds(whole), "100.0%", "",
                 f"{flops / whole / 1e9:.4g}", "", "", f"{bound / whole:.0%}"))  # fmt: skip
    device = breakdown.device
    copies = ", ".join(f"{r / 1e9:.3g} ({size / 2**20:.3g} MiB)" for size, r in device.copies)
    return (
        f"{aligned(rows)}\nmeasured in the same run: matrix products "
        f"{device.flops_per_second / 1e9:.4g} GFLOP/s; copying, GB/s by size of the array: {copies}"
    )


def read_report(path: pathlib.Path) -> dict[str, Any]:
    """A report that ``experiments.benchmark --json`` has written.

    Raises:
      UserError: where the file is missing or something else.
    """
    try:
        found = json.loads(path.read_text())
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError:
        raise UserError(f"{path} is not JSON; give a file of experiments.benchmark") from None
    if not isinstance(found, dict) or not {"device", "config", "timings"} <= found.keys():
        raise UserError(f"{path} is not a report of experiments.benchmark --json")
    return found


def comparison(a: Mapping[str, Any], b: Mapping[str, Any]) -> str:
    """Two reports side by side.

    Args:
      a, b: from ``read_report``.

    Returns:
      Lines: what differs between the runs besides time, then figures with ratios a / b.

    Raises:
      UserError: where they have no figure in common.
    """
    seconds = [_seconds(found) for found in (a, b)]
    memory = [_bytes(found) for found in (a, b)]
    rows: list[tuple[str, ...]] = [("", "A", "B", "A / B")]
    for (of_a, of_b), text in ((seconds, _milliseconds), (memory, _megabytes)):
        for name in [name for name in of_a if name in of_b]:
            ratio = f"{of_a[name] / of_b[name]:.2f}" if of_b[name] else "-"
            rows.append((name, text(of_a[name]), text(of_b[name]), ratio))
    if len(rows) == 1:
        raise UserError("the two reports have no figure in common; time the same parts in both")
    differences = [
        f"{name}: {a.get(name)!r} -> {b.get(name)!r}"
        for name in ("device", "platform", "jax")
        if a.get(name) != b.get(name)
    ]
    differences += differing_fields(a["config"], b["config"], "config.")
    notes = [f"  {line}" for line in differences]
    alike = ["same device, jax and config"]
    return "\n".join([*(["NOT ALIKE, A -> B:", *notes] if notes else alike), aligned(rows)])


def _seconds(found: Mapping[str, Any]) -> dict[str, float]:
    figures = {}
    for timing in found["timings"]:
        figures[f"{timing['what']}, min"] = timing["seconds_min"]
        figures[f"{timing['what']}, median"] = timing["seconds_median"]
    if breakdown := found.get("breakdown"):
        layers = breakdown["layers"]
        figures |= {f"{layer['name']} x{layer['count']}": layer["seconds"] for layer in layers}
        figures["sum of the layers"] = sum(layer["seconds"] for layer in layers)
        figures["step of the breakdown"] = breakdown["step_seconds"]
    return figures


def _bytes(found: Mapping[str, Any]) -> dict[str, float]:
    figures = {}
    for timing in found["timings"]:
        if count := timing["peak_bytes"] or timing["program_bytes"]:
            figures[f"{timing['what']}, memory"] = count
    for part, sizes in found.get("memory", {}).items():
        figures[f"{part}, temporaries"] = sizes["temporaries"]
    return figures
