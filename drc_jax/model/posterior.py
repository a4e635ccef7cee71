"""Fresh chains of new images on U1: where they start, and their latents piece by piece."""

import functools
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from drc_jax import langevin
from drc_jax.config import ModelConfig, SamplerConfig
from drc_jax.errors import UserError
from drc_jax.model import encoder
from drc_jax.model.energies import posterior_energy
from drc_jax.model.latents import part_sizes
from drc_jax.model.networks import Params

STARTS = ("prior", "encoder")

# Ctrl-C is noticed between pieces of a chain; each lasts about so long.
_PIECE_SECONDS = 1.0


class Chain(NamedTuple):
    """The chains of some images after some of their steps.

    Attributes:
      restart: which of the independent chains of each image, from 0.
      step: the steps done, from 0.
      z: [B, D].
    """

    restart: int
    step: int
    z: jax.Array


def check_start(start: str, params: Any) -> None:
    """Refuses a start of chains that there is not.

    Raises:
      UserError: if ``start`` is no name of one, or is ``encoder`` and ``params`` have none.
    """
    if start not in STARTS:
        raise UserError(f"start must be one of {', '.join(STARTS)}; got {start!r}")
    if start == "encoder" and not has_encoder(params):
        raise UserError(
            "start 'encoder' needs a model trained with encoder.enabled=True, and this has no "
            "encoder; take 'prior'"
        )


def has_encoder(params: Any) -> bool:
    """Whether chains can start at an encoder's answer."""
    return isinstance(params, dict) and encoder.NAME in params


def options(sampler: SamplerConfig, start: str) -> dict[str, Any]:
    """The arguments of ``chains`` and ``drc_jax.infer`` that a run's config and a start fix."""
    return dict(
        start=start,
        step_size=sampler.posterior_step_size,
        drift_limit=sampler.drift_limit,
        # An encoder's answer lies where chains are, so nothing has to be warmed up.
        warm_up_steps=sampler.warm_up_steps if start == "prior" else 0,
        warm_up_step_size=sampler.warm_up_step_size,
    )


def chains(
    config: ModelConfig,
    params: Params,
    key: chex.PRNGKey,
    x: Float[Array, "b s s 3"],
    *,
    num_steps: int,
    step_size: float = 0.1,
    num_restarts: int = 1,
    drift_limit: float = 0.0,
    warm_up_steps: int = 0,
    warm_up_step_size: float = 0.01,
    start: str = "prior",
    every: int | None = None,
) -> Iterator[Chain]:
    """Runs the chains of ``drc_jax.infer`` and yields their latents on the way.

    Between two of them runs one piece of the loop over steps. All pieces are the same program, so
    their lengths change no bit. Whoever stops asking stops the chains.

    Args:
      config, params, key: as for ``drc_jax.infer``.
      x: [B, S, S, 3] from ``as_images``.
      num_steps, step_size, num_restarts, drift_limit, warm_up_steps, warm_up_step_size, start: as
        for ``drc_jax.infer``.
      every: yield after every so many steps; None for pieces of about a second. The end of the
        warm-up and of a chain are yielded too. Under ``jit`` those are all.

    Returns:
      An iterator over the ``Chain`` of restart 0 at step 0, later steps up to ``num_steps``, and
      then the same of the next restart.

    Raises:
      UserError: at once, if a number is out of range, there is no encoder to start at, or there
        is another number of keys than images.
    """
    langevin.check_numbers(num_steps, step_size)
    langevin.check_numbers(1, warm_up_step_size)
    if not isinstance(warm_up_steps, int) or warm_up_steps < 0:
        raise UserError(f"warm_up_steps must be an integer of at least 0, got {warm_up_steps!r}")
    if every is not None and every < 1:
        raise UserError(f"every must be at least 1, got {every}")
    check_start(start, params)
    if num_restarts < 1:
        raise UserError(f"num_restarts must be at least 1, got {num_restarts}")
    if langevin.has_key_per_chain(key) and len(key) != len(x):
        raise UserError(f"key must be one key or one per image: {len(x)} images, {len(key)} keys")
    traced = is_traced((params, key, x, step_size))
    short = min(warm_up_steps, num_steps)

    def run() -> Iterator[Chain]:
        for restart in range(num_restarts):
            chain_key, z = _start(config, _restart_key(key, restart) if restart else key, x)
            if start == "encoder":
                z = _encoded(config, params[encoder.NAME], x, z if restart else jnp.zeros_like(z))
            yield Chain(restart, 0, z)
            phases = ((0, short, warm_up_step_size), (short, num_steps, step_size))
            for first, last, delta in phases:

                def advance(
                    z: Array, first: int, last: int, key: Any = chain_key, delta: Any = delta
                ) -> Array:
                    return _advance(config, params, key, z, x, first, last, delta, drift_limit)

                if traced:
                    pieces = iter([(last, advance(z, first, last))] if first < last else [])
                else:
                    pieces = in_pieces(advance, z, first, last, every)
                for step, z in pieces:
                    yield Chain(restart, step, z)

    return run()


