"""Times the parts of a config: DRC's samplers, any method's training step and inference."""

import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from drc_jax import langevin
from drc_jax.benchmark import flops
from drc_jax.config import RunConfig, TrainConfig
from drc_jax.errors import UserError
from drc_jax.evaluation.regions import block_size
from drc_jax.model.energies import posterior_energy, prior_energy
from drc_jax.model.images import to_unit_range
from drc_jax.model.render import init_params
from drc_jax.runs.method import find
from drc_jax.runs.trained import UNTRAINED_SIDE
from drc_jax.runtime import devices
from drc_jax.training import step as training_step
from drc_jax.training.update import in_parts

PARTS = ("posterior", "prior", "segment", "train")


@dataclasses.dataclass(frozen=True)
class Timing:
    """One part of a config, timed.

    Attributes:
      what: one of ``PARTS``.
      batch_size: images or chains at once, over all devices.
      steps: Langevin steps of a run, for ``train`` those of the posterior chains; 1 where a method
        has no sampler.
      compile_seconds: tracing, lowering and compiling, once.
      seconds_min, seconds_median: of one Langevin step, or of one training iteration, over the
        runs, each blocked until ready.
      image_steps_per_second: images (or chains) times Langevin steps per second, from the minimum.
      gflops_per_second: analytic FLOPs of the direct form (``benchmark.flops``) over the minimum;
        None for methods other than DRC.
      peak_bytes: most memory of the first device in use so far in this process, None where the
        backend does not tell.
      program_bytes: arguments, outputs and temporaries of the compiled program on each device,
        None likewise.
    """

    what: str
    batch_size: int
    steps: int
    compile_seconds: float
    seconds_min: float
    seconds_median: float
    image_steps_per_second: float
    gflops_per_second: float | None
    peak_bytes: int | None
    program_bytes: int | None


@dataclasses.dataclass(frozen=True)
class Memory:
    """What a compiled program holds on each device, in bytes.

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


def parts_of(config: Any) -> tuple[str, ...]:
    """Those of ``PARTS`` that a config of any method has.

    DRC has two samplers, one of which is its inference; other methods have an inference of one
    block of images (``evaluation.regions.block_size``). What is trained has a training step.
    """
    if isinstance(config, TrainConfig):
        return ("posterior", "prior", "train")
    return ("segment", "train") if isinstance(config, RunConfig) else ("segment",)


def batch_size(config: Any, what: str) -> int:
    """Images or chains at once in a part, over all devices.

    Raises:
      UserError: if the config has no such part.
    """
    if what not in parts_of(config):
        raise UserError(
            f"{config.method} has no part {what!r} to time; it has {', '.join(parts_of(config))}"
        )
    return block_size() if what == "segment" else config.batch_size


def benchmark(config: Any, what: str, *, repeats: int) -> Timing:
    """Times one part of ``config`` on random images with fresh weights.

    Args:
      config: of any method; its data are not read.
      what: one of ``parts_of(config)``.
      repeats: timed runs, at least 1, after one that is not counted.

    Returns:
      A ``Timing``.

    Raises:
      UserError: if the devices of ``config.num_devices`` are not there, or there is no such part.
    """
    size = batch_size(config, what)
    program = _program(config, what)
    steps, per_step, cost = 1, 1, None
    if isinstance(config, TrainConfig):
        steps, per_step, cost = _steps_and_flops(config, what)
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
    image_steps = size * (steps if what == "train" else 1)
    statistics_of_device = jax.devices()[0].memory_stats() or {}
    return Timing(
        what=what,
        batch_size=size,
        steps=steps,
        compile_seconds=compile_seconds,
        seconds_min=fastest,
        seconds_median=statistics.median(seconds),
        image_steps_per_second=image_steps / fastest,
        gflops_per_second=None if cost is None else cost / fastest / 1e9,
        peak_bytes=statistics_of_device.get("peak_bytes_in_use"),
        program_bytes=memory.total if memory else None,
    )


def _steps_and_flops(config: TrainConfig, what: str) -> tuple[int, int, int]:
    """Of a part of DRC: Langevin steps, by how many a run's time is divided, FLOPs of that."""
    posterior_steps, prior_steps = config.sampler.posterior_steps, config.sampler.prior_steps
    return {
        "posterior": (
            posterior_steps,
            posterior_steps,
            config.batch_size * flops.posterior_step(config.model),
        ),
        "prior": (prior_steps, prior_steps, config.batch_size * flops.prior_step(config.model)),
        "train": (posterior_steps, 1, flops.train_iteration(config)),
    }[what]


def program_memory(config: Any, what: str) -> Memory | None:
    """Compiles one part for its devices, from shapes alone, and says what it will hold.

    Args:
      config: of any method; its data are not read.
      what: one of ``parts_of(config)``.

    Returns:
      A ``Memory``, or None where the backend does not tell or nothing is compiled.

    Raises:
      UserError: if the devices of ``config.num_devices`` are not there.
    """
    program = _program(config, what)
    return _memory(program.lower(*jax.eval_shape(program.arguments)).compile())


