"""Sums and shifts of slices, of which the fast forms are made."""

import functools
from collections.abc import Iterable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Shaped


def total(terms: Iterable[Shaped[Array, "..."]]) -> Shaped[Array, "..."]:
    """The sum of arrays of one shape, of at least one."""
    return functools.reduce(jnp.add, terms)


def padded(x: Shaped[Array, "..."], axis: int, before: int, after: int) -> Shaped[Array, "..."]:
    """x with so many zeros before and after along one axis; negative numbers cut."""
    padding = [(0, 0, 0)] * x.ndim
    padding[axis] = (before, after, 0)
    return jax.lax.pad(x, jnp.zeros((), x.dtype), padding) if before or after else x


def moved(x: Shaped[Array, "..."], axis: int, offset: int) -> Shaped[Array, "..."]:
    """x[i + offset] along one axis, zeros from outside."""
    return padded(x, axis, -offset, offset)
