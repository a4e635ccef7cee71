"""Times the two samplers and the training step of a config."""

import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from drc_jax import flops, langevin, model
from drc_jax.config import TrainConfig
from drc_jax.train_state import init_state
from drc_jax.train_step import unchecked_train_step

PARTS = ("posterior", "prior", "train")


@dataclasses.dataclass(frozen=True)
class Timing:
    """One part of a config, timed.

    Attributes:
      what: ``posterior``, ``prior`` or ``train``.
      batch_size: images or chains at once.
      steps: Langevin steps of a run; for ``train`` those of the posterior chains.
      compile_seconds: tracing, lowering and compiling, once.
      seconds_min, seconds_median: of one Langevin step, or of one training iteration, over the
        runs, each blocked until ready.
      image_steps_per_second: images (or chains) times Langevin steps per second, from the minimum.
      gflops_per_second: analytic FLOPs of the direct form (``drc_jax.flops``) over the minimum.
      peak_bytes: most device memory in use so far in this process, None where the backend does
        not tell.
      program_bytes: arguments, outputs and temporaries of the compiled program, None likewise.
    """

    what: str
    batch_size: int
    steps: int
    compile_seconds: float
    seconds_min: float
    seconds_median: float
    image_steps_per_second: float
    gflops_per_second: float
    peak_bytes: int | None
    program_bytes: int | None


def benchmark(config: TrainConfig, what: str, *, repeats: int) -> Timing:
    """Times one part of ``config`` on random images with fresh weights.

    Args:
      config: the run; its data are not read.
      what: one of ``PARTS``.
      repeats: timed runs, at least 1, after one that is not counted.

    Returns:
      A ``Timing``.
    """
    sampler = config.sampler
    run, compile_seconds, program_bytes = _COMPILERS[what](config)
    steps, per_step, cost = {
        "posterior": (sampler.posterior_steps,) * 2 + (flops.posterior_step(config.model),),
        "prior": (sampler.prior_steps,) * 2 + (flops.prior_step(config.model),),
        "train": (sampler.posterior_steps, 1, flops.train_iteration(config)),
    }[what]
    if what != "train":
        cost *= config.batch_size

    run()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        seconds.append((time.perf_counter() - start) / per_step)
    fastest = min(seconds)
    image_steps = config.batch_size * (steps if what == "train" else 1)
    statistics_of_device = jax.devices()[0].memory_stats() or {}
    return Timing(
        what=what,
        batch_size=config.batch_size,
        steps=steps,
        compile_seconds=compile_seconds,
        seconds_min=fastest,
        seconds_median=statistics.median(seconds),
        image_steps_per_second=image_steps / fastest,
        gflops_per_second=cost / fastest / 1e9,
        peak_bytes=statistics_of_device.get("peak_bytes_in_use"),
        program_bytes=program_bytes,
    )


_Compiled = tuple[Callable[[], None], float, int | None]


def _compile(function: Any, *arguments: Any) -> tuple[Any, float, int | None]:
    """The compiled function, the seconds it took and the memory it needs."""
    start = time.perf_counter()
    compiled = function.lower(*arguments).compile()
    seconds = time.perf_counter() - start
    memory = compiled.memory_analysis()
    if memory is None:
        return compiled, seconds, None
    needed = memory.argument_size_in_bytes + memory.temp_size_in_bytes
    return compiled, seconds, needed + memory.output_size_in_bytes - memory.alias_size_in_bytes


def _images(config: TrainConfig) -> np.ndarray:
    side = config.model.image_size
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (config.batch_size, side, side, 3), dtype=np.uint8)


def _sampler(config: TrainConfig, energy: Any, steps: int, delta: float) -> _Compiled:
    """Compiles ``steps`` Langevin steps on energy(params, z, images)."""
    params = jax.jit(model.init_params, static_argnums=0)(config.model, jax.random.key(0))
    images = model.to_unit_range(jax.numpy.asarray(_images(config)))
    z = jax.random.normal(jax.random.key(1), (config.batch_size, config.model.latent_dim))

    @jax.jit
    def chains(key: jax.Array, params: Any, z: jax.Array, images: jax.Array) -> jax.Array:
        return langevin.sample(
            key, lambda z: energy(params, z, images), z, num_steps=steps, step_size=delta
        )

    key = jax.random.key(2)
    compiled, seconds, memory = _compile(chains, key, params, z, images)
    return lambda: compiled(key, params, z, images).block_until_ready(), seconds, memory


def _posterior(config: TrainConfig) -> _Compiled:
    return _sampler(
        config,
        lambda params, z, images: model.posterior_energy(config.model, params, z, images),
        config.sampler.posterior_steps,
        config.sampler.posterior_step_size,
    )


def _prior(config: TrainConfig) -> _Compiled:
    return _sampler(
        config,
        lambda params, z, images: model.prior_energy(config.model, params, z),
        config.sampler.prior_steps,
        config.sampler.prior_step_size,
    )


def _train(config: TrainConfig) -> _Compiled:
    state = init_state(config, config.batch_size)
    batch = {
        "image": _images(config),
        "index": np.arange(config.batch_size, dtype=np.int32),
        "flip": np.zeros(config.batch_size, bool),
    }
    compiled, seconds, memory = _compile(
        unchecked_train_step,
        config.model,
        config.sampler,
        config.optimizer,
        state,
        batch,
        config.seed,
    )

    def run() -> None:
        nonlocal state  # donated: each run goes on from the last
        state, _ = compiled(state, batch, config.seed)
        jax.block_until_ready(state)

    return run, seconds, memory


_COMPILERS = {"posterior": _posterior, "prior": _prior, "train": _train}