class _Uncompiled(NamedTuple):
    """A function of NumPy arrays, used as JAX's jitted functions are where they are timed."""

    function: Callable[..., Any]

    def lower(self, *arguments: Any) -> "_Uncompiled":
        return self

    def compile(self) -> Callable[..., Any]:
        return self.function


def _memory(compiled: Any) -> Memory | None:
    found = compiled.memory_analysis() if hasattr(compiled, "memory_analysis") else None
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


def _images(count: int, side: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def sampler(config: TrainConfig, what: str) -> Any:
    """The Langevin chains of one part, as training runs them.

    Args:
      config: says how many steps of which size, in what parts, on how many devices.
      what: ``posterior`` or ``prior``.

    Returns:
      A jitted function of parameters, one random key per image [B], latents [B, D] and images
      [B, H, W, 3] in [-1, 1] to the latents after all steps. Its arguments lie as
      ``devices.on_all`` and ``devices.by_rows`` say, or are moved there.

    Raises:
      UserError: if the devices of ``config.num_devices`` are not there.
    """
    mesh = devices.data_mesh(config.num_devices)
    rows, on_all = devices.by_rows(mesh), devices.on_all(mesh)
    steps = config.sampler.posterior_steps, config.sampler.posterior_step_size
    if what == "prior":
        steps = config.sampler.prior_steps, config.sampler.prior_step_size

    def some(params: Any, keys: jax.Array, z: jax.Array, images: jax.Array) -> jax.Array:
        def energy(z: jax.Array) -> jax.Array:
            if what == "prior":
                return prior_energy(config.model, params, z)
            return posterior_energy(config.model, params, z, images)

        return langevin.sample(keys, energy, z, num_steps=steps[0], step_size=steps[1])

    def share(params: Any, *inputs: jax.Array) -> jax.Array:
        count = len(inputs[0]) // (config.images_at_once or len(inputs[0]))
        if count == 1:
            return some(params, *inputs)
        z = jax.lax.map(lambda part: some(params, *part), in_parts(inputs, count))
        return z.reshape(-1, z.shape[-1])

    places = (on_all, rows, rows, rows)
    chains = devices.on_each(mesh, share, tuple(place.spec for place in places), rows.spec)
    return jax.jit(chains, in_shardings=places)


def _sampler(config: TrainConfig, what: str) -> _Program:
    def arguments() -> tuple[Any, ...]:
        mesh = devices.data_mesh(config.num_devices)
        params = jax.jit(init_params, static_argnums=0)(config.model, jax.random.key(0))
        keys = jax.random.split(jax.random.key(2), config.batch_size)
        z = jax.random.normal(jax.random.key(1), (config.batch_size, config.model.latent_dim))
        images = to_unit_range(jax.numpy.asarray(_images(config.batch_size, config.image_size)))
        inputs = jax.device_put((keys, z, images), devices.by_rows(mesh))
        return jax.device_put(params, devices.on_all(mesh)), *inputs

    return _Program(sampler(config, what).lower, arguments, lambda arguments, _: arguments)


def _train(config: RunConfig) -> _Program:
    mesh, method = devices.data_mesh(config.num_devices), find(config.method)
    step_config = method.step_config(config)

    def arguments() -> tuple[Any, ...]:
        state = training_step.fresh_state(method, config, mesh)
        chains = training_step.fresh_chains(method, config, mesh, config.batch_size)
        chains = jax.tree.map(lambda bank: bank[:, 0], chains)
        rows = devices.by_rows(mesh)
        images = _images(config.batch_size, config.image_size)
        return state, *jax.device_put((chains, images), rows), np.uint32(config.seed)

    def lower(state: Any, chains: Any, images: Any, seed: Any) -> Any:
        state = devices.placed_shapes(state, devices.on_all(mesh))
        chains, images = devices.placed_shapes((chains, images), devices.by_rows(mesh))
        return training_step.step.lower(method, mesh, step_config, state, chains, images, seed)

    return _Program(lower, arguments, lambda arguments, result: (*result[:2], *arguments[2:]))


def _segment(config: Any) -> _Program:
    method = find(config.method)
    images = _images(block_size(), getattr(config, "image_size", UNTRAINED_SIDE))

    def regions(params: Any, keys: Any, images: Any) -> Any:
        return method.segment(config, params, keys, images)

    def arguments() -> tuple[Any, ...]:
        params = jax.jit(lambda: method.fresh_state(config).params)() if is_trained else None
        return params, jax.random.split(jax.random.key(0), len(images)), images

    is_trained = isinstance(config, RunConfig)
    program: Any = jax.jit(regions) if is_trained else _Uncompiled(regions)
    return _Program(program.lower, arguments, lambda arguments, _: arguments)


def _program(config: Any, what: str) -> _Program:
    if what in ("posterior", "prior"):
        return _sampler(config, what)
    return _train(config) if what == "train" else _segment(config)
