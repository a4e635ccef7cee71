"""A posterior chain as frames to look at: regions, responsibilities and energies on the way."""

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import chex
import jax
import numpy as np

from drc_jax import inference
from drc_jax.config import ModelConfig
from drc_jax.errors import NonFiniteError
from drc_jax.model import energies, posterior
from drc_jax.model.energies import EnergyParts
from drc_jax.model.images import as_images
from drc_jax.model.networks import Params
from drc_jax.model.render import Regions


class Frame(NamedTuple):
    """The chains of B images after some of their steps, as float32 NumPy arrays.

    Attributes:
      restart: which of the independent chains, from 0.
      step: the steps done, from 0.
      z: [B, D].
      regions: what z renders to.
      responsibilities: gamma, [B, K, H, W], the mean over colour channels.
      energy: U1, [B].
      parts: its terms, [B] each.
    """

    restart: int
    step: int
    z: np.ndarray
    regions: Regions
    responsibilities: np.ndarray
    energy: np.ndarray
    parts: EnergyParts


def frames(
    config: ModelConfig,
    params: Params,
    key: chex.PRNGKey,
    images: jax.typing.ArrayLike,
    *,
    num_steps: int,
    every: int,
    **options: Any,
) -> Iterator[Frame]:
    """Runs the chains of ``drc_jax.infer`` and yields what they look like on the way.

    The last frame's regions are bit for bit what ``infer`` returns for the same arguments; of
    several restarts ``lowest`` says which frame is each image's. Pieces of a chain are one compiled
    program, whatever ``num_steps`` and ``every``. Whoever stops asking stops the chains.

    Args:
      config, params, key, images, num_steps: as for ``drc_jax.infer``.
      every: a frame after every so many steps, beside those at step 0, at the end and, where steps
        are first shorter, at the end of that.
      **options: further arguments of ``drc_jax.infer``, without ``progress``.

    Returns:
      An iterator over frames: restart 0 from step 0 to ``num_steps``, then the next restart.

    Raises:
      UserError: at once, as for ``drc_jax.infer``.
      NonFiniteError: later, if no chain is finite any more.
    """
    x = as_images(config, images)
    chains = posterior.chains(config, params, key, x, num_steps=num_steps, every=every, **options)
    return (_frame(config, params, x, chain) for chain in chains)


def lowest(energy: np.ndarray) -> np.ndarray:
    """Which restart each image keeps: that of lowest U1. NaN never wins.

    Args:
      energy: [R, B], U1 at the end of each restart.

    Returns:
      int [B].
    """
    return np.where(np.isnan(energy), np.inf, energy).argmin(axis=0)


def _frame(config: ModelConfig, params: Params, x: jax.Array, chain: posterior.Chain) -> Frame:
    regions = inference.rendered(config, params, chain.z)
    gamma, parts = _judged(config, params, chain.z, regions, x)
    # The program of `infer`, which chooses restarts by these bits.
    energy = posterior.energy(config, params, chain.z, x)
    on_host = jax.tree.map(np.asarray, (chain.z, regions, gamma, energy, parts))
    frame = Frame(chain.restart, chain.step, *on_host)
    if not np.isfinite(frame.z).all(axis=1).any():
        raise NonFiniteError(
            f"no chain is finite after {chain.step} steps; take fewer steps, or other parameters"
        )
    return frame


@functools.partial(jax.jit, static_argnums=0)
def _judged(
    config: ModelConfig, params: Params, z: jax.Array, regions: Regions, x: jax.Array
) -> tuple[jax.Array, EnergyParts]:
    """Responsibilities, and the terms of U1."""
    gamma = energies.responsibilities(config, regions, x)
    return gamma, energies.energy_parts(config, params, z, regions, x)
