"""q(z | x), which says in one pass where the chains of an image are (docs/method.md 3).

An addition of this program: the paper starts every new chain from N(0, I).
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from drc_jax.config import ModelConfig
from drc_jax.model import networks
from drc_jax.model.networks import Params

NAME = "encoder"
"""The key under which parameters hold an encoder's, where there is one."""

_LARGEST_LOG_SCALE = 5.0  # chains far from the prior's shell have z^2 of some hundreds


class Guess(NamedTuple):
    """A normal distribution of independent numbers for each image.

    Attributes:
      mean: [B, D].
      log_scale: [B, D], the logarithm of the standard deviation, within +-5.
    """

    mean: jax.Array
    log_scale: jax.Array


def init_encoder(config: ModelConfig, width: int, key: chex.PRNGKey) -> Params:
    """Fresh parameters of an encoder; its convolutions have the classifiers' channels.

    Args:
      config: the model.
      width: of the hidden layer after the convolutions.
      key: JAX random key.
    """
    image = jnp.zeros((1, config.image_size, config.image_size, 3))
    return networks.fresh(networks.encoder(config, width), key, image)


def guess(config: ModelConfig, params: Params, x: Float[Array, "b s s 3"]) -> Guess:
    """q(z | x) (3.5).

    Args:
      config: the model.
      params: from ``init_encoder``.
      x: [B, S, S, 3] in [-1, 1].
    """
    width = params["hidden"]["kernel"].shape[-1]
    out = networks.apply(config, networks.encoder(config, width), params, x)
    mean, raw = jnp.split(out, 2, axis=-1)
    return Guess(mean, _LARGEST_LOG_SCALE * jnp.tanh(raw / _LARGEST_LOG_SCALE))


def encoder_loss(
    config: ModelConfig, params: Params, x: Float[Array, "b s s 3"], z: Float[Array, "b d"]
) -> tuple[Float[Array, ""], dict[str, jax.Array]]:
    """- mean log q(z | x) up to a constant, mean over images and latents (3.6).

    Args:
      config: the model.
      params: from ``init_encoder``.
      x: [B, S, S, 3] in [-1, 1].
      z: [B, D], the images' posterior chains; no gradient flows into them.

    Returns:
      The scalar loss, and ``encoder_error``, the mean squared distance of z from the means.
    """
    q = guess(config, params, x)
    distance = jnp.square(jax.lax.stop_gradient(z) - q.mean)
    loss = jnp.mean(0.5 * distance * jnp.exp(-2.0 * q.log_scale) + q.log_scale)
    return loss, {"encoder_error": jnp.mean(distance)}
