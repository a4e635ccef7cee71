"""Everything that persuades XLA: which forms suit the backend, and what it has to store."""

from typing import TypeVar

import jax
import jax.numpy as jnp
from jax.experimental.xla_metadata import set_xla_metadata
from jaxtyping import Array, Float

T = TypeVar("T")

DType = jax.typing.DTypeLike | None
"""What operands and results of products are rounded to; None is the dtype of the input."""


def on_cpu() -> bool:
    """Whether programs are made for a CPU; the only place that asks."""
    return jax.default_backend() == "cpu"


def sums_dtype(x: Array) -> jax.typing.DTypeLike:
    """What sums of entries of ``x`` are made in: float32 at least."""
    return x.dtype if x.dtype.itemsize >= 4 else jnp.float32


def fenced(tree: T) -> T:
    """The arrays themselves, which XLA fuses with nothing across this line.

    What comes in is stored as it is, in its dtype; what reads it starts from there. Without a fence
    XLA works cheap arithmetic out again for every reader, or stores a wider type than is needed.
    """
    return jax.lax.optimization_barrier(tree)


def stored(tree: T) -> T:
    """The arrays themselves, which XLA computes once on a CPU, and once their cotangents.

    For sums that several things read. XLA's CPU backend repeats cheap arithmetic in every reader,
    behind a fence too, and so took the image terms' inputs apart nine times over. It keeps a call
    that may not be inlined. Elsewhere this does nothing.
    """
    return jax.tree.map(_stored, tree)


@jax.custom_vjp
def _stored(x: Float[Array, "..."]) -> Float[Array, "..."]:
    if not on_cpu():
        return x
    with set_xla_metadata(inlineable="false"):
        return _behind_a_call(x)


@jax.jit
def _behind_a_call(x: Float[Array, "..."]) -> Float[Array, "..."]:
    return fenced(x)


_stored.defvjp(lambda x: (_stored(x), None), lambda _, cotangent: (_stored(cotangent),))
