"""Times the parts of a config of any method on random images.

    python -m experiments.benchmark --config=configs/tm_dsprites.py --what=all --json=speed.json
    python -m experiments.benchmark --config=configs/baselines/redo_small.py
    python -m experiments.benchmark --config=configs/birds.py --config.batch_size=4 --what=posterior
    python -m experiments.benchmark --config=configs/demo.py --what=posterior --layers
    python -m experiments.benchmark --config=configs/birds.py --memory
    python -m experiments.benchmark --compare=before.json,after.json

The parts of DRC are its two samplers and the training step, those of any other method its inference
of a block of images (segment) and the training step. Reports compile time, seconds per Langevin
step of the whole batch (per iteration for training; minimum and median of several runs, each
blocked until ready), images x steps per second, DRC's FLOPs of the direct form per second, and
memory. --layers takes DRC's posterior step apart: time of each layer forward and backward in a
loop, its share of the step, direct FLOPs, the bytes it must move, and its bound: the longer of its
FLOPs (with up-sampling convolutions at a quarter) at this device's measured rate of matrix products
and its bytes at the measured rate of copying. --memory compiles without running. config.num_devices
shares the work (not of segment), with memory per device; on a CPU,
XLA_FLAGS=--xla_force_host_platform_device_count=2 makes two devices of it. --compare prints two
reports with ratios and marks what else differs.
"""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
from absl import flags
from tqdm import tqdm

from drc_jax import files
from drc_jax.benchmark import breakdown, report, timing
from drc_jax.errors import UserError
from experiments import cli, config_flag

_CONFIG = config_flag.define(required=False)
_WHAT = flags.DEFINE_enum("what", "all", [*timing.PARTS, "all"], "Which part to time.")
_JSON = flags.DEFINE_string("json", "", "File for the figures; empty for none.")
_REPEATS = flags.DEFINE_integer("repeats", 5, "Timed runs of each part.", lower_bound=1)
_LAYERS = flags.DEFINE_bool("layers", False, "Also time the posterior step layer by layer.")
_MEMORY = flags.DEFINE_bool("memory", False, "Compile only, and tell the programs' memory.")
_COMPARE = flags.DEFINE_list("compare", [], "Two files of --json to print side by side: A,B.")


def main(argv: Sequence[str]) -> None:
    """Times, prints and stores."""
    del argv
    if _COMPARE.value:
        if len(_COMPARE.value) != 2:
            raise UserError(f"--compare takes two files, A.json,B.json; got {_COMPARE.value}")
        reports = [report.read_report(pathlib.Path(name)) for name in _COMPARE.value]
        print(report.comparison(*reports))
        return
    if _CONFIG.value is None:
        raise UserError("give --config=configs/NAME.py, or --compare=A.json,B.json")
    config = config_flag.frozen(_CONFIG.value)
    output = files.check_writable_file(_JSON.value) if _JSON.value else None
    figures = _measure(config)
    if output:
        files.write_atomically(output, (json.dumps(figures, indent=2) + "\n").encode())
        print(f"figures are in {output}")


def _measure(config: Any) -> dict[str, Any]:
    """Times what the flags ask for, prints it and returns the report."""
    num_devices = getattr(config, "num_devices", 1)
    if _LAYERS.value and num_devices > 1:
        raise UserError(
            f"--layers takes one device, got num_devices {num_devices}; set it to 1 and "
            f"batch_size to the {config.batch_size // num_devices} images that a device has"
        )
    if _LAYERS.value:
        config = config_flag.train_config(_CONFIG.value)
    parts = timing.parts_of(config) if _WHAT.value == "all" else (_WHAT.value,)
    device = jax.devices()[0]
    count = f"{num_devices} x " if num_devices > 1 else ""
    sizes = ", ".join(f"{part}: batch {timing.batch_size(config, part)}" for part in parts)
    print(f"{count}{device.device_kind} ({device.platform}), {sizes}")
    if _MEMORY.value:
        found = {part: timing.program_memory(config, part) for part in parts}
        memory = {part: of_part for part, of_part in found.items() if of_part is not None}
        print(report.memory_table(memory) if memory else "nothing is known of the memory")
        return report.report(_CONFIG.value.to_dict(), [], None, memory)
    timings, by_layer = [], None
    for part in tqdm(parts, desc="timing", leave=False):
        timings.append(timing.benchmark(config, part, repeats=_REPEATS.value))
    print(report.timing_table(timings))
    if _LAYERS.value:
        precision = config.model.precision
        rates = breakdown.measure_device(precision)
        of_step = {timed.what: timed for timed in timings}.get("posterior")
        whole = of_step or timing.benchmark(config, "posterior", repeats=_REPEATS.value)
        each = tqdm(breakdown.posterior_layers(config), desc="layers", leave=False)
        measured = tuple(breakdown.measure(layer, rates, precision) for layer in each)
        by_layer = breakdown.Breakdown(rates, whole.seconds_min, measured)
        print(report.layer_table(by_layer))
    return report.report(_CONFIG.value.to_dict(), timings, by_layer, {})


if __name__ == "__main__":
    cli.run(main)
