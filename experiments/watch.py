"""Records how the regions of a picture compete: an animation, its frames, and a page.

    python -m experiments.watch --workdir=runs/demo --input=PICTURE --output=watched
    python -m experiments.watch --model=flowers17 --input=rose.jpg --output=rose --steps=300 --gif

Writes to --output, for a picture rose.jpg: rose.webp, an animation; rose.html, one page that plays
the chain with its energies and needs no network; and frames/rose_00000.png, every frame by its
step. The chain is that of `experiments.extract` with the same --seed, up to rounding.
"""

import os
from collections.abc import Sequence

from absl import flags
from tqdm import tqdm

from drc_jax.app import chains, pictures, watch
from drc_jax.errors import UserError
from drc_jax.evaluation.cutouts import CROPS
from experiments import cli

_WORKDIR = flags.DEFINE_string("workdir", None, "The run's folder.")
_MODEL = cli.model_flag()
_INPUT = flags.DEFINE_string("input", None, "A picture.", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "Folder for the recording.", required=True)
_STEPS = flags.DEFINE_integer(
    "steps",
    0,
    "Langevin steps; 0 takes the config's.",
    lower_bound=0,
    upper_bound=chains.MOST_STEPS,
)
_EVERY = flags.DEFINE_integer(
    "every",
    0,
    f"Steps between frames; 0 for about {chains.NUM_FRAMES} frames.",
    lower_bound=0,
    upper_bound=chains.MOST_STEPS,
)
_START = cli.start_flag()
_RESTARTS = flags.DEFINE_integer(
    "restarts",
    1,
    "Chains, of which that of lowest posterior energy is recorded.",
    lower_bound=1,
    upper_bound=chains.MOST_RESTARTS,
)
_CROP = flags.DEFINE_enum(
    "crop", "stretch", CROPS, "How a picture that is not square is seen; see experiments.extract."
)
_GIF = flags.DEFINE_bool("gif", False, "Also a GIF, which has 256 colours.")
_SLOTS = cli.slots_flag()
_SEED = cli.seed_flag()


def main(argv: Sequence[str]) -> None:
    """Checks everything, runs the chain, and writes."""
    del argv
    cli.cache_compiled_programs()
    run = cli.open_run(_WORKDIR.value, _MODEL.value).with_slots(_SLOTS.value)
    chains.check_run(run)
    if not os.path.isfile(_INPUT.value):
        raise UserError(f"--input must be a picture's file; there is none at {_INPUT.value}")
    found, problems = pictures.read([_INPUT.value], run.config.image_size, _CROP.value)
    if not found:
        raise UserError(f"cannot use --input: {problems[0]}")
    watch.check(_OUTPUT.value)
    settings = chains.Settings(
        steps=run.sampler_steps(_STEPS.value),
        start=_START.value,
        restarts=_RESTARTS.value,
        seed=_SEED.value,
        crop=_CROP.value,
    )
    total = settings.steps * settings.restarts
    with tqdm(total=total, unit="step", desc="watching", delay=0.5) as bar:
        for recording in chains.recorded(run, found, settings, _EVERY.value):
            end = recording.ends[-1]
            bar.update(end.restart * settings.steps + end.step - bar.n)
    written = watch.write(recording, _OUTPUT.value, gif=_GIF.value)
    frames = written[0].parent / watch.FRAMES
    print(f"wrote {', '.join(str(path) for path in written)}; its frames are in {frames}")


if __name__ == "__main__":
    cli.run(main)
