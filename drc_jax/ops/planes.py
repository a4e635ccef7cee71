"""Pixels of a few regions and channels as planes, with arithmetic over those axes by name.

XLA's arithmetic on whole planes vectorises; on channels three by three it does not. And it forgets
a stack that is only taken apart again, forward and backward, so arrays may be turned into planes
and back at every border between rooms.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from drc_jax.ops.slices import total

_ORDER = ("region", "channel")


def taken_apart(x: Float[Array, "..."], axis: int = -1) -> list[Array]:
    """The slices of ``x`` along an axis, without it; ``jnp.stack`` undoes it.

    Split, not indexed: indexing would pad and add in the backward pass.
    """
    axis %= x.ndim
    return [jnp.squeeze(p, axis) for p in jax.lax.split(x, [1] * x.shape[axis], axis)]


@jax.tree_util.register_pytree_node_class
@dataclasses.dataclass(frozen=True)
class Planes:
    """Arrays of one shape, usually [B, H, W], one for each index of a few small axes.

    The axes are named ``region`` and ``channel``. Operands of ``+ - * /`` are numbers or planes; an
    axis that only one operand has is broadcast, so ``log_pi + log_p`` adds a region's weight to
    each of its channels.

    Attributes:
      axes: (name, size) of each small axis, regions before channels.
      planes: the arrays, the last axis fastest.
    """

    axes: tuple[tuple[str, int], ...]
    planes: tuple[Any, ...]

    @classmethod
    def of(cls, x: Float[Array, "..."], **places: int) -> "Planes":
        """Takes an array apart: ``Planes.of(images, region=1, channel=-1)``.

        Args:
          x: any array.
          **places: name to axis of ``x``, outer names first; the next place counts without it.
        """
        parts, axes = [x], []
        for name, axis in places.items():
            axes.append((name, parts[0].shape[axis]))
            parts = [plane for part in parts for plane in taken_apart(part, axis)]
        return cls(tuple(axes), tuple(parts))

    def array(self, **places: int) -> Array:
        """What ``of`` undoes, with the same ``places``."""
        parts = list(self.planes)
        sizes = dict(self.axes)
        assert list(places) == list(sizes), f"planes have the axes {list(sizes)}"
        for name, axis in reversed(places.items()):
            size = sizes[name]
            parts = [jnp.stack(parts[i : i + size], axis) for i in range(0, len(parts), size)]
        return parts[0]

    @classmethod
    def stack(cls, name: str, parts: Sequence["Planes"]) -> "Planes":
        """Planes of the same axes side by side on a new outermost axis."""
        planes = tuple(plane for part in parts for plane in part.planes)
        return cls(((name, len(parts)), *parts[0].axes), planes)

    def along(self, name: str) -> list["Planes"]:
        """Every index of an axis, without it; for the outermost axis ``stack`` undoes it."""
        return [self.at(name, index) for index in range(dict(self.axes)[name])]

    def at(self, name: str, index: int | slice) -> "Planes":
        """One index of an axis, which disappears; with a slice, some of them."""
        size = dict(self.axes)[name]
        chosen = range(size)[index]
        if isinstance(chosen, int):
            axes = tuple(axis for axis in self.axes if axis[0] != name)
            return self._gathered(axes, lambda place: self._at({**place, name: chosen}))
        axes = tuple((n, len(chosen) if n == name else size) for n, size in self.axes)
        return self._gathered(axes, lambda place: self._at({**place, name: chosen[place[name]]}))

    def added(self, name: str, index: int, other: "Planes") -> "Planes":
        """Itself, with ``other`` added at one index of an axis that ``other`` does not have."""
        size = dict(self.axes)[name]
        place = index % size
        return self._gathered(
            self.axes,
            lambda at: self._at(at) + other._at(at) if at[name] == place else self._at(at),
        )

    def sum(self, name: str) -> "Planes":
        """Sums over an axis, which disappears."""
        return self._reduced(name, total)

    def max(self, name: str) -> "Planes":
        """The largest along an axis, which disappears."""
        return self._reduced(name, functools.partial(functools.reduce, jnp.maximum))

    def pixel_sums(self) -> Float[Array, " b"]:
        """Sums over pixels and all small axes of planes [B, H, W]."""
        return jnp.sum(total(self.planes), axis=(1, 2))

    def mean(self) -> Float[Array, ""]:
        """The mean over everything."""
        return jnp.mean(total(self.planes)) / len(self.planes)

    def __add__(self, other: "Planes | float") -> "Planes":
        return each(jnp.add, self, other)

    def __sub__(self, other: "Planes | float") -> "Planes":
        return each(jnp.subtract, self, other)

    def __mul__(self, other: "Planes | float") -> "Planes":
        return each(jnp.multiply, self, other)

    def __truediv__(self, other: "Planes | float") -> "Planes":
        return each(jnp.divide, self, other)

    def __rmul__(self, other: float) -> "Planes":
        return each(jnp.multiply, other, self)

    def __neg__(self) -> "Planes":
        return each(jnp.negative, self)

    def _at(self, place: dict[str, int]) -> Array:
        """The plane at an index of every axis; others in ``place`` do not matter."""
        index = 0
        for name, size in self.axes:
            index = index * size + place[name]
        return self.planes[index]

    def _reduced(self, name: str, reduce: Callable[[Any], Array]) -> "Planes":
        size = dict(self.axes)[name]
        axes = tuple(axis for axis in self.axes if axis[0] != name)
        return self._gathered(
            axes, lambda place: reduce([self._at({**place, name: i}) for i in range(size)])
        )

    @classmethod
    def _gathered(
        cls, axes: tuple[tuple[str, int], ...], plane: Callable[[dict[str, int]], Array]
    ) -> "Planes":
        return cls(axes, tuple(plane(place) for place in _places(axes)))

    def tree_flatten(self) -> tuple[tuple[Any, ...], tuple[tuple[str, int], ...]]:
        """The arrays, and what says which is which."""
        return self.planes, self.axes

    @classmethod
    def tree_unflatten(cls, axes: tuple[tuple[str, int], ...], planes: Sequence[Any]) -> "Planes":
        """What ``tree_flatten`` undoes."""
        return cls(axes, tuple(planes))


def _places(axes: tuple[tuple[str, int], ...]) -> Iterator[dict[str, int]]:
    """All indices of all axes by name, the last axis fastest."""
    for index in itertools.product(*(range(size) for _, size in axes)):
        yield dict(zip((name for name, _ in axes), index, strict=True))


def each(function: Callable[..., Array], *operands: Planes | float) -> Planes:
    """``function`` of the planes at every index; numbers stay what they are."""
    sizes = {name: size for x in operands if isinstance(x, Planes) for name, size in x.axes}
    axes = tuple((name, sizes[name]) for name in _ORDER if name in sizes)
    for x in operands:
        assert not isinstance(x, Planes) or set(x.axes) <= set(axes), f"{x.axes} beside {axes}"
    return Planes._gathered(
        axes,
        lambda place: function(*(x._at(place) if isinstance(x, Planes) else x for x in operands)),
    )


def log_sum_exp(x: Planes, name: str) -> Planes:
    """log sum exp over an axis, which disappears."""
    highest = jax.lax.stop_gradient(x.max(name))
    return highest + each(jnp.log, each(jnp.exp, x - highest).sum(name))
