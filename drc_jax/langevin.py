"""Unadjusted Langevin dynamics on any energy function and any pytree of latents.

``step`` is one step and pure; ``sample`` is a loop of it.
"""

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from drc_jax.errors import UserError
from drc_jax.ops import programs

EnergyFn = Callable[[Any], Array]


class Diagnostics(NamedTuple):
    """What a chain did at each of its T steps, measured before the step is taken.

    Attributes:
      energy: what ``energy_fn`` returned, [T, ...].
      gradient_norm: [T], global norm of dU/dz over all leaves and chains.
      mean_square: pytree of [T], mean z^2 of each leaf.
    """

    energy: Float[Array, " t *n"]
    gradient_norm: Float[Array, " t"]
    mean_square: Any


def step(
    key: chex.PRNGKey,
    energy_fn: EnergyFn,
    z: Any,
    *,
    step_size: float | Array,
    temperature: float | Array = 1.0,
    drift_limit: float = 0.0,
    parts: Sequence[int] = (),
) -> Any:
    """z <- z - (delta^2 / 2) dU/dz + sqrt(temperature) delta noise, (3.1) of docs/method.md.

    Args:
      key: JAX random key, or a [B] array of keys, one per chain; see ``sample``.
      energy_fn: maps a pytree like ``z`` to energies of any shape, which are summed.
      z: pytree of float32 latents.
      step_size: delta, greater than 0. Other libraries call delta^2 / 2 the step size.
      temperature: scales the noise's variance, at least 0.
      drift_limit, parts: see ``limited``; 0 follows the gradient as it is.

    Returns:
      The latents after the step.
    """
    _, gradient = _energy_and_gradient(energy_fn, z)
    return _moved(key, z, gradient, step_size, temperature, drift_limit, parts)


def _energy_and_gradient(energy_fn: EnergyFn, z: Any) -> tuple[Array, Any]:
    """U and dU/dz, the energies summed before differentiating."""

    def total_energy(z: Any) -> tuple[Array, Array]:
        energy = _at_least_float32(energy_fn(z))
        return jnp.sum(energy), energy

    gradient, energy = jax.grad(total_energy, has_aux=True)(z)
    return energy, gradient


def _moved(
    key: chex.PRNGKey,
    z: Any,
    gradient: Any,
    step_size: float | Array,
    temperature: float | Array,
    drift_limit: float,
    parts: Sequence[int],
) -> Any:
    """One step along a gradient, and the noise."""
    if drift_limit:
        gradient = limited(z, gradient, step_size, drift_limit, parts)

    def move(leaf: Array, slope: Array, noise: Array) -> Array:
        delta = jnp.asarray(step_size, leaf.dtype)
        scale = delta * jnp.sqrt(jnp.asarray(temperature, leaf.dtype))
        return leaf - 0.5 * delta**2 * slope + scale * noise

    return jax.tree.map(move, z, gradient, _noise_like(key, z))


def limited(
    z: Any,
    gradient: Any,
    step_size: float | Array,
    drift_limit: float | Array,
    parts: Sequence[int] = (),
) -> Any:
    """The gradient that a step with a limited drift follows, (3.3) of docs/method.md.

    The energy is taken as |z|^2 / 2 + R(z). The pull of |z|^2 / 2 stays whole. The gradient of R is
    scaled down, chain by chain and part by part, until its root mean square in the part moves z by
    ``drift_limit`` delta at most. Where it moves z by less, the gradient is returned bit for bit.

    Args:
      z: pytree of latents [..., D].
      gradient: dU/dz, like ``z``.
      step_size: delta.
      drift_limit: largest drift of R in units of the noise delta, greater than 0.
      parts: sizes into which D is cut; empty for one part.

    Returns:
      A pytree like ``gradient``.
    """
    ends = [sum(parts[: i + 1]) for i in range(len(parts) - 1)]

    def leaf(z: Array, slope: Array) -> Array:
        pairs = zip(jnp.split(z, ends, axis=-1), jnp.split(slope, ends, axis=-1), strict=True)
        return jnp.concatenate([part(*pair) for pair in pairs], axis=-1)

    def part(z: Array, slope: Array) -> Array:
        rest = slope - z
        size = jnp.sqrt(jnp.mean(jnp.square(rest), axis=-1, keepdims=True))
        most = 2.0 * jnp.asarray(drift_limit, z.dtype) / jnp.asarray(step_size, z.dtype)
        # A part whose gradient is not a number stays so, and is seen.
        return jnp.where(size <= most, slope, z + rest * (most / size))

    return jax.tree.map(leaf, z, gradient)