def is_traced(tree: Any) -> bool:
    """Whether any leaf belongs to a program that is being traced."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(tree))


@functools.partial(jax.jit, static_argnums=0)
def energy(
    config: ModelConfig, params: Params, z: Float[Array, "b d"], x: Float[Array, "b s s 3"]
) -> Float[Array, " b"]:
    """U1 of latents."""
    return posterior_energy(config, params, z, x)


_restart_key = jax.jit(langevin.fold_in)


@functools.partial(jax.jit, static_argnums=0)
def _start(
    config: ModelConfig, key: chex.PRNGKey, x: Float[Array, "b s s 3"]
) -> tuple[chex.PRNGKey, Float[Array, "b d"]]:
    """The key of a chain's noise, or one per image, and its start from N(0, I)."""
    if not langevin.has_key_per_chain(key):
        start_key, chain_key = jax.random.split(key)
        return chain_key, jax.random.normal(start_key, (len(x), config.latent_dim))
    start_keys, chain_keys = jnp.moveaxis(jax.vmap(jax.random.split)(key), 1, 0)
    return chain_keys, jax.vmap(lambda key: jax.random.normal(key, (config.latent_dim,)))(
        start_keys
    )


@functools.partial(jax.jit, static_argnums=0)
def _encoded(
    config: ModelConfig, params: Params, x: Float[Array, "b s s 3"], noise: Float[Array, "b d"]
) -> Float[Array, "b d"]:
    """Draws from q(z | x), given standard normal noise."""
    q = encoder.guess(config, params, x)
    return q.mean + jnp.exp(q.log_scale) * noise


@functools.partial(jax.jit, static_argnums=(0, 8))
def _advance(
    config: ModelConfig,
    params: Params,
    key: chex.PRNGKey,
    z: Float[Array, "b d"],
    x: Float[Array, "b s s 3"],
    first_step: int | Array,
    last_step: int | Array,
    step_size: float | Array,
    drift_limit: float = 0.0,
) -> Float[Array, "b d"]:
    """Steps ``first_step`` to ``last_step`` of chains on U1; one program for all numbers."""
    return langevin.sample(
        key,
        lambda z: posterior_energy(config, params, z, x),
        z,
        num_steps=last_step - first_step,
        step_size=step_size,
        first_step=first_step,
        drift_limit=drift_limit,
        parts=part_sizes(config),
    )


def in_pieces(
    advance: Callable[[Array, int, int], Array],
    z: Array,
    first_step: int,
    last_step: int,
    every: int | None = None,
) -> Iterator[tuple[int, Array]]:
    """Runs a chain in pieces, so that Ctrl-C is noticed between two of them.

    Args:
      advance: takes latents and the numbers of the first step and of that after the last.
      z: the latents before ``first_step``.
      first_step, last_step: of the whole chain.
      every: a piece ends at each multiple of it; with None pieces double until they last about a
        second.

    Returns:
      An iterator over the steps done and the latents, after each piece.
    """
    done, piece = first_step, 1
    while done < last_step:
        ahead = piece if every is None else every - done % every
        begin, last = time.monotonic(), min(done + ahead, last_step)
        z = jax.block_until_ready(advance(z, done, last))
        seconds, done = time.monotonic() - begin, last
        piece = max(1, piece // 2 if seconds > 2 * _PIECE_SECONDS else piece)
        if seconds < _PIECE_SECONDS / 2:
            piece *= 2
        yield done, z
