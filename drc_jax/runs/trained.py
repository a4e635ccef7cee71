"""A trained run, opened for use."""

import dataclasses
import pathlib
from typing import Any, NamedTuple

import chex
import jax
import numpy as np

from drc_jax.config import RunConfig, TrainConfig
from drc_jax.errors import UserError
from drc_jax.evaluation.regions import InferBatch, Regions
from drc_jax.inference import Progress, image_keys
from drc_jax.model.posterior import check_start
from drc_jax.runs import checkpoint, workdir
from drc_jax.runs.method import Method, find

UNTRAINED_SIDE = 128
"""Of images for a method that is not trained, whose config has no size: the paper's."""


class Run(NamedTuple):
    """A training folder, opened for use.

    Attributes:
      method: what was trained.
      config: its config.
      params: parameters of the newest intact checkpoint, on the device.
      step: that checkpoint's training iterations.
    """

    method: Method
    config: Any
    params: Any
    step: int

    @property
    def image_size(self) -> int:
        """Side of the images that the method sees, in pixels."""
        return UNTRAINED_SIDE if self.params is None else self.config.image_size

    def with_slots(self, num_slots: int) -> "Run":
        """This run of DRC with another number of foreground slots, which share their networks.

        An encoder knows the latents of its own number alone, and is left out.

        Args:
          num_slots: n; 0 for the run as it is.

        Raises:
          UserError: if it is a run of another method, or n is out of range.
        """
        if not num_slots:
            return self
        if not isinstance(self.config, TrainConfig):
            raise UserError(f"num_slots is for runs of drc, and this one is of {self.method.name}")
        model = dataclasses.replace(self.config.model, num_slots=num_slots)
        params = self.params
        if model != self.config.model:
            params = {name: part for name, part in params.items() if name != "encoder"}
        config = dataclasses.replace(self.config, model=model)
        return self._replace(config=config, params=params)

    def sampler_steps(self, wanted: int) -> int:
        """``wanted``, or the config's steps where that is 0; 0 for methods without a sampler."""
        usual = self.method.test_steps(self.config)
        return (wanted or usual) if usual else 0

    def sampler_chains(self, wanted: int) -> int:
        """``wanted`` chains per image, or the config's where that is 0; 1 for other methods.

        Raises:
          UserError: if more than one is wanted of a method that has no chains.
        """
        if isinstance(self.config, TrainConfig):
            return wanted or self.config.sampler.test_chains
        if wanted > 1:
            raise UserError(f"{wanted} chains are for runs of drc; this is of {self.method.name}")
        return 1

    def mask_source(self, wanted: str) -> str:
        """``wanted``, ``pi`` or ``gamma``, or the config's where that is empty; ``pi`` for others.

        Raises:
          UserError: if ``gamma`` is wanted of a method that has none.
        """
        if isinstance(self.config, TrainConfig):
            return wanted or self.config.sampler.test_mask_from
        if wanted == "gamma":
            raise UserError(f"masks from gamma are for runs of drc; this is of {self.method.name}")
        return "pi"

    @staticmethod
    def chain_settings(num_chains: int, mask_from: str) -> dict[str, Any]:
        """What a report says of chains and masks, where they are not the paper's."""
        chains = {"chains": num_chains} if num_chains > 1 else {}
        return {**chains, **({"mask_from": mask_from} if mask_from != "pi" else {})}

    def check_start(self, start: str) -> None:
        """Refuses a start of chains that this run does not have.

        Raises:
          UserError: if it is of another method than DRC, or there is no such start.
        """
        if start != "prior" and not isinstance(self.config, TrainConfig):
            raise UserError(
                f"start {start!r} is for runs of drc, and this one is of {self.method.name}"
            )
        check_start(start, self.params)

    def segment(
        self,
        keys: chex.PRNGKey,
        images: Any,
        *,
        start: str = "prior",
        num_chains: int = 0,
        mask_from: str = "",
        progress: Progress | None = None,
        **options: Any,
    ) -> Regions:
        """``Method.segment`` with this run's config and parameters.

        ``start`` is where DRC's chains begin, as for ``drc_jax.infer``; other methods and runs
        without encoder have ``prior`` only. ``num_chains`` and ``mask_from`` are as there too; 0
        and empty take the config's. ``progress`` is called with steps done and in all, where the
        method has a sampler.

        Raises:
          UserError: if ``start`` is ``encoder`` and the run has none, or another method is asked
            for what only DRC has.
        """
        self._check_chains(start, num_chains, mask_from)
        if start != "prior":
            options["start"] = start
        if isinstance(self.config, TrainConfig):
            options |= {"num_chains": num_chains, "mask_from": mask_from}
        if progress is not None and self.method.test_steps(self.config):
            options["progress"] = progress
        return self.method.segment(self.config, self.params, keys, images, **options)

    def _check_chains(self, start: str, num_chains: int, mask_from: str) -> None:
        """Raises UserError where this run has no such chains."""
        self.check_start(start)
        self.sampler_chains(num_chains)
        self.mask_source(mask_from)

    def infer_batch(self, seed: int, **options: Any) -> InferBatch:
        """``segment`` for evaluation, with keys that depend on ``seed`` and each image alone."""
        asked = {"start": "prior", "num_chains": 0, "mask_from": ""}
        self._check_chains(**{name: options.get(name, usual) for name, usual in asked.items()})
        key = jax.random.key(seed)
        return lambda images: self.segment(image_keys(key, images), images, **options)


def load_run(path: str | pathlib.Path) -> Run:
    """Opens a folder that ``experiments.train`` has written to; changes nothing there.

    Args:
      path: the run's folder.

    Returns:
      The run, ready for ``run.segment`` or ``drc_jax.infer(run.config.test_model, run.params,
      ...)``.

    Raises:
      UserError: if it is no such folder or has no intact checkpoint.
    """
    folder = pathlib.Path(path)
    method = find(workdir.method_name(folder))
    config: Any = workdir.load_config(folder, method.config_type)
    step, params = checkpoint.restore_params(folder)
    return Run(method, config, jax.device_put(params), step)


def open_untrained(config: Any) -> Run:
    """A method that is not trained, opened as a run is; finds out whether it works here.

    Args:
      config: the method's frozen config.

    Raises:
      UserError: if the method is trained, or lacks a package that it works with.
    """
    if isinstance(config, RunConfig):
        raise UserError(f"{config.method} is trained; give its run's folder instead of a config")
    run = Run(find(config.method), config, None, 0)
    run.segment(None, np.zeros((1, 8, 8, 3), np.uint8))
    return run
