"""A finished or running training folder, opened for use: its config, newest parameters and data."""

import pathlib
from typing import Any, NamedTuple

import jax

from drc_jax.config import TrainConfig
from drc_jax.runs import checkpoint, workdir


class TrainedRun(NamedTuple):
    """What evaluation, sampling and extraction need of a run.

    Attributes:
      config: the run's config.
      params: parameters of the newest intact checkpoint, on the device.
      step: that checkpoint's training iterations.
    """

    config: TrainConfig
    params: Any
    step: int


def open_run(path: pathlib.Path) -> TrainedRun:
    """Opens ``path``, a folder that ``experiments.train`` has written to; changes nothing there.

    Raises:
      UserError: if it is no such folder or has no intact checkpoint.
    """
    config = workdir.load_config(path)
    step, params = checkpoint.restore_params(path)
    return TrainedRun(config, jax.device_put(params), step)
