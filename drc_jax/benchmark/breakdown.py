"""The posterior step taken apart: what each layer costs, at the least and as measured.

A layer is timed forward and backward to its input inside a loop, as the sampler runs it, so that
dispatch does not count. Its bound is what this device would need at its measured rate of matrix
products, or at its measured rate of copying, whichever takes longer.
"""

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from drc_jax import ops
from drc_jax.benchmark import flops
from drc_jax.config import ModelConfig, TrainConfig
from drc_jax.model import energies, networks, regions
from drc_jax.model.render import Regions, init_params

_LONG_ENOUGH = 0.2  # seconds of one timed loop


@dataclasses.dataclass(frozen=True)
class Layer:
    """One layer of the posterior step, for the whole batch, forward and backward to its input.

    Attributes:
      name: which layer, with channels and sides.
      count: how many there are.
      flops: of all of them in the direct form (``drc_jax.flops``), 2 per multiply-add.
      least_flops: with up-sampling convolutions mixed at low resolution, a quarter of theirs.
      bytes: of all of them: input, output and weights once in each direction, and no more.
      function: (weights, input) -> output, pytrees.
      weights, inputs: shapes of its arguments, pytrees of ``jax.ShapeDtypeStruct``.
    """

    name: str
    count: int
    flops: int
    least_flops: int
    bytes: int
    function: Callable[[Any, Any], Any]
    weights: Any
    inputs: Any


@dataclasses.dataclass(frozen=True)
class LayerTiming:
    """A ``Layer`` measured.

    Attributes:
      name, count, flops, least_flops, bytes: see ``Layer``.
      seconds: of all of them, the fastest of several runs.
      bound_seconds: the least this device needs for ``least_flops`` and ``bytes``.
    """

    name: str
    count: int
    flops: int
    least_flops: int
    bytes: int
    seconds: float
    bound_seconds: float


@dataclasses.dataclass(frozen=True)
class Device:
    """What the device was measured to do at most.

    Attributes:
      flops_per_second: of a large square matrix product in the model's precision.
      copies: (bytes of an array, bytes read and written per second by copying it), from small to
        large: what a cache holds moves faster.
    """

    flops_per_second: float
    copies: tuple[tuple[int, float], ...]

    def bytes_per_second(self, size: int) -> float:
        """The rate of the smallest copied array of at least ``size`` bytes, or of the largest."""
        return next((rate for held, rate in self.copies if held >= size), self.copies[-1][1])

    def bound(self, layer: Layer) -> float:
        """Seconds below which ``layer`` cannot come."""
        # One way of one of them, read and written: what it holds is half of what it moves.
        held = layer.bytes // (4 * layer.count)
        products = layer.least_flops / self.flops_per_second
        return max(products, layer.bytes / self.bytes_per_second(held))


@dataclasses.dataclass(frozen=True)
class Breakdown:
    """The posterior step by layer.

    Attributes:
      device: rates that the bounds come from, measured in the same run.
      step_seconds: of the whole step.
      layers: in the order of the forward pass.
    """

    device: Device
    step_seconds: float
    layers: tuple[LayerTiming, ...]


def _array(*shape: int, dtype: ops.DType = None) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype or jnp.float32)


