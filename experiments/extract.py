"""Cuts the foreground out of photographs with a trained model.

    python -m experiments.extract --workdir=runs/photos --input=PHOTOS --output=cut_outs
    python -m experiments.extract --model=flowers17 --input=FLOWERS --output=cut_outs
    python -m experiments.extract --workdir=runs/photos --input=dog.jpg --output=dog --chains=8
    python -m experiments.extract --config=configs/baselines/grabcut.py --input=PHOTOS --output=cut

Writes for every picture a mask, a cut-out with transparency and the background alone, all of the
picture's own size, and a small side-by-side picture, each kind in a folder of its own below
--output. A DRC of several slots also gives one cut-out per object, the largest in objects/1. Slot
methods have no foreground; of these every slot gets a mask and a cut-out. Which of ReDO's two
regions is the foreground is chance, so its masks may be those of the background. Methods that are
not trained, named by --config, see pictures at 128x128; GrabCut paints no background, so its
background is the picture at that size. Files that fail are listed at the end and in failed.txt. The
exit status is 0 if any picture succeeded and 1 if none did.
"""

from collections.abc import Sequence

from absl import flags

from drc_jax.errors import UserError
from drc_jax.evaluation.cutouts import CROPS, FORMATS
from drc_jax.evaluation.extract import extract, summary, write_failures
from drc_jax.evaluation.regions import Watched
from drc_jax.runs.trained import Run, open_untrained
from experiments import cli, config_flag

_CONFIG = config_flag.define(required=False)
_WORKDIR = flags.DEFINE_string("workdir", None, "The run's folder.")
_MODEL = cli.model_flag()
_INPUT = flags.DEFINE_string(
    "input", None, "A picture, or a folder that is searched with its sub-folders.", required=True
)
_OUTPUT = flags.DEFINE_string("output", None, "Folder for the results.", required=True)
_STEPS = cli.steps_flag("Langevin steps from fresh chains; 0 takes the config's.")
_START = cli.start_flag()
_CHAINS = cli.chains_flag()
_MASK_FROM = cli.mask_flag()
_RESTARTS = flags.DEFINE_integer(
    "restarts", 1, "Chains per picture; that of lowest posterior energy is kept.", lower_bound=1
)
_SOFT = flags.DEFINE_bool("soft", False, "Masks in shades of grey instead of black and white.")
_REFINE = cli.refine_flag()
_FORMAT = flags.DEFINE_enum("format", "png", FORMATS, "Of masks, cut-outs and backgrounds.")
_CROP = flags.DEFINE_enum(
    "crop",
    "stretch",
    CROPS,
    "How a picture that is not square goes through the model: squeezed, its middle alone, or "
    "between grey bars (best for data that were prepared with --crop=letterbox).",
)
_SLOTS = cli.slots_flag()
_SEED = cli.seed_flag()
cli.batch_size_flag()


def main(argv: Sequence[str]) -> int:
    """Returns the exit status: 0 if any picture succeeded, 1 if none did."""
    del argv
    cli.cache_compiled_programs()
    run = _run().with_slots(_SLOTS.value)
    side = run.image_size
    steps = run.sampler_steps(_STEPS.value)
    with cli.ImageBar("extracting", steps, "file") as bar:
        infer_batch = Watched(
            run.infer_batch(
                _SEED.value,
                num_steps=steps,
                num_restarts=_RESTARTS.value,
                num_chains=_CHAINS.value,
                mask_from=_MASK_FROM.value,
                start=_START.value,
                progress=bar.steps,
            )
        )
        result = extract(
            infer_batch,
            _INPUT.value,
            _OUTPUT.value,
            image_size=side,
            crop=_CROP.value,
            soft=_SOFT.value,
            refine=_REFINE.value,
            file_format=_FORMAT.value,
            progress=bar.images,
        )
    print(summary(result, _OUTPUT.value))
    cli.say_outcomes(infer_batch, result.num_done)
    finer = {
        "": "masks are no finer than that; --refine=colours or edges makes them follow the picture",
        "edges": "--refine has moved outlines to edges of the picture nearby",
        "colours": "--refine has cut again by the picture's colours, beginning at the model's mask",
    }[_REFINE.value]
    print(f"the model sees {side}x{side} pixels: {finer}")
    write_failures(result, _OUTPUT.value)
    return 0 if result.num_done else 1


def _run() -> Run:
    """The run, the trained model, or the method that is not trained."""
    if _CONFIG.value is None:
        return cli.open_run(_WORKDIR.value, _MODEL.value)
    if _WORKDIR.value or _MODEL.value:
        raise UserError("give one of --workdir, --model and --config, not several")
    return open_untrained(config_flag.frozen(_CONFIG.value))


if __name__ == "__main__":
    cli.run(main)
