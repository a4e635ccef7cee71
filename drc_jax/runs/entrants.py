"""Trained runs and methods without training as entrants of a comparison."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from drc_jax.baselines import grabcut
from drc_jax.config import TrainConfig, described, to_dict
from drc_jax.data.packed.format import PackedSplit
from drc_jax.data.training_images import check_size, data_folder
from drc_jax.errors import UserError
from drc_jax.evaluation.compare import Entrant
from drc_jax.inference import Progress
from drc_jax.runs import workdir
from drc_jax.runs.cost import training_seconds
from drc_jax.runs.trained import Run, load_run, open_untrained

_FIGURES = {"grabcut": "cut-outs", "redo": "channels"}
COLUMNS = {"redo": "set"}
"""The column of scores of methods with two exchangeable regions, of which chance makes one the
first."""
_SUMMARIES = {"grabcut": grabcut.summary}


def of_run(
    path: str,
    split: PackedSplit,
    *,
    seed: int,
    steps: int,
    chains: int = 0,
    progress: Progress | None = None,
) -> Entrant:
    """A training folder as entrant.

    Args:
      path: the run's folder.
      split: the images to score on.
      seed: of the chains.
      steps: of the sampler; 0 takes the config's. Methods without a sampler ignore it.
      chains: per image, of DRC; 0 takes the config's. Other methods ignore it.
      progress: called with the steps done and in all of a block of images, as by ``infer``.

    Raises:
      UserError: if it is no such folder, has no intact checkpoint, or was trained on images of
        another size.
    """
    run = load_run(path)
    try:
        check_size(run.config, split)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    config = workdir.identity(pathlib.Path(path), run.config)
    del config["seed"]
    entrant = _entrant(run, path, config, seed, steps, chains, progress)
    return entrant._replace(
        settings={**entrant.settings, "trained_on": str(data_folder(run.config))},
        seed=run.config.seed,
        iterations=run.step,
        num_parameters=num_parameters(run.params),
        training_seconds=training_seconds(pathlib.Path(path), run.step),
    )


def of_config(config: Any, path: str, *, seed: int) -> Entrant:
    """A method without training as entrant.

    Args:
      config: its frozen config.
      path: what to call it, the config's file.
      seed: of what is random in it.

    Raises:
      UserError: if the method needs training, or lacks a package that it works with.
    """
    try:
        run = open_untrained(config)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return _entrant(run, path, to_dict(config), seed, 0)


def _entrant(
    run: Run,
    path: str,
    config: Mapping[str, Any],
    seed: int,
    steps: int,
    chains: int = 0,
    progress: Progress | None = None,
) -> Entrant:
    steps = run.sampler_steps(steps)
    chains = run.sampler_chains(chains if isinstance(run.config, TrainConfig) else 0)
    settings = {"method": run.method.name, "checkpoint_step": run.step, "seed": seed}
    return Entrant(
        method=run.method.name,
        path=path,
        config=json.dumps(config, sort_keys=True),
        infer_batch=run.infer_batch(seed, num_steps=steps, num_chains=chains, progress=progress),
        settings=settings
        | ({"langevin_steps": steps} if steps else {})
        | run.chain_settings(chains, run.mask_source("")),
        changed=described.differences(run.config),
        figure=_FIGURES.get(run.method.name, "regions"),
        column=COLUMNS.get(run.method.name, "fixed"),
        summary=_SUMMARIES.get(run.method.name),
    )


def num_parameters(params: Any) -> int:
    """How many numbers were learnt: of Flax variables those of the collection ``params`` alone."""
    if isinstance(params, Mapping):
        learnt = [params["params"]] if "params" in params else params.values()
        return sum(map(num_parameters, learnt))
    return sum(int(np.size(leaf)) for leaf in jax.tree.leaves(params))
