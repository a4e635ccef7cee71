"""How ReDO's networks begin.

All numbers of a network come from one draw. A draw for each of its hundred arrays would take XLA
longer to compile than the rest of a training step.
"""

import math
from typing import Any

import chex
import jax
import jax.numpy as jnp
from flax import traverse_util

# Row norms of kernels that start orthogonal.
GAIN = 0.8


def fresh(module: Any, key: chex.PRNGKey, start: str, *inputs: jax.ShapeDtypeStruct) -> dict:
    """Fresh variables of one of ``redo_networks``; traceable.

    Biases are uniform in +-1 / sqrt(fan-in), PyTorch's default; shifts and weights of attention
    are 0; the u of spectral norms are unit vectors of random direction.

    Args:
      module: the network.
      key: JAX random key.
      start: as in ``ReDOModelConfig``.
      inputs: shapes of what the network is called with.

    Returns:
      ``params``, and ``spectral`` where the network has spectral norms.
    """
    shapes = traverse_util.flatten_dict(dict(jax.eval_shape(module.init, key, *inputs)))
    sizes = [math.prod(leaf.shape) for leaf in shapes.values()]
    draws = jax.random.uniform(key, (sum(sizes),), minval=-1.0, maxval=1.0)
    uniform = dict(zip(shapes, jnp.split(draws, _ends(sizes)), strict=True))
    gaussian = dict(zip(shapes, jnp.split(_gaussian(draws), _ends(sizes)), strict=True))

    def value(path: tuple[str, ...], shape: tuple[int, ...]) -> jax.Array:
        name, siblings = path[-1], path[1:-1]
        if name == "u":
            return gaussian[path] / jnp.linalg.norm(gaussian[path])
        if name == "kernel":
            is_spectral = ("spectral", *siblings, "u") in shapes
            if not (is_spectral and start == "released"):
                return orthogonal(gaussian[path].reshape(shape))
        if name in ("kernel", "bias"):
            fan_in = math.prod(shapes["params", *siblings, "kernel"].shape[:-1])
            return uniform[path].reshape(shape) * fan_in**-0.5
        if name == "scale":
            is_uniform = start == "released"
            return 0.5 + 0.5 * uniform[path] if is_uniform else jnp.ones(shape)
        return jnp.zeros(shape)

    values = {path: value(path, leaf.shape) for path, leaf in shapes.items()}
    return traverse_util.unflatten_dict(values)


def orthogonal(kernel: jax.Array) -> jax.Array:
    """GAIN times an orthonormal kernel of the shape of a Gaussian one, [..., C_out].

    It is Q of the kernel's matrix [all but the last, last axis] = Q R with R's diagonal positive.
    Its rows or its columns are orthonormal, whichever are fewer.
    """
    matrix = kernel.reshape(-1, kernel.shape[-1])
    is_wide = matrix.shape[0] < matrix.shape[1]
    q, r = jnp.linalg.qr(matrix.T if is_wide else matrix)
    q = q * jnp.sign(jnp.diagonal(r))[None]
    return GAIN * (q.T if is_wide else q).reshape(kernel.shape)


def _gaussian(draws: jax.Array) -> jax.Array:
    """N(0, 1) of numbers uniform in [-1, 1); the lowest of them would be infinite."""
    return math.sqrt(2.0) * jax.lax.erf_inv(jnp.maximum(draws, -1.0 + 1e-7))


def _ends(sizes: list[int]) -> list[int]:
    return [sum(sizes[: i + 1]) for i in range(len(sizes) - 1)]
