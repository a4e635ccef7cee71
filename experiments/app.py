"""A page on this machine on which one watches the regions of pictures compete.

    python -m experiments.app --workdir=runs/demo
    python -m experiments.app --model=flowers17 --port=7861

Needs Gradio: pip install -e '.[app]'. The page listens at 127.0.0.1 unless --host says otherwise,
and asks nobody anything. Pictures go to a temporary folder, which is removed at the end: Ctrl-C.
"""

import os
import pathlib
import sys
from collections.abc import Sequence

from absl import flags

from drc_jax import files
from drc_jax.app import chains, server
from drc_jax.zoo import models
from experiments import cli

_WORKDIR = flags.DEFINE_string("workdir", None, "The run's folder; it may still be trained.")
_MODEL = cli.model_flag()
_HOST = flags.DEFINE_string(
    "host", "127.0.0.1", "Address to listen at; 0.0.0.0 lets other machines in, without a password."
)
_PORT = flags.DEFINE_integer(
    "port", None, "Port; the first free one from 7860.", lower_bound=1, upper_bound=65535
)
_SLOTS = cli.slots_flag()


def main(argv: Sequence[str]) -> None:
    """Opens the run and serves it until a signal comes."""
    del argv
    cli.cache_compiled_programs()
    run = cli.open_run(_WORKDIR.value, _MODEL.value).with_slots(_SLOTS.value)
    chains.check_run(run)
    workdir = pathlib.Path(_WORKDIR.value) if _WORKDIR.value else None
    side, slots = run.config.image_size, run.config.model.num_slots
    title = (
        f"{files.shown(_WORKDIR.value or _MODEL.value)}, {run.step} iterations, {side}x{side} "
        f"pixels, {slots} foreground slot{'' if slots == 1 else 's'}"
    )
    limits = models.read_card(_MODEL.value)["limits"] if _MODEL.value else ""
    with server.Stop() as stop:
        with server.served(
            run, title, workdir=workdir, limits=limits, host=_HOST.value, port=_PORT.value
        ) as address:
            print(f"the page is at {address}; Ctrl-C ends it", flush=True)
            stop.wait()
        print("stopped; its temporary files are removed", flush=True)
        sys.stderr.flush()
        # A chain may still run or compile in a thread, and XLA crashes where it is left behind.
        os._exit(0)


if __name__ == "__main__":
    cli.run(main)
