"""Compares trained runs, and methods without training, on the same images.

    python -m experiments.compare --runs=runs/drc_0,runs/drc_1,runs/redo --data=data/birds_128 \\
        --output=comparison
    python -m experiments.compare --runs=runs/demo --configs=configs/baselines/grabcut.py \\
        --data=data/scenes_32 --output=comparison

Runs of one method and config that differ in their seed are one row of the table, with mean and
standard deviation. Writes to --output: table.md, table.csv and table.json, the figures as PNG (each
method's regions, its worst images and what went wrong), and index.html, one page with everything
that needs no other file. The data need masks. --steps is for all methods with a sampler,
--chains for DRC; a score depends on them and on --seed.
"""

from collections.abc import Sequence

from absl import flags

from drc_jax import files
from drc_jax.data.packed.format import open_split, splits
from drc_jax.errors import UserError
from drc_jax.evaluation import compare_page, compare_tables, metrics
from drc_jax.evaluation.compare import compare
from drc_jax.runs import entrants
from experiments import cli, config_flag

_RUNS = flags.DEFINE_list("runs", [], "Folders of `experiments.train` runs, apart by commas.")
_CONFIGS = flags.DEFINE_list(
    "configs", [], "Config files of methods that are not trained, apart by commas."
)
_DATA = flags.DEFINE_string("data", None, "Folder of the packed data to score on.", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "Folder for the page and its parts.", required=True)
_SPLIT = flags.DEFINE_string("split", "test", "Which split of the data to score on.")
_STEPS = cli.steps_flag("Langevin steps from fresh chains; 0 takes each config's.")
_CHAINS = cli.chains_flag()
_SEED = cli.seed_flag()


def main(argv: Sequence[str]) -> None:
    """Checks everything, scores, and reports."""
    del argv
    cli.cache_compiled_programs()
    runs, configs = (list(filter(None, flag.value)) for flag in (_RUNS, _CONFIGS))
    if not runs and not configs:
        raise UserError("give --runs=FOLDER,..., --configs=FILE,... or both")
    split = open_split(_DATA.value, _SPLIT.value, verify=True)
    split.require_masks()
    bar = cli.ImageBar("comparing", 0)
    seed = _SEED.value
    entered = [
        entrants.of_run(
            path,
            split,
            steps=_STEPS.value,
            chains=_CHAINS.value,
            seed=seed,
            progress=bar.steps,
        )
        for path in runs
    ]
    for path in configs:
        entered.append(entrants.of_config(config_flag.from_file(path), path, seed=seed))
    masks = open_split(_DATA.value, "train").masks if "train" in splits(_DATA.value) else None
    folder = files.writable(_OUTPUT.value, "the comparison")

    def progress(path: str, done: int, total: int) -> None:
        place = [entrant.path for entrant in entered].index(path)
        bar.images(place * total + done, len(entered) * total, path)

    with bar:
        found = compare(
            entered,
            split,
            mean_train_mask=None if masks is None else metrics.mean_mask(masks),
            progress=progress,
        )
    # Before anything is written, for a full disk must not cost the numbers.
    print(compare_tables.to_text(found))
    for path, reason in found.failed:
        print(f"{path} has no scores: {reason}")
    compare_page.write(found, folder)
    print(f"the page is {folder / compare_page.HTML}, its numbers are in {folder}/table.*")


if __name__ == "__main__":
    cli.run(main)