def _size(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _layer(
    name: str,
    function: Callable[[Any, Any], Any],
    weights: Any,
    inputs: Any,
    *,
    count: int = 1,
    multiply_adds: int = 0,
    saving: int = 1,
) -> Layer:
    """A layer of ``multiply_adds`` forward; backward to the input has as many."""
    outputs = jax.eval_shape(function, weights, inputs)
    total = 4 * count * multiply_adds
    moved = 2 * count * (_size(weights) + _size(inputs) + _size(outputs))
    return Layer(name, count, total, total // saving, moved, function, weights, inputs)


def posterior_layers(config: TrainConfig) -> list[Layer]:
    """The layers of one posterior step of a whole batch, in the order of the forward pass.

    Left out are the mixing's sums over regions beside the likelihood, noise, and the move: they
    show as what the whole step takes beyond its parts.
    """
    m, batch = config.model, config.batch_size
    layers = list(_generator_layers(m, batch))
    side = m.image_size
    image = _array(batch, side, side, 4)
    layers.append(
        _layer(
            f"grid_sample, 4 at {side}x{side}",
            lambda _, inputs: ops.grid_sample(*inputs),
            (),
            (image, _array(batch, side, side, 2)),
        )
    )
    layers.append(_likelihood(m, batch))
    latents = _array(batch, m.latent_dim)
    params = jax.eval_shape(lambda key: init_params(m, key), jax.random.key(0))
    mlps = _layer(
        "energy MLPs",
        lambda weights, z: energies.energy(m, {"ebm": weights}, z).total,
        params["ebm"],
        latents,
        multiply_adds=batch * flops.energies_forward(m) // 2,
    )
    return [*layers, mlps]


def _generator_layers(config: ModelConfig, batch: int) -> Iterator[Layer]:
    channels, base = config.generator_channels, networks.BASE_SIZE
    dtype = jnp.bfloat16 if config.precision == "bfloat16" else None
    # The foreground's generator paints every slot.
    slots, outer = config.num_slots, (config.num_slots, 1, 1)
    sizes = (config.zf_dim, config.zb_dim, config.zs_dim)
    for name, latent, count in zip("fbs", sizes, outer, strict=True):
        outputs = base**2 * channels[0]
        yield _layer(
            f"linear {latent} -> {base}x{base}x{channels[0]} ({name})",
            lambda kernel, z: z @ kernel,
            _array(latent, outputs),
            _array(batch, latent),
            count=count,
            multiply_adds=batch * latent * outputs,
        )
    for i, (before, after) in enumerate(itertools.pairwise(channels)):
        side = base * 2**i
        # The re-assignment generator reads the background's base beside its own.
        inputs = [(before, slots + 1), (2 * before, 1)] if i == 0 else [(before, slots + 2)]
        for width, count in inputs:
            yield _layer(
                f"up-conv {width} -> {after} to {2 * side}x{2 * side}",
                lambda kernel, x: ops.upsample_conv(x, kernel, dtype),
                _array(3, 3, width, after),
                _array(batch, side, side, width, dtype=dtype),
                count=count,
                multiply_adds=9 * batch * width * after * (2 * side) ** 2,
                saving=4,
            )
        yield _layer(
            f"norm, leaky {after} at {2 * side}x{2 * side}",
            lambda weights, x: ops.instance_norm(x, *weights, slope=networks.BLOCK_SLOPE),
            (_array(after), _array(after)),
            _array(batch, 2 * side, 2 * side, after, dtype=dtype),
            count=slots + 2,
        )
    side, last = config.image_size, channels[-1]
    for outputs, count in ((4, slots + 1), (2, 1)):
        yield _layer(
            f"head {last} -> {outputs} at {side}x{side}",
            lambda kernel, x: ops.conv3x3(x, kernel, dtype),
            _array(3, 3, last, outputs),
            _array(batch, side, side, last, dtype=dtype),
            count=count,
            multiply_adds=9 * batch * last * outputs * side**2,
        )


def _likelihood(config: ModelConfig, batch: int) -> Layer:
    side = config.image_size

    def image_terms(image: jax.Array, inputs: tuple[jax.Array, jax.Array]) -> jax.Array:
        """-J + TV of all regions' colours and mask logits, as ``posterior_energy`` has it."""
        raw, logits = inputs
        log_pi = regions.log_mixing_weights(ops.Planes.of(logits, region=1)).array(region=1)
        zeros = jnp.zeros((batch, side, side, 3))
        rendered = Regions(
            jnp.tanh(raw), jnp.exp(log_pi), zeros, zeros[..., :2], zeros, log_pi, logits
        )
        return energies.image_energy(config, rendered, image)

    shape = (batch, config.num_slots + 1, side, side)
    return _layer(
        f"likelihood, TV at {side}x{side}",
        image_terms,
        _array(batch, side, side, 3),
        (_array(*shape, 3), _array(*shape)),
    )


def measure_device(
    precision: str, *, side: int = 0, megabytes: tuple[int, ...] = (1, 8, 64, 256)
) -> Device:
    """Measures the device's rate of matrix products and of copying.

    Args:
      precision: of the products, as in ``ModelConfig``.
      side: of the square matrices; 0 for 2048 on a CPU and 8192 elsewhere.
      megabytes: of the copied arrays, from small to large.
    """
    side = side or (2048 if ops.on_cpu() else 8192)
    dtype = jnp.bfloat16 if precision == "bfloat16" else jnp.float32
    matrix = (jax.random.normal(jax.random.key(0), (side, side)) / side**0.5).astype(dtype)
    with _products(precision):
        product = _seconds_per_turn(lambda matrix, x: x @ matrix, matrix, matrix)

    def copying(size: int) -> float:
        array = jnp.zeros((size // 4,))
        return 2 * size / _seconds_per_turn(lambda one, x: x + one, jnp.ones(()), array)

    sizes = [2**20 * count for count in megabytes]
    return Device(2 * side**3 / product, tuple((size, copying(size)) for size in sizes))


def _products(precision: str) -> Any:
    """The context in which products of float32 arrays have a ``ModelConfig``'s precision."""
    return jax.default_matmul_precision("tensorfloat32" if precision == "tf32" else "float32")


def measure(layer: Layer, device: Device, precision: str) -> LayerTiming:
    """Times ``layer`` on random numbers, float32 products in ``precision``."""
    keys = iter(jax.random.split(jax.random.key(0), 64))

    def random(leaf: jax.ShapeDtypeStruct) -> jax.Array:
        return 0.5 * jax.random.normal(next(keys), leaf.shape, leaf.dtype)

    def both_ways(weights: Any, inputs: Any) -> Any:
        outputs, backward = jax.vjp(lambda x: layer.function(weights, x), inputs)
        (slopes,) = backward(outputs)
        # Not inputs + 0: each turn has to wait for the last, and the numbers stay.
        return jax.tree.map(lambda x, slope: x + 0.0 * slope, inputs, slopes)

    weights, inputs = (jax.tree.map(random, tree) for tree in (layer.weights, layer.inputs))
    with _products(precision):
        seconds = _seconds_per_turn(both_ways, weights, inputs)
    return LayerTiming(
        name=layer.name,
        count=layer.count,
        flops=layer.flops,
        least_flops=layer.least_flops,
        bytes=layer.bytes,
        seconds=layer.count * seconds,
        bound_seconds=device.bound(layer),
    )


def _seconds_per_turn(step: Callable[[Any, Any], Any], constants: Any, state: Any) -> float:
    """Seconds of one ``state = step(constants, state)`` inside a loop, the fastest of three."""

    @jax.jit
    def loop(turns: jax.Array, constants: Any, state: Any) -> Any:
        return jax.lax.fori_loop(0, turns, lambda _, state: step(constants, state), state)

    def seconds(turns: int) -> float:
        start = time.perf_counter()
        jax.block_until_ready(loop(turns, constants, state))
        return time.perf_counter() - start

    seconds(1)
    turns = max(1, round(_LONG_ENOUGH / seconds(1)))
    return min(seconds(turns) for _ in range(3)) / turns
