"""Scores a run after more and more Langevin steps: how many do new images need, and chains?

    python -m experiments.steps --workdir=runs/demo --output=steps.png
    python -m experiments.steps --model=flowers17 --data=data/flowers17_32 --steps=20,50 \\
        --starts=prior --chains=1,2,4,8 --mask_from=gamma --output=chains.png
    python -m experiments.steps --workdir=runs/photos --steps=1,10,100,300 --starts=prior \\
        --output=steps.png

Prints a table of fixed IoU and draws it. --starts are where chains begin, as --start of
experiments.evaluate; `encoder` needs a run that was trained with --config.encoder.enabled=True.
Masks are used for the scores alone.
"""

import itertools
import pathlib
from collections.abc import Sequence

from absl import flags
from tqdm import tqdm

from drc_jax import files
from drc_jax.analysis import steps
from drc_jax.data.packed.format import open_split
from drc_jax.data.training_images import check_size, data_folder
from drc_jax.errors import UserError
from drc_jax.model.posterior import STARTS
from experiments import cli

_WORKDIR = flags.DEFINE_string("workdir", None, "The run's folder.")
_MODEL = cli.model_flag()
_OUTPUT = flags.DEFINE_string("output", None, "PNG file to write.", required=True)
_STEPS = flags.DEFINE_list("steps", "1,2,5,10,20,50,100,200", "Numbers of steps.")
_STARTS = flags.DEFINE_list("starts", ",".join(STARTS), "Where chains begin.")
_CHAINS = flags.DEFINE_list("chains", "1", "Numbers of chains per image; regions are averaged.")
_MASK_FROM = cli.mask_flag()
_SPLIT = flags.DEFINE_string("split", "test", "Which split of the data to score.")
_DATA = flags.DEFINE_string("data", "", "Folder of packed data; empty takes the run's own.")
_SEED = cli.seed_flag()


def main(argv: Sequence[str]) -> None:
    """Scores, prints and draws."""
    del argv
    cli.cache_compiled_programs()
    numbers, chains = _numbers("steps", _STEPS.value), _numbers("chains", _CHAINS.value)
    output = files.check_writable_file(_OUTPUT.value, ".png")
    run = cli.open_run(_WORKDIR.value, _MODEL.value)
    if not run.sampler_steps(1):
        raise UserError(f"{run.method.name} has no sampler, so no steps to score")
    for start in _STARTS.value:
        run.check_start(start)
    folder = pathlib.Path(_DATA.value) if _DATA.value else data_folder(run.config)
    split = open_split(folder, _SPLIT.value, verify=True)
    check_size(run.config, split)
    run.sampler_chains(max(chains))
    options = {"mask_from": run.mask_source(_MASK_FROM.value)}
    wanted = list(itertools.product(_STARTS.value, chains, numbers))
    points = [
        steps.score(run, split, start, number, _SEED.value, num_chains=count, **options)
        for start, count, number in tqdm(wanted, unit="score", desc="scoring")
    ]
    print(steps.table(points))
    files.write_atomically(output, steps.curves(points))
    print(f"wrote {output}: {len(split)} images after {run.step} iterations")


def _numbers(flag: str, texts: Sequence[str]) -> list[int]:
    """The numbers of a flag, sorted.

    Raises:
      UserError: if they are none, or below 1.
    """
    try:
        numbers = sorted({int(text) for text in texts})
    except ValueError as error:
        raise UserError(f"--{flag} must be numbers with commas between: {error}") from None
    if not numbers or numbers[0] < 1:
        raise UserError(f"--{flag} must be numbers of at least 1, got {texts}")
    return numbers


if __name__ == "__main__":
    cli.run(main)
