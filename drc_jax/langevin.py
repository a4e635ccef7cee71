"""Unadjusted Langevin dynamics on any energy function and any pytree of latents."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp


class Diagnostics(NamedTuple):
    """What a chain did at each of its T steps, measured before the step is taken.

    Attributes:
      energy: what ``energy_fn`` returned, [T, ...].
      gradient_norm: [T], global norm of dU/dz over all leaves and chains.
      mean_square: pytree of [T], mean z^2 of each leaf.
    """

    energy: jax.Array
    gradient_norm: jax.Array
    mean_square: Any


def _has_key_per_chain(key: chex.PRNGKey) -> bool:
    """Whether ``key`` is a [B] array of keys, of the new style or the old, and not one key."""
    return jax.random.key_data(key).ndim > 1


def _noise_like(key: chex.PRNGKey, z: Any) -> Any:
    """Standard normal float32 noise of the shapes of ``z``, cast to its dtypes.

    With a [B] array of keys every leaf is [B, ...] and row b depends on key b alone.
    """
    if _has_key_per_chain(key):
        return jax.vmap(_noise_like)(key, z)
    leaves, treedef = jax.tree.flatten(z)
    keys = jax.random.split(key, len(leaves))
    noise = [
        jax.random.normal(k, leaf.shape, jnp.float32).astype(leaf.dtype)
        for k, leaf in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(treedef, noise)


def _at_least_float32(leaf: chex.ArrayTree) -> jax.Array:
    leaf = jnp.asarray(leaf)
    return leaf.astype(jnp.float32) if jnp.finfo(leaf.dtype).bits < 32 else leaf


# Jitted here, against the habit that callers jit, because a scan over a fresh closure would be
# traced and compiled again at every eager call; nested in a caller's jit this costs nothing.
@functools.partial(jax.jit, static_argnames=("energy_fn", "num_steps", "diagnostics"))
def sample(
    key: chex.PRNGKey,
    energy_fn: Callable[[Any], jax.Array],
    z: Any,
    *,
    num_steps: int,
    step_size: float | jax.Array,
    temperature: float | jax.Array = 1.0,
    diagnostics: bool = False,
) -> Any:
    """Runs ``num_steps`` of z <- z - (delta^2 / 2) dU/dz + sqrt(temperature) delta noise.

    This is the update of the supplement's appendix D (SPEC section 3) at temperature 1, and
    gradient descent with rate delta^2 / 2 at temperature 0. The noise of step t depends on
    ``key`` and t alone, so a run of 40 steps is the first 40 of a run of 60. For
    U = |z|^2 / 2 the stationary variance is 1 / (1 - delta^2 / 4), not 1: no
    Metropolis correction is made.

    Args:
      key: JAX random key, or a [B] array of keys, one per chain: chain b then gets the noise that
        it would get alone with key b, whatever chains it is sampled with, so a batch may be cut
        into parts. Every leaf of ``z`` must then have B as its leading axis.
      energy_fn: maps a pytree like ``z`` to energies of any shape, usually [B]. They are summed
        before differentiating, so chains that do not share terms stay independent.
      z: pytree of floating point latents. State and noise are float32 at least, whatever the
        precision ``energy_fn`` computes in.
      num_steps: number of steps, static.
      step_size: delta, greater than 0. Other libraries call delta^2 / 2 the step size.
      temperature: scales the noise's variance, at least 0.
      diagnostics: also return ``Diagnostics``; costs nothing when off.

    Returns:
      The latents after the last step; with ``diagnostics`` the pair (latents, Diagnostics).
    """
    z = jax.tree.map(_at_least_float32, z)
    fold_in = jax.random.fold_in
    if _has_key_per_chain(key):
        chex.assert_tree_shape_prefix(z, (len(key),))
        fold_in = jax.vmap(fold_in, in_axes=(0, None))

    def total_energy(state: Any) -> tuple[jax.Array, jax.Array]:
        energy = _at_least_float32(energy_fn(state))
        return jnp.sum(energy), energy

    def step(state: Any, index: jax.Array) -> tuple[Any, Diagnostics | None]:
        gradient, energy = jax.grad(total_energy, has_aux=True)(state)
        noise = _noise_like(fold_in(key, index), state)

        def move(leaf: jax.Array, slope: jax.Array, eps: jax.Array) -> jax.Array:
            delta = jnp.asarray(step_size, leaf.dtype)
            scale = delta * jnp.sqrt(jnp.asarray(temperature, leaf.dtype))
            return leaf - 0.5 * delta**2 * slope + scale * eps

        new_state = jax.tree.map(move, state, gradient, noise)
        if not diagnostics:
            return new_state, None
        squares = [jnp.sum(jnp.square(g)) for g in jax.tree.leaves(gradient)]
        return new_state, Diagnostics(
            energy=energy,
            gradient_norm=jnp.sqrt(functools.reduce(jnp.add, squares)),
            mean_square=jax.tree.map(lambda leaf: jnp.mean(jnp.square(leaf)), state),
        )

    z, trace = jax.lax.scan(step, z, jnp.arange(num_steps))
    return (z, trace) if diagnostics else z
