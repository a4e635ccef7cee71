"""Times the samplers and the training step of a config on random images.

    python -m experiments.benchmark --config=configs/tm_dsprites.py --what=all --json=speed.json
    python -m experiments.benchmark --config=configs/birds.py --config.batch_size=4 --what=posterior

Reports compile time, seconds per Langevin step (per iteration for training; minimum and median of
several runs, each blocked until ready), images x steps per second, the analytic FLOPs of the
direct form per second, and memory.
"""

import dataclasses
import json
import pathlib
from collections.abc import Sequence

import jax
from absl import flags
from tqdm import tqdm

from drc_jax import benchmark
from drc_jax.errors import UserError
from drc_jax.panels import write_atomically
from experiments import cli, config_flag

_CONFIG = config_flag.define()
_WHAT = flags.DEFINE_enum("what", "all", [*benchmark.PARTS, "all"], "Which part to time.")
_JSON = flags.DEFINE_string("json", "", "File for the figures; empty for none.")
_REPEATS = flags.DEFINE_integer("repeats", 5, "Timed runs of each part.", lower_bound=1)


def main(argv: Sequence[str]) -> None:
    """Times, prints and stores."""
    del argv
    config = config_flag.train_config(_CONFIG.value)
    output = pathlib.Path(_JSON.value) if _JSON.value else None
    if output and not output.resolve().parent.is_dir():
        raise UserError(f"--json={output}: the folder {output.resolve().parent} does not exist")
    parts = benchmark.PARTS if _WHAT.value == "all" else (_WHAT.value,)
    device = jax.devices()[0]
    print(f"{device.device_kind} ({device.platform}), batch {config.batch_size}")
    print(f"{'':<10}{'compile':>9}{'min':>11}{'median':>11}{'images*steps/s':>16}{'GFLOP/s':>10}"
          f"{'memory':>11}")  # fmt: skip
    timings = []
    for part in tqdm(parts, desc="timing", leave=False):
        timing = benchmark.benchmark(config, part, repeats=_REPEATS.value)
        timings.append(timing)
        memory = timing.peak_bytes or timing.program_bytes
        tqdm.write(
            f"{part:<10}{timing.compile_seconds:>7.1f} s{1e3 * timing.seconds_min:>8.1f} ms"
            f"{1e3 * timing.seconds_median:>8.1f} ms{timing.image_steps_per_second:>16.1f}"
            f"{timing.gflops_per_second:>10.1f}"
            + (f"{memory / 2**20:>7.0f} MiB" if memory else f"{'-':>11}")
        )
    if output:
        report = {
            "device": device.device_kind,
            "platform": device.platform,
            "jax": jax.__version__,
            "config": _CONFIG.value.to_dict(),
            "timings": [dataclasses.asdict(timing) for timing in timings],
        }
        write_atomically(output, (json.dumps(report, indent=2) + "\n").encode())
        print(f"figures are in {output}")


if __name__ == "__main__":
    cli.run(main)