def sample(
    key: chex.PRNGKey,
    energy_fn: EnergyFn,
    z: Any,
    *,
    num_steps: int | Array,
    step_size: float | Array,
    temperature: float | Array = 1.0,
    diagnostics: bool = False,
    first_step: int | Array = 0,
    drift_limit: float = 0.0,
    parts: Sequence[int] = (),
) -> Any:
    """Runs ``num_steps`` of ``step``.

    Temperature 1 is the sampler of docs/method.md, "3 Sampling"; temperature 0 is gradient descent
    with rate delta^2 / 2. The noise of step t depends on ``key`` and t alone, so a run of 40 steps
    is the first 40 of a run of 60, and two runs of 20, the second with ``first_step=20``, are one
    of 40. For U = |z|^2 / 2 the stationary variance is 1 / (1 - delta^2 / 4), not 1: no
    Metropolis correction is made. Too large a step size makes chains grow without bound; they are
    returned as they are, infinite or not a number in the end.

    Under ``jit`` this is one loop. Called on its own, it traces ``energy_fn`` every time, takes
    what the function closes over as arguments, and compiles once for every program: a new lambda
    over new arrays costs a trace and keeps nothing alive.

    Args:
      key: JAX random key, or a [B] array of keys, one per chain: chain b then gets the noise that
        it would get alone with key b, whatever chains it is sampled with, so a batch may be cut
        into parts. Every leaf of ``z`` must then have B as its leading axis.
      energy_fn: maps a pytree like ``z`` to energies of any shape, usually [B]. They are summed
        before differentiating, so chains that do not share terms stay independent.
      z: pytree of floating point latents. State and noise are float32 at least, whatever the
        precision ``energy_fn`` computes in.
      num_steps: number of steps, at least 1, static; without ``diagnostics`` it may be traced, and
        the loop is then one whose length is not compiled in.
      step_size: delta, greater than 0. Other libraries call delta^2 / 2 the step size.
      temperature: scales the noise's variance, at least 0.
      diagnostics: also return ``Diagnostics``; costs nothing when off.
      first_step: number of the first step, which selects its noise.
      drift_limit: largest drift beyond the pull of |z|^2 / 2, in units of the noise delta; 0, the
        method, for none. See ``limited`` for what is then sampled; latents must be [B, D].
      parts: sizes of the parts of D that are limited each on its own; empty for one.

    Returns:
      The latents after the last step; with ``diagnostics`` the pair (latents, Diagnostics).

    Raises:
      UserError: if a number is out of range, or latents are no floats. Traced numbers are not
        checked.
    """
    check_numbers(num_steps, step_size, temperature)
    z = jax.tree.map(_latents, z)
    _check_drift_limit(drift_limit, parts, z)
    if has_key_per_chain(key):
        chex.assert_tree_shape_prefix(z, (len(key),))
    # The loop is compiled anyhow, and without a jit of its own shows what the function closes over.
    energy_fn = programs.without_jit(energy_fn)
    limit = {"drift_limit": drift_limit, "parts": tuple(parts)}

    def run(key: Any, z: Any, step_size: Any, temperature: Any, first_step: Any) -> Any:
        options = {"step_size": step_size, "temperature": temperature, **limit}

        def one(index: Array, z: Any) -> Any:
            return step(fold_in(key, index), energy_fn, z, **options)

        def watched(z: Any, index: Array) -> tuple[Any, Diagnostics]:
            energy, gradient = _energy_and_gradient(energy_fn, z)
            squares = [jnp.sum(jnp.square(g)) for g in jax.tree.leaves(gradient)]
            norm = jnp.sqrt(functools.reduce(jnp.add, squares))
            mean_square = jax.tree.map(lambda leaf: jnp.mean(jnp.square(leaf)), z)
            seen = Diagnostics(energy, norm, mean_square)
            return _moved(fold_in(key, index), z, gradient, **options), seen

        if diagnostics:
            return jax.lax.scan(watched, z, first_step + jnp.arange(num_steps))
        return jax.lax.fori_loop(first_step, first_step + num_steps, one, z)

    arguments = (key, z, step_size, temperature, first_step)
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((arguments, num_steps))):
        return run(*arguments)
    return programs.compiled_once(run, *arguments)


