"""Shows what data sets with masks look like, before a model is trained on them.

    python -m experiments.analyse --data=data/birds_128 --output=analysis
    python -m experiments.analyse --data=data/birds_128,data/photos --split=test --output=analysis

Writes analysis.html, one page with plots that needs no other file, and analysis.json, with what
appendix G.1 shows: examples, colour histograms of foreground and background, mask heat map,
foreground share, and the two scores that a model must beat. Several data sets stand side by side
and are compared.
"""

from collections.abc import Sequence

from absl import flags

from drc_jax import files
from drc_jax.analysis import report
from drc_jax.analysis.statistics import analyse_folders
from experiments import cli

_DATA = flags.DEFINE_list(
    "data", None, "Folders of packed data sets with masks, apart by commas.", required=True
)
_OUTPUT = flags.DEFINE_string("output", None, "Folder for the page and the numbers.", required=True)
_SPLIT = flags.DEFINE_string("split", "train", "Which split of every data set.")


def main(argv: Sequence[str]) -> None:
    """Analyses and reports."""
    del argv
    folder = files.writable(_OUTPUT.value, "the analysis")
    with cli.progress_bar("analysing", "image") as progress:
        results = analyse_folders(_DATA.value, _SPLIT.value, progress=progress)
    print(report.summary(results))
    report.write(results, folder)
    print(f"the page is {folder / report.HTML}, its numbers are in {folder / report.JSON}")


if __name__ == "__main__":
    cli.run(main)
