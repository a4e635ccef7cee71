"""A second method, as small as a method can be: one number per region, chains that count visits."""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from drc_jax.config import DataConfig, RunConfig

_DATA = DataConfig(dataset="noise", path="noise")


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeanConfig(RunConfig):
    """What the loop needs, and a rate."""

    method: ClassVar[str] = "mean"
    data: DataConfig = _DATA
    rate: float = 0.25
    image_size: int = 8
    batch_size: int = 4
    iterations: int = 8
    seed: int = 3
    log_every: int = 1
    image_every: int = 4
    checkpoint_every: int = 2


@flax.struct.dataclass
class MeanState:
    step: jax.Array
    params: dict[str, jax.Array]
    visits: Any = None


class MeanRegions(NamedTuple):
    images: jax.Array
    pi: jax.Array
    reconstruction: jax.Array

    @property
    def foreground_weight(self) -> jax.Array:
        return 1.0 - self.pi[:, -1]


@dataclasses.dataclass(frozen=True)
class Mean:
    """Learns the mean brightness; what is brighter is foreground. Every image counts its visits."""

    name = "mean"
    config_type = MeanConfig

    def check(self, config):
        pass

    def step_config(self, config):
        return config.rate

    def keeps_in_files(self, config):
        return False

    def fresh_state(self, config):
        return MeanState(jnp.int32(0), {"mean": jnp.zeros(())})

    def fresh_chains(self, config, seed, index):
        return jnp.zeros((len(index), 2, 1)) + jax.random.uniform(jax.random.key(seed))

    def split_chains(self, state):
        return dataclasses.replace(state, visits=None), state.visits

    def join_chains(self, state, chains):
        return dataclasses.replace(state, visits=chains)

    def update(self, rate, state, images, keys, chains, axis_name=None):
        """Depends on all that a resumed run has to bring back: images, order, keys, chains."""
        brightness = jnp.mean(images.astype(jnp.float32)) / 127.5 - 1.0
        noise = jax.vmap(jax.random.normal)(keys)
        brightness += 0.1 * jnp.mean(noise) + 0.1 * jnp.mean(chains)
        if axis_name is not None:
            brightness = jax.lax.pmean(brightness, axis_name)
        mean = state.params["mean"] + rate * (brightness - state.params["mean"])
        metrics = {"generator_loss": jnp.square(brightness - mean), "latents_finite": jnp.ones(())}
        state = dataclasses.replace(state, step=state.step + 1, params={"mean": mean})
        return state, chains + 1.0, metrics

    def test_steps(self, config):
        return 0

    def segment(self, config, params, keys, images, *, num_steps=0, num_restarts=1):
        return _regions(params, jnp.asarray(images))

    def show(self, config, params, chains, images, seed):
        return _regions(params, jnp.asarray(images))

    def advice(self, problem):
        return "try a smaller rate"


@jax.jit
def _regions(params, images) -> MeanRegions:
    x = images.astype(jnp.float32) / 127.5 - 1.0
    bright = (jnp.mean(x, axis=-1) > params["mean"]).astype(jnp.float32)
    painted = jnp.stack([jnp.ones_like(x), -jnp.ones_like(x)], axis=1)
    pi = jnp.stack([bright, 1.0 - bright], axis=1)
    return MeanRegions(painted, pi, x)


@dataclasses.dataclass(frozen=True)
class Spoiled(Mean):
    """``Mean`` whose results after some steps are spoilt, for tests of what the loop does then.

    Attributes:
      metrics: (step, name, value) of what to report instead.
      mean: (step, value) of the parameter after that step.
    """

    metrics: tuple[tuple[int, str, float], ...] = ()
    mean: tuple[int, float] | None = None

    def update(self, rate, state, images, keys, chains, axis_name=None):
        new, chains, metrics = super().update(rate, state, images, keys, chains, axis_name)
        for step, name, value in self.metrics:
            old = metrics.get(name, jnp.zeros(()))
            metrics[name] = jnp.where(new.step == step, np.float32(value), old)
        if self.mean is not None:
            step, value = self.mean
            mean = jnp.where(new.step == step, np.float32(value), new.params["mean"])
            new = dataclasses.replace(new, params={"mean": mean})
        return new, chains, metrics