def check_numbers(num_steps: Any, step_size: Any, temperature: Any = 1.0) -> None:
    """Refuses what no chain can run with; traced numbers pass.

    Raises:
      UserError: naming the number and what would be right.
    """
    if not isinstance(num_steps, jax.core.Tracer):
        try:
            num_steps = operator.index(num_steps)
        except TypeError:
            raise UserError(f"num_steps must be an integer, got {num_steps!r}") from None
        if num_steps < 1:
            raise UserError(f"num_steps must be at least 1, got {num_steps}")
    for name, value in (("step_size", step_size), ("temperature", temperature)):
        if isinstance(value, jax.core.Tracer):
            continue
        if not _is_number(value):
            raise UserError(f"{name} must be a number, got {value!r}")
        is_zero_allowed = name == "temperature"
        if not np.isfinite(value) or value < 0 or (value == 0 and not is_zero_allowed):
            bound = "at least 0" if is_zero_allowed else "greater than 0"
            raise UserError(f"{name} must be finite and {bound}, got {value}")


def _check_drift_limit(drift_limit: Any, parts: Sequence[int], z: Any) -> None:
    """Refuses a limit of the drift that ``sample`` cannot hold.

    Raises:
      UserError: naming the number or the shape and what would be right.
    """
    if not (_is_number(drift_limit) and np.isfinite(drift_limit) and drift_limit >= 0):
        raise UserError(f"drift_limit must be a finite number of at least 0, got {drift_limit!r}")
    for leaf in jax.tree.leaves(z) if drift_limit else ():
        if leaf.ndim < 2:
            raise UserError(f"drift_limit needs latents [B, D], got shape {leaf.shape}")
        if parts and sum(parts) != leaf.shape[-1]:
            raise UserError(
                f"parts must sum to the {leaf.shape[-1]} latents of a chain, got {tuple(parts)}"
            )


def _is_number(value: Any) -> bool:
    number = np.asarray(value)
    return not number.ndim and number.dtype.kind in "fiu"


def _noise_like(key: chex.PRNGKey, z: Any) -> Any:
    """Standard normal float32 noise of the shapes of ``z``, cast to its dtypes.

    With a [B] array of keys every leaf is [B, ...] and row b depends on key b alone.
    """
    if has_key_per_chain(key):
        return jax.vmap(_noise_like)(key, z)
    leaves, treedef = jax.tree.flatten(z)
    keys = jax.random.split(key, len(leaves))
    noise = [
        jax.random.normal(k, leaf.shape, jnp.float32).astype(leaf.dtype)
        for k, leaf in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(treedef, noise)


def has_key_per_chain(key: chex.PRNGKey) -> bool:
    """Whether ``key`` is a [B] array of keys, of the new style or the old, and not one key."""
    return jax.random.key_data(key).ndim > 1


def fold_in(key: chex.PRNGKey, index: Array) -> chex.PRNGKey:
    """Folds a number into one key, or into each of a [B] array of keys."""
    if has_key_per_chain(key):
        return jax.vmap(jax.random.fold_in, in_axes=(0, None))(key, index)
    return jax.random.fold_in(key, index)


def _at_least_float32(leaf: chex.ArrayTree) -> Array:
    leaf = jnp.asarray(leaf)
    return leaf.astype(jnp.float32) if jnp.finfo(leaf.dtype).bits < 32 else leaf


def _latents(leaf: Any) -> Array:
    leaf = jnp.asarray(leaf)
    if not jnp.issubdtype(leaf.dtype, jnp.floating):
        raise UserError(f"latents must be floats, got {leaf.dtype}; use z.astype('float32')")
    return _at_least_float32(leaf)
