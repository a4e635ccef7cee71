"""Trains a model, or goes on training where an earlier start of the same run ended.

    python -m experiments.train --config=configs/tiny.py --workdir=runs/tiny
    python -m experiments.train --config=configs/birds.py --workdir=runs/birds \\
        --config.batch_size=16 --config.iterations=2000

The folder receives config.json, checkpoints/, metrics.jsonl, tensorboard/ and images/. Generated
data sets (tm_dsprites, scenes) are made where missing; others are written first with
`python -m experiments.prepare`. Ctrl-C or SIGTERM saves, then ends with status 128 + signal; the
same command then resumes, bit for bit. Every field of the config can be set on the command line;
drc_jax/config.py documents them.
"""

import pathlib
from collections.abc import Sequence

from absl import flags

from drc_jax import loop
from drc_jax.training_data import open_training_split
from experiments import cli, config_flag

_CONFIG = config_flag.define()
_WORKDIR = flags.DEFINE_string(
    "workdir",
    None,
    "The run's folder: new or empty, or that of the same run to resume.",
    required=True,
)


def main(argv: Sequence[str]) -> int:
    """Returns the exit status: 0, or 128 + the signal that ended training early."""
    del argv
    cli.cache_compiled_programs()
    config = config_flag.train_config(_CONFIG.value)
    split = open_training_split(config)
    stopped_by = loop.train(config, pathlib.Path(_WORKDIR.value), split)
    return 0 if stopped_by is None else 128 + stopped_by


if __name__ == "__main__":
    cli.run(main)
