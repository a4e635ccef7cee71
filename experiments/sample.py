"""Draws images from a trained model's prior, with their regions and masks.

    python -m experiments.sample --workdir=runs/demo --output=samples.png

Appendix G.3 of the paper: fresh chains on the prior energy alone, so no image is looked at, and
none of the competition that separates regions takes place.
"""

import pathlib
from collections.abc import Sequence

import jax
import numpy as np
from absl import flags

from drc_jax import files
from drc_jax.evaluation import pictures, slot_pictures
from drc_jax.inference import sample_prior
from drc_jax.runs.trained import load_run
from experiments import cli

_WORKDIR = flags.DEFINE_string("workdir", None, "The run's folder.", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "PNG file to write.", required=True)
_NUMBER = flags.DEFINE_integer("number", 10, "How many samples.", lower_bound=1, upper_bound=64)
_STEPS = cli.steps_flag("Langevin steps from fresh chains; 0 takes the config's prior_steps.")
_SLOTS = cli.slots_flag()
_SEED = cli.seed_flag()


def main(argv: Sequence[str]) -> None:
    """Samples and writes the picture."""
    del argv
    cli.cache_compiled_programs()
    output = files.check_writable_file(_OUTPUT.value, ".png")
    run = load_run(pathlib.Path(_WORKDIR.value)).with_slots(_SLOTS.value)
    sampler = run.config.sampler
    steps = _STEPS.value or sampler.prior_steps
    with cli.progress_bar("sampling", "step") as progress:
        samples = sample_prior(
            run.config.model,
            run.params,
            jax.random.key(_SEED.value),
            num_samples=_NUMBER.value,
            num_steps=steps,
            step_size=sampler.prior_step_size,
            drift_limit=sampler.drift_limit,
            progress=progress,
        )
    if slot_pictures.are_objects(samples):
        picture = slot_pictures.objects_grid(None, samples)
    else:
        images = np.asarray(samples.images)
        picture = pictures.samples_grid(
            np.asarray(samples.reconstruction),
            images[:, 0],
            images[:, -1],
            np.asarray(samples.foreground_weight),
        )
    pictures.save_png(output, picture)
    print(f"wrote {output}: {_NUMBER.value} samples of the prior after {run.step} iterations")


if __name__ == "__main__":
    cli.run(main)
