"""Scores a trained model on images it has not seen.

    python -m experiments.evaluate --workdir=runs/demo
    python -m experiments.evaluate --workdir=runs/birds --split=val --steps=300
    python -m experiments.evaluate --model=flowers17 --data=data/flowers17_32
    python -m experiments.evaluate --model=flowers17 --data=data/flowers17_128 --refine=colours
    python -m experiments.evaluate --config=configs/baselines/grabcut.py --data=data/birds_128

--config is for methods that are not trained; their WORKDIR is runs/METHOD where it is not given,
and that of a --model is runs/MODEL.

Prints a table (docs/results.md says how to read it; docs/method.md, "6 Evaluation", how it is
made) and writes to WORKDIR/eval: SPLIT.json, SPLIT.csv with a line per image, and the pictures
SPLIT_grid.png, SPLIT_best.png and SPLIT_worst.png. The numbers of every checkpoint, number
of steps and seed are kept in files of their own, such as test_iteration400_steps200_seed0.json.
Of DRC with several slots also SPLIT_failures.png and SPLIT_removed.png, without each of the slots.
Methods of exchangeable slots are scored in both ways of the supplement's appendix E; where the data
have instance labels, label maps are scored too (FG-ARI and others).
With --refine the images may be larger than the model's, which sees them small: masks are refined
and scored at the images' size.
What --data names is scored into WORKDIR/eval/NAME, NAME being that folder's. The data need masks;
experiments.extract needs none. A score depends on --steps, --chains, --mask_from, --refine and
--seed. The order of the images changes nothing, and neither does which other images there are, but
for rounding on some processors: all go through the method in blocks of one size.
"""

import pathlib
from collections.abc import Sequence

from absl import flags

from drc_jax import files
from drc_jax.data.packed.format import open_split, splits
from drc_jax.data.training_images import check_size, data_folder
from drc_jax.errors import UserError
from drc_jax.evaluation import figures, metrics, report
from drc_jax.evaluation.evaluate import evaluate
from drc_jax.evaluation.refined_regions import refining
from drc_jax.evaluation.regions import Watched
from drc_jax.runs import entrants
from drc_jax.runs.trained import Run, load_run, open_untrained
from experiments import cli, config_flag

_CONFIG = config_flag.define(required=False)
_WORKDIR = flags.DEFINE_string("workdir", None, "The run's folder.")
_MODEL = cli.model_flag()
_SPLIT = flags.DEFINE_string("split", "test", "Which split of the data to score.")
_STEPS = cli.steps_flag("Langevin steps from fresh chains; 0 takes the config's.")
_START = cli.start_flag()
_CHAINS = cli.chains_flag()
_MASK_FROM = cli.mask_flag()
_DATA = flags.DEFINE_string(
    "data", "", "Folder of another packed data set to score on; empty takes the run's own."
)
_REFINE = cli.refine_flag()
_SLOTS = cli.slots_flag()
_SEED = cli.seed_flag()
cli.batch_size_flag()


def main(argv: Sequence[str]) -> None:
    """Evaluates and reports."""
    del argv
    cli.cache_compiled_programs()
    workdir, run = _run()
    run = run.with_slots(_SLOTS.value)
    folder = pathlib.Path(_DATA.value) if _DATA.value else data_folder(run.config)
    split = open_split(folder, _SPLIT.value, verify=True)
    if run.params is not None and not _REFINE.value:
        check_size(run.config, split)
    split.require_masks()
    train = open_split(folder, "train") if "train" in splits(folder) else None
    train_masks = None if train is None else train.masks

    output = workdir / "eval"
    if run.params is None or folder.resolve() != data_folder(run.config).resolve():
        output /= folder.resolve().name  # The run's own scores stay.
    output = files.writable(output, "the scores")
    steps = run.sampler_steps(_STEPS.value)
    chains = run.sampler_chains(_CHAINS.value)
    source = run.mask_source(_MASK_FROM.value)
    bar = cli.ImageBar("evaluating", steps)
    plain = run.infer_batch(
        _SEED.value,
        num_steps=steps,
        num_chains=chains,
        mask_from=source,
        start=_START.value,
        progress=bar.steps,
    )
    refine = _REFINE.value
    infer_batch = Watched(refining(plain, run.image_size, refine) if refine else plain)
    with bar:
        evaluation = evaluate(
            infer_batch,
            split,
            mean_train_mask=None if train_masks is None else metrics.mean_mask(train_masks),
            settings={
                "method": run.method.name,
                "data": str(folder),
                "checkpoint_step": run.step,
                **({"langevin_steps": steps, "start": _START.value} if steps else {}),
                **run.chain_settings(chains, source),
                **({"refine": refine} if refine else {}),
                **({"num_slots": _SLOTS.value} if _SLOTS.value else {}),
                "seed": _SEED.value,
            },
            progress=bar.images,
        )
    # Before anything is written, for a full disk must not cost the numbers.
    print(report.format_table(evaluation.report))
    if run.method.name in entrants.COLUMNS:
        print(f"which region of {run.method.name} is the foreground is chance: read dataset flip")
    cli.say_outcomes(infer_batch, len(split))
    parts = [
        f"iteration{run.step}" if run.step else "",
        f"steps{steps}" if steps else "",
        f"chains{chains}" if chains > 1 else "",
        source if source != "pi" else "",
        refine,
        f"slots{_SLOTS.value}" if _SLOTS.value else "",
        f"seed{_SEED.value}",
        "" if _START.value == "prior" else _START.value,
    ]
    stem = "_".join([_SPLIT.value, *filter(None, parts)])
    report.write_numbers(evaluation, output, stem)
    figures.write(evaluation, output)
    print(
        f"numbers are in {output / stem}.json and .csv, the newest also in {_SPLIT.value}.json and "
        f".csv; look at {output / _SPLIT.value}_grid.png first"
    )


def _run() -> tuple[pathlib.Path, Run]:
    """The folder for the scores, and the run in it or a method that is not trained."""
    if _MODEL.value:
        name = pathlib.Path(_MODEL.value).stem
        return pathlib.Path(_WORKDIR.value or f"runs/{name}"), cli.open_run(None, _MODEL.value)
    if _CONFIG.value is None:
        if not _WORKDIR.value:
            raise UserError("give --workdir, the folder of an `experiments.train` run")
        workdir = pathlib.Path(_WORKDIR.value)
        return workdir, load_run(workdir)
    run = open_untrained(config_flag.frozen(_CONFIG.value))
    if not _DATA.value:
        raise UserError(f"{run.method.name} has no data of its own; give --data, a packed data set")
    return pathlib.Path(_WORKDIR.value or f"runs/{run.method.name}"), run


if __name__ == "__main__":
    cli.run(main)
