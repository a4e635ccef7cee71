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


@dataclasses.dataclass(frozen=True)
class Memory:
    """What a compiled program holds on the device, in bytes.

    Attributes:
      what_comes_in: its arguments: parameters, optimizer states, chains, images.
      what_goes_out: its results beyond those that take an argument's place.
      temporaries: everything in between, at its most.
    """

    what_comes_in: int
    what_goes_out: int
    temporaries: int

    @property
    def total(self) -> int:
        """The sum of all three."""
        return self.what_comes_in + self.what_goes_out + self.temporaries


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
    steps, per_step, cost = {
        "posterior": (sampler.posterior_steps,) * 2 + (flops.posterior_step(config.model),),
        "prior": (sampler.prior_steps,) * 2 + (flops.prior_step(config.model),),
        "train": (sampler.posterior_steps, 1, flops.train_iteration(config)),
    }[what]
    if what != "train":
        cost *= config.batch_size

    program = _PROGRAMS[what](config)
    arguments = program.arguments()
    start = time.perf_counter()
    compiled = program.lower(*arguments).compile()
    compile_seconds = time.perf_counter() - start
    memory = _memory(compiled)

    def run() -> None:
        nonlocal arguments  # donated in training: each run goes on from the last
        arguments = program.again(arguments, jax.block_until_ready(compiled(*arguments)))

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
        program_bytes=memory.total if memory else None,
    )


def program_memory(config: TrainConfig, what: str) -> Memory | None:
    """Compiles one part for the default device, from shapes alone, and says what it will hold.

    Args:
      config: the run; its data are not read.
      what: one of ``PARTS``.

    Returns:
      A ``Memory``, or None where the backend does not tell.
    """
    program = _PROGRAMS[what](config)
    return _memory(program.lower(*jax.eval_shape(program.arguments)).compile())


def _memory(compiled: Any) -> Memory | None:
    found = compiled.memory_analysis()
    if found is None:
        return None
    return Memory(
        what_comes_in=found.argument_size_in_bytes,
        what_goes_out=found.output_size_in_bytes - found.alias_size_in_bytes,
        temporaries=found.temp_size_in_bytes,
    )


@dataclasses.dataclass(frozen=True)
class _Program:
    """A jitted part of a config.

    Attributes:
      lower: arguments or their shapes -> what ``jax.jit(...).lower`` returns.
      arguments: makes the arguments of the first run.
      again: (arguments, result) -> the arguments of the next run.
    """

    lower: Callable[..., Any]
    arguments: Callable[[], tuple[Any, ...]]
    again: Callable[[tuple[Any, ...], Any], tuple[Any, ...]]


def _images(config: TrainConfig) -> np.ndarray:
    side = config.model.image_size
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (config.batch_size, side, side, 3), dtype=np.uint8)


def _sampler(config: TrainConfig, energy: Any, steps: int, delta: float) -> _Program:
    """``steps`` Langevin steps on energy(params, z, images)."""

    @jax.jit
    def chains(key: jax.Array, params: Any, z: jax.Array, images: jax.Array) -> jax.Array:
        return langevin.sample(
            key, lambda z: energy(params, z, images), z, num_steps=steps, step_size=delta
        )

    def arguments() -> tuple[Any, ...]:
        params = jax.jit(model.init_params, static_argnums=0)(config.model, jax.random.key(0))
        z = jax.random.normal(jax.random.key(1), (config.batch_size, config.model.latent_dim))
        images = model.to_unit_range(jax.numpy.asarray(_images(config)))
        return jax.random.key(2), params, z, images

    return _Program(chains.lower, arguments, lambda arguments, _: arguments)


def _posterior(config: TrainConfig) -> _Program:
    return _sampler(
        config,
        lambda params, z, images: model.posterior_energy(config.model, params, z, images),
        config.sampler.posterior_steps,
        config.sampler.posterior_step_size,
    )


def _prior(config: TrainConfig) -> _Program:
    return _sampler(
        config,
        lambda params, z, images: model.prior_energy(config.model, params, z),
        config.sampler.prior_steps,
        config.sampler.prior_step_size,
    )


def _train(config: TrainConfig) -> _Program:
    def arguments() -> tuple[Any, ...]:
        state = init_state(config, config.batch_size)
        batch = {
            "image": jax.numpy.asarray(_images(config)),
            "index": jax.numpy.arange(config.batch_size, dtype=jax.numpy.int32),
            "flip": jax.numpy.zeros(config.batch_size, bool),
        }
        return state, batch, config.seed

    def lower(state: Any, batch: Any, seed: Any) -> Any:
        return unchecked_train_step.lower(
            config.model,
            config.sampler,
            config.optimizer,
            state,
            batch,
            seed,
            config.images_at_once,
        )

    return _Program(lower, arguments, lambda arguments, result: (result[0], *arguments[1:]))


_PROGRAMS = {"posterior": _posterior, "prior": _prior, "train": _train}
