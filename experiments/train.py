"""Trains a model, or goes on training where an earlier start of the same run ended.

    python -m experiments.train --config=configs/tiny.py --workdir=runs/tiny
    python -m experiments.train --config=configs/birds.py --workdir=runs/birds \\
        --config.batch_size=16 --config.iterations=2000

The folder receives config.json, checkpoints/, metrics.jsonl, tensorboard/ and images/. Generated
data sets (tm_dsprites, scenes) are made where missing; others are written first with
`python -m experiments.prepare`. Ctrl-C or SIGTERM saves, then ends with status 128 + signal; the
same command then resumes, bit for bit. Every field of the config can be set on the command line;
--config.help lists them.

Several devices share every batch with --config.num_devices=8. Where they are in several processes,
on one machine or many, the same command is started once for each, with all devices counted:

    python -m experiments.train --config=configs/birds.py --workdir=runs/birds \\
        --config.num_devices=8 --coordinator=10.0.0.1:1234 --num_processes=2 --process_id=0

Every process reads the images of its own devices; process 0, at the address given, alone writes.
When one of them dies the others end too, and the same commands resume from the last checkpoint.
"""

import functools
import pathlib
import textwrap
from collections.abc import Sequence

from absl import flags

from drc_jax.config import RunConfig, described
from drc_jax.data.training_images import open_training_split
from drc_jax.runs.workdir import BOARD_FOLDER, CONFIG_FILE, LOG_FILE
from drc_jax.runtime import processes
from drc_jax.runtime.processes import say
from drc_jax.training import loop
from experiments import cli, config_flag

_CONFIG = config_flag.define()
_WORKDIR = flags.DEFINE_string(
    "workdir",
    None,
    "The run's folder: new or empty, or that of the same run to resume.",
    required=True,
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator", None, "HOST:PORT of process 0, where a run has several processes."
)
_NUM_PROCESSES = flags.DEFINE_integer(
    "num_processes", 1, "How many processes the run has.", lower_bound=1
)
_PROCESS_ID = flags.DEFINE_integer(
    "process_id", 0, "Which of the processes this is, from 0.", lower_bound=0
)
_VERIFY_DATA = flags.DEFINE_bool(
    "verify_data", False, "Read every byte of the images first, and compare their digest."
)


def main(argv: Sequence[str]) -> int:
    """Returns the exit status: 0, or 128 + the signal that ended training early."""
    del argv
    cli.cache_compiled_programs()
    config = config_flag.run_config(_CONFIG.value)
    processes.join(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
    opened = functools.partial(open_training_split, config, verify=_VERIFY_DATA.value)
    split = processes.in_turn(opened)
    workdir = pathlib.Path(_WORKDIR.value)
    say(f"{_settings(config)}\nall fields are in {workdir / CONFIG_FILE}\n{_places(workdir)}")
    with processes.ending_with_the_others():
        stopped_by = loop.train(config, workdir, split)
    if stopped_by is not None:
        return 128 + stopped_by
    score = f"python -m experiments.evaluate --workdir={workdir}"
    say(f"{_places(workdir)}\nscores: {score}")
    return 0


def _settings(config: RunConfig) -> str:
    """What a config has that is not the default."""
    changed = ", ".join(described.differences(config)) or "nothing"
    return textwrap.fill(f"{config.method} with its defaults, except {changed}", 100)


def _places(workdir: pathlib.Path) -> str:
    """Where a run can be looked at while it goes on, and afterwards."""
    return (
        f"pictures: {workdir / 'images'}; numbers: {workdir / LOG_FILE}\n"
        f"curves: tensorboard --logdir={workdir / BOARD_FOLDER} (pip install tensorboard)\n"
        f"  or the tab run of python -m experiments.app --workdir={workdir} (docs/app.md)"
    )


if __name__ == "__main__":
    cli.run(main)
