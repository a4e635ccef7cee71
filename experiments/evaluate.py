"""Scores a trained model on images it has not seen, by the protocol of SPEC section 6.

    python -m experiments.evaluate --workdir=runs/demo
    python -m experiments.evaluate --workdir=runs/birds --split=val --steps=300

Prints a table and writes to WORKDIR/eval: SPLIT.json, SPLIT.csv with a line per image, and the
pictures SPLIT_grid.png, SPLIT_best.png and SPLIT_worst.png. What --data names is scored into
WORKDIR/eval/NAME, NAME being that folder's. The data need masks; experiments.extract needs none.
"""

import pathlib
from collections.abc import Sequence

import jax
import numpy as np
from absl import flags
from tqdm import tqdm

from drc_jax.data.packed.format import open_split, splits
from drc_jax.evaluation import evaluate as evaluation
from drc_jax.evaluation import metrics
from drc_jax.inference import infer
from drc_jax.model.render import Regions
from drc_jax.training.images import check_size, data_folder
from drc_jax.training.method import load_run
from experiments import cli

_WORKDIR = flags.DEFINE_string("workdir", None, "The run's folder.", required=True)
_SPLIT = flags.DEFINE_string("split", "test", "Which split of the data to score.")
_STEPS = flags.DEFINE_integer(
    "steps", 0, "Langevin steps from fresh chains; 0 takes the config's.", lower_bound=0
)
_DATA = flags.DEFINE_string(
    "data", "", "Folder of another packed data set to score on; empty takes the run's own."
)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 64, "Images at once.", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the chains.", lower_bound=0)


def main(argv: Sequence[str]) -> None:
    """Evaluates and reports."""
    del argv
    cli.cache_compiled_programs()
    workdir = pathlib.Path(_WORKDIR.value)
    run = load_run(workdir)
    folder = pathlib.Path(_DATA.value) if _DATA.value else data_folder(run.config)
    split = open_split(folder, _SPLIT.value)
    check_size(run.config, split)
    split.require_masks()
    train = open_split(folder, "train") if "train" in splits(folder) else None
    train_masks = None if train is None else train.masks

    output = workdir / "eval"
    if folder.resolve() != data_folder(run.config).resolve():
        output /= folder.resolve().name  # The run's own scores stay.
    steps = _STEPS.value or run.config.sampler.test_steps
    key = jax.random.key(_SEED.value)

    def infer_batch(images: np.ndarray, number: int) -> Regions:
        return infer(
            run.config.model,
            run.params,
            jax.random.fold_in(key, number),
            images,
            num_steps=steps,
            step_size=run.config.sampler.posterior_step_size,
        )

    with tqdm(total=len(split), unit="image", desc=f"evaluating, {steps} steps") as bar:
        report = evaluation.evaluate(
            infer_batch,
            split,
            batch_size=min(_BATCH_SIZE.value, len(split)),
            output_dir=output,
            split_name=_SPLIT.value,
            mean_train_mask=None if train_masks is None else metrics.mean_mask(train_masks),
            settings={
                "data": str(folder),
                "checkpoint_step": run.step,
                "langevin_steps": steps,
                "seed": _SEED.value,
            },
            progress=lambda done, total: bar.update(done - bar.n),
        )
    print(evaluation.format_table(report))
    print(f"numbers and pictures are in {output}; look at {_SPLIT.value}_grid.png first")


if __name__ == "__main__":
    cli.run(main)
