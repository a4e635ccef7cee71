"""Shared by methods that are trained, sample nothing in tests and keep nothing of single images."""

import abc
import functools
from typing import Any

import chex
import jax
import jax.numpy as jnp

from drc_jax.baselines.slots import to_floats

# Folded into the seed for the fresh parameters: no training step has this number.
_START = 2**32 - 1


class TrainedMethod(abc.ABC):
    """The parts of ``drc_jax.runs.method.Method`` that are the same for all such methods.

    A subclass is a frozen dataclass without fields; its run's config has ``model``.
    """

    @abc.abstractmethod
    def regions(self, config: Any, params: Any, images: jax.Array, keys: chex.PRNGKey) -> Any:
        """The regions of images [B, S, S, 3] in [-1, 1] outside of training; traceable.

        ``config`` is the model's; ``keys`` are [B].
        """

    def segment(
        self,
        config: Any,
        params: Any,
        keys: chex.PRNGKey,
        images: Any,
        *,
        num_steps: int = 0,
        num_restarts: int = 1,
    ) -> Any:
        """``regions`` of images [B, S, S, 3] uint8; both numbers are ignored."""
        return _segment(self, config.model, params, keys, jnp.asarray(images))

    def check(self, config: Any) -> None:  # noqa: B027 - nothing is refused unless overridden
        pass

    def keeps_in_files(self, config: Any) -> bool:
        return False

    def fresh_chains(self, config: Any, seed: int | jax.Array, index: jax.Array) -> tuple[()]:
        return ()

    def split_chains(self, state: Any) -> tuple[Any, tuple[()]]:
        return state, ()

    def join_chains(self, state: Any, chains: tuple[()]) -> Any:
        return state

    def test_steps(self, config: Any) -> int:
        return 0

    def show(self, config: Any, params: Any, chains: tuple[()], images: Any, seed: int) -> Any:
        keys = jax.random.split(jax.random.key(jnp.asarray(seed, jnp.uint32)), len(images))
        return self.segment(config, params, keys, images)


def start_key(seed: int | jax.Array) -> chex.PRNGKey:
    """The key of a run's fresh parameters, apart from those of its iterations."""
    return jax.random.fold_in(jax.random.key(jnp.asarray(seed, jnp.uint32)), _START)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _segment(
    method: TrainedMethod, model: Any, params: Any, keys: chex.PRNGKey, images: jax.Array
) -> Any:
    return method.regions(model, params, to_floats(images), keys)
