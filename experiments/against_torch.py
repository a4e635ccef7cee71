"""Times drc_jax and a plain PyTorch program of the same method side by side.

    python -m experiments.against_torch --size=small --json=small.json
    python -m experiments.against_torch --size=full --posterior_steps=4 --json=full.json

Both get the same weights and images. First the posterior energies and their gradients are held
against the PyTorch program in float64, and nothing is timed if they differ. Then the programs, each
in its own process, take their rounds in turn: prior and posterior sampling (both per Langevin step
of the whole batch), and the training iteration. The "x" columns say how many times ours it takes.
Memory is the device's peak; on a CPU the process's peak beyond what its libraries take.
Needs PyTorch: pip install -e '.[peers]'.
"""

import contextlib
import dataclasses
import functools
import json
import os
import pathlib
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import jax
from absl import flags

from configs import demo, tm_dsprites
from drc_jax import files
from drc_jax.config import to_dict
from drc_jax.errors import UserError
from experiments import cli, config_flag
from experiments.peers import rounds
from experiments.peers.programs import PARTS, Setup

_SIZES = {"full": tm_dsprites, "small": demo}
_CHECKED_IMAGES = 4  # against float64, which takes its time
_TITLES = {"prior": "prior step", "posterior": "posterior step", "train": "training iteration"}

_SIZE = flags.DEFINE_enum(
    "size", "small", list(_SIZES), "full: configs/tm_dsprites.py, 128x128; small: configs/demo.py."
)
_WHAT = flags.DEFINE_enum("what", "all", [*PARTS, "all"], "Which part to time.")
_BATCH_SIZE = flags.DEFINE_integer(
    "batch_size", 0, "Images at once; 0 for 32 (small), 4 (full, CPU) or 48 (full, GPU).",
    lower_bound=0,
)  # fmt: skip
_POSTERIOR_STEPS = flags.DEFINE_integer(
    "posterior_steps", 0, "Langevin steps of the posterior chains, alone and in the training "
    "iteration; 0 for the config's, but 4 at full size on a CPU.", lower_bound=0,
)  # fmt: skip
_NUM_DEVICES = flags.DEFINE_integer(
    "num_devices", 1, "Devices for drc_jax; on a CPU that many are made of its cores.",
    lower_bound=1,
)  # fmt: skip
_IMAGES_AT_ONCE = flags.DEFINE_integer(
    "images_at_once", 0, "Images that each of drc_jax's devices takes at once; 0 for its share.",
    lower_bound=0,
)  # fmt: skip
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Timed rounds of each program.", lower_bound=1)
_COMPILE = flags.DEFINE_bool("compile", True, "Also time the peer through torch.compile.")
_DEVICE = flags.DEFINE_enum("device", "auto", ["auto", "cpu", "gpu"], "Where both run.")
_PRECISION = flags.DEFINE_enum(
    "precision", "float32", list(rounds.LIMITS), "Of the products in the networks of both."
)
_JSON = flags.DEFINE_string("json", "", "File for the figures; empty for none.")


_say = functools.partial(print, flush=True)  # the next line may be minutes away


def main(argv: Sequence[str]) -> None:
    """Checks, times, prints and stores."""
    del argv
    output = files.check_writable_file(_JSON.value) if _JSON.value else None
    if find_spec("torch") is None:
        raise UserError("PyTorch is not installed, which is half of this: pip install torch")
    # Several programs share the device; none may take it whole.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    platform = jax.default_backend() if _DEVICE.value == "auto" else _DEVICE.value
    setup, full_steps = _setup(platform)
    report = _measure(setup, full_steps)
    if output:
        files.write_atomically(output, (json.dumps(report, indent=2) + "\n").encode())
        print(f"figures are in {output}")


def _setup(platform: str) -> tuple[Setup, int]:
    """What the flags ask for, without weights; and the posterior steps of the unchanged config."""
    config = config_flag.train_config(_SIZES[_SIZE.value].get_config())
    crowded = _SIZE.value == "full" and platform == "cpu"
    full_steps = config.sampler.posterior_steps
    steps = _POSTERIOR_STEPS.value or (4 if crowded else full_steps)
    config = dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, precision=_PRECISION.value),
        sampler=dataclasses.replace(config.sampler, posterior_steps=steps),
        batch_size=_BATCH_SIZE.value or (4 if crowded else config.batch_size),
        num_devices=_NUM_DEVICES.value,
        images_at_once=_IMAGES_AT_ONCE.value,
    )
    return Setup(config, pathlib.Path(), platform), full_steps


def _measure(setup: Setup, full_steps: int) -> dict[str, Any]:
    """Runs the comparison, prints it and returns it."""
    config, side = setup.config, setup.config.model.image_size
    programs = ["drc_jax", "torch", "torch channels-last"]
    programs += ["torch.compile"] if _COMPILE.value else []
    _say(
        f"{side}x{side}, batch {config.batch_size}, {config.model.precision}; training iterations "
        f"with {config.sampler.posterior_steps} of {full_steps} posterior steps and "
        f"{config.sampler.prior_steps} prior steps"
    )
    results: dict[str, list[rounds.Result]] = {}
    with tempfile.TemporaryDirectory() as folder:
        # First runs are cold ones, and trip over nothing that an interrupted compiler left.
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
        setup = dataclasses.replace(setup, weights=pathlib.Path(folder) / "weights.npz")
        with contextlib.closing(rounds.Contestant("referee", setup)) as referee:
            expected = referee.call("gradient", min(config.batch_size, _CHECKED_IMAGES))
        with rounds.contestants(programs, setup, _say) as runners:
            for runner in runners:
                _say(f"  {runner.name}: {runner.description}")
            errors = rounds.check(runners, expected, config.model.precision, _say)
            runners = [runner for runner in runners if runner.name in errors]
            for name, error in errors.items():
                _say(f"  {name}: off float64 by {error['energy']:.1e} in the energy, "
                      f"{error['gradient']:.1e} in its gradient")  # fmt: skip
            for part in PARTS if _WHAT.value == "all" else (_WHAT.value,):
                with cli.progress_bar(_TITLES[part], "run") as progress:
                    results[part] = rounds.race(runners, part, _ROUNDS.value, _say, progress)
                _say(rounds.table(results[part], _TITLES[part]))
            descriptions = {runner.name: runner.description for runner in runners}
    guess = rounds.extrapolated(results, setup, full_steps)
    for name, seconds in guess.items():
        _say(f"{name}: {seconds:.1f} s per iteration with all {full_steps} posterior steps, "
              "extrapolated, not measured")  # fmt: skip
    return {
        "programs": descriptions,
        "config": to_dict(config),
        "errors_against_float64": errors,
        "results": [dataclasses.asdict(r) for part in results.values() for r in part],
        "ratios": {part: rounds.ratios(of_part) for part, of_part in results.items()},
        "extrapolated_iteration_seconds": guess,
    }


if __name__ == "__main__":
    cli.run(main)
