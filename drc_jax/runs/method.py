"""What the loop, evaluation and extraction ask of a method: DRC and the baselines alike."""

import importlib
from collections.abc import Hashable
from typing import Any, Protocol

import chex
import jax

from drc_jax.errors import UserError
from drc_jax.evaluation.regions import Regions

State = Any
"""A dataclass of arrays with ``step`` (int32 scalar) and ``params`` (what inference needs)."""
PerImage = Any
"""A pytree of arrays that belong to images, as DRC's chains; ``()`` for methods without."""
Metrics = dict[str, jax.Array]
Config = Any
"""A frozen ``RunConfig`` of the method's own type."""


class Method(Protocol):
    """A method that learns to divide images into regions.

    Everything is a pure function of frozen configs and pytrees; the loop jits, shares the work
    among devices, keeps what belongs to images, saves, logs and draws. A method is hashable, for
    programs are compiled for it.
    """

    @property
    def name(self) -> str:
        """Its name in ``METHODS`` and in a run's config.json."""
        ...

    @property
    def config_type(self) -> type:
        """The frozen dataclass that configures a run."""
        ...

    def check(self, config: Config) -> None:
        """Raises UserError where a config cannot be trained on this machine."""
        ...

    def step_config(self, config: Config) -> Hashable:
        """The part of a config that ``update`` depends on; runs that agree share a program."""
        ...

    def keeps_in_files(self, config: Config) -> bool:
        """Whether what belongs to images lies in files instead of on the devices."""
        ...

    def fresh_state(self, config: Config) -> State:
        """The state at step 0, without what belongs to images; traceable."""
        ...

    def fresh_chains(self, config: Config, seed: jax.Array | int, index: jax.Array) -> PerImage:
        """What images ``index`` [n] have at step 0: arrays [n, 2, ...], their mirrors second."""
        ...

    def split_chains(self, state: State) -> tuple[State, PerImage]:
        """A checkpoint's state, taken apart: without what belongs to images, and that."""
        ...

    def join_chains(self, state: State, chains: PerImage) -> State:
        """What ``split_chains`` undoes."""
        ...

    def update(
        self,
        step_config: Any,
        state: State,
        images: jax.Array,
        keys: chex.PRNGKey,
        chains: PerImage,
        axis_name: str | None = None,
    ) -> tuple[State, PerImage, Metrics]:
        """One iteration on images [B, S, S, 3] uint8, with a key per image.

        ``chains`` are the images' own arrays [B, ...]. Sums over the batch are this device's share;
        ``axis_name`` names the axis over which to average them. The metrics are scalars.
        """
        ...

    def test_steps(self, config: Config) -> int:
        """Sampler steps that ``segment`` takes by default; 0 for methods without a sampler."""
        ...

    def segment(
        self,
        config: Config,
        params: Any,
        keys: chex.PRNGKey,
        images: Any,
        *,
        num_steps: int = 0,
        num_restarts: int = 1,
    ) -> Regions:
        """The regions of images [B, S, S, 3] uint8 that were not trained on.

        ``keys`` are [B], one per image. ``num_steps`` 0 takes the config's; methods without a
        sampler ignore it and ``num_restarts``. Methods with a sampler also take ``progress``,
        and DRC ``start``, ``num_chains`` and ``mask_from``.
        """
        ...

    def show(
        self, config: Config, params: Any, chains: PerImage, images: Any, seed: int
    ) -> Regions:
        """The regions of training images [B, S, S, 3] as the state has them, for pictures."""
        ...

    def advice(self, problem: str) -> str:
        """Which settings to change after a divergence that ``problem`` describes."""
        ...


METHODS = {
    "drc": "drc_jax.training.drc:DRC",
    "grabcut": "drc_jax.baselines.grabcut:GrabCut",
    "iodine": "drc_jax.baselines.iodine:Iodine",
    "redo": "drc_jax.baselines.redo:ReDO",
    "slot_attention": "drc_jax.baselines.slot_attention:SlotAttention",
}
"""Name to ``module:class``; imported when asked for, so that each brings its own packages."""


def find(name: str) -> Method:
    """The method of that name.

    Raises:
      UserError: if there is none; it lists those that are.
    """
    if name not in METHODS:
        raise UserError(f"there is no method {name!r}; there are {', '.join(sorted(METHODS))}")
    module, _, attribute = METHODS[name].partition(":")
    return getattr(importlib.import_module(module), attribute)()
