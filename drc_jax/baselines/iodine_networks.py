"""IODINE's sizes and networks: the decoder, and the refinement network with its LSTM."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from drc_jax.baselines import iodine_likelihood as likelihood
from drc_jax.baselines import slots as slot_parts
from drc_jax.baselines.slots import COORDINATES
from drc_jax.config.fields import check, field
from drc_jax.errors import UserError

# A normal of standard deviation fan_in^-1/2, cut off at two of them and not widened again.
_CUT = 0.87962566103423978  # standard deviation of what is left of a unit normal
TRUNCATED = nn.initializers.variance_scaling(_CUT**2, "fan_in", "truncated_normal")


@dataclasses.dataclass(frozen=True, kw_only=True)
class IodineModelConfig:
    """Network sizes and options; the defaults are the paper's for CLEVR6 at 128x128.

    Attributes:
      image_size: side S of the images in pixels.
      num_slots: K; memory grows with its square.
      latent_size: Z.
      refinements: T; there are T + 1 decodes.
      decoder_channels: one entry per convolution; the last one, to 4 channels, is not listed.
      decoder_kernel_size: side of all the decoder's kernels; 1 paints each pixel from the latent
        vector and its own position alone.
      decoder_coordinates: channels that the decoder has beside the latent vector, see
        ``slots.coordinates``.
      refiner_channels: one entry per convolution of stride 2 in the refinement network.
      refiner_kernel_size: side of those kernels.
      refiner_coordinates: the coordinates among that network's inputs.
      refiner_pooling: ``mean`` over space of what they find, or ``flatten``, which keeps where it
        was, as in the IODINE of Emami et al. (2021).
      refiner_mlp: widths of the layers after it; the last has no activation.
      lstm_size: width of the LSTM that gives the change of the posterior; 0 for a linear layer
        alone.
      density: of a channel under a slot, ``gaussian`` or ``logistic`` (as in the release).
      scale: the Gaussian's standard deviation or the logistic's scale (the release has 0.03).
      prior_variance: of each latent's zero-mean Gaussian prior (the release has log 2).
      kl_warmup_steps: iterations in which the weight of the KL divergence rises from 0 to 1; 0 for
        1 from the start.
      test_draws: outside of training, how many draws of all noise are tried for each image; the one
        of lowest NLL + KL is kept. Which slot takes what is settled by the first decodes' noise.
      rematerialise: computes each refinement again in the backward pass instead of keeping it: less
        memory, half as much time again, the same result to rounding.
    """

    image_size: int = field(128, least=4, most=4096)
    num_slots: int = field(7, least=2, most=256)
    latent_size: int = field(64, least=1, most=2**16)
    refinements: int = field(5, least=1, most=100)
    decoder_channels: tuple[int, ...] = field((64, 64, 64, 64), least=1, most=2**16)
    decoder_kernel_size: int = field(3, least=1, most=31)
    decoder_coordinates: str = field("linear", choices=COORDINATES)
    refiner_channels: tuple[int, ...] = field((64, 64, 64, 64), least=1, most=2**16)
    refiner_kernel_size: int = field(3, least=1, most=31)
    refiner_coordinates: str = field("linear", choices=COORDINATES)
    refiner_pooling: str = field("mean", choices=("mean", "flatten"))
    refiner_mlp: tuple[int, ...] = field((256, 256), least=1, most=2**16)
    lstm_size: int = field(256, least=0, most=2**16)
    density: str = field("gaussian", choices=likelihood.DENSITIES)
    scale: float = field(0.1, least=1e-4, most=100.0)
    prior_variance: float = field(1.0, least=1e-6, most=1e6)
    kl_warmup_steps: int = field(0, least=0, most=10**12)
    test_draws: int = field(1, least=1, most=1000)
    rematerialise: bool = True

    def __post_init__(self) -> None:
        check(self)
        for name in ("decoder_channels", "refiner_channels", "refiner_mlp"):
            if not getattr(self, name):
                raise UserError(f"{name} must have 1 entry or more, got none")
        smallest = 2 ** (len(self.refiner_channels) - 1)
        if self.image_size < smallest:
            raise UserError(
                f"refiner_channels has {len(self.refiner_channels)} entries, each of which halves "
                f"the image; image_size must then be at least {smallest}, got {self.image_size}"
            )


class Gradients(NamedTuple):
    """Gradients of L = -log p(x) + KL of single images, without gradients of their own.

    Attributes:
      means: [B, K, H, W, 3].
      logits: [B, K, H, W].
      posterior: [B, K, 2 Z], at fixed noise.
    """

    means: jax.Array
    logits: jax.Array
    posterior: jax.Array


class LstmState(NamedTuple):
    """What an LSTM of width L carries: ``cell`` and ``hidden``, each [B, K, L]."""

    cell: jax.Array
    hidden: jax.Array


class Lstm(nn.Module):
    """A standard LSTM cell whose forget gate has a bias of 1 beside the learned one."""

    size: int

    @nn.compact
    def __call__(self, state: LstmState, inputs: jax.Array) -> LstmState:
        """A step on inputs [..., D]."""
        both = jnp.concatenate([inputs, state.hidden], axis=-1)
        bias = nn.initializers.truncated_normal(both.shape[-1] ** -0.5)
        gates = nn.Dense(4 * self.size, kernel_init=TRUNCATED, bias_init=bias)(both)
        enter, new, forget, leave = jnp.split(gates, 4, axis=-1)
        cell = nn.sigmoid(forget + 1.0) * state.cell + nn.sigmoid(enter) * jnp.tanh(new)
        return LstmState(cell, nn.sigmoid(leave) * jnp.tanh(cell))


class RefinerInputs(nn.Module):
    """What the refinement network sees of every slot's pixels: C = 17 channels or more.

    In this order: the image, the slot's means, its mask's logit and value, the mask posterior
    softmax_k l_k, the gradients of means and logits, log p(x), log p(x) - log p_-k(x), and the
    coordinates. The mask posterior weighs all slots alike, so it is not gamma. Gradients and log
    likelihoods enter as values only, each through a layer norm over all of a slot's pixels.
    """

    coordinates: str

    @nn.compact
    def __call__(
        self,
        images: jax.Array,
        means: jax.Array,
        logits: jax.Array,
        log_densities: jax.Array,
        gradients: Gradients,
    ) -> jax.Array:
        """Arguments as for ``Refiner``, to [B, K, S, S, C]."""
        pixel = jax.lax.stop_gradient(likelihood.log_likelihood(logits, log_densities))[:, None]
        without = jax.lax.stop_gradient(likelihood.leave_one_out(logits, log_densities))
        norm = functools.partial(_norm, (-3, -2, -1))
        places = slot_parts.coordinates(self.coordinates, *logits.shape[2:])
        parts = (
            images[:, None],
            means,
            logits[..., None],
            jax.nn.softmax(logits, axis=1)[..., None],
            jax.nn.softmax(log_densities, axis=1)[..., None],
            norm("norm_means")(gradients.means),
            norm("norm_logits")(gradients.logits[..., None]),
            norm("norm_likelihood")(pixel[..., None]),
            norm("norm_leave_one_out")((pixel - without)[..., None]),
            places[None, None],
        )
        grid = logits.shape
        return jnp.concatenate([jnp.broadcast_to(p, (*grid, p.shape[-1])) for p in parts], axis=-1)


class Refiner(nn.Module):
    """The refinement network: what is known of each slot to the change of its posterior."""

    config: IodineModelConfig

    @nn.compact
    def __call__(
        self,
        images: jax.Array,
        means: jax.Array,
        logits: jax.Array,
        log_densities: jax.Array,
        posterior: jax.Array,
        gradients: Gradients,
        state: LstmState,
    ) -> tuple[jax.Array, LstmState]:
        """One refinement.

        Args:
          images: [B, S, S, 3].
          means: [B, K, S, S, 3].
          logits: [B, K, S, S].
          log_densities: [B, K, S, S].
          posterior: [B, K, 2 Z].
          gradients: at these.
          state: the LSTM's.

        Returns:
          The change of the posterior [B, K, 2 Z], and the next state.
        """
        config = self.config
        x = RefinerInputs(config.refiner_coordinates, name="inputs")(
            images, means, logits, log_densities, gradients
        )
        batch, slots = x.shape[:2]
        x = x.reshape(batch * slots, *x.shape[2:])
        side = config.refiner_kernel_size
        for channels in config.refiner_channels:
            x = nn.elu(nn.Conv(channels, (side, side), (2, 2), kernel_init=TRUNCATED)(x))
        x = jnp.mean(x, axis=(1, 2)) if config.refiner_pooling == "mean" else x
        x = x.reshape(batch, slots, -1)
        for number, width in enumerate(config.refiner_mlp):
            x = nn.Dense(width, kernel_init=TRUNCATED)(nn.elu(x) if number else x)
        gradient = _norm((-1,), "norm_posterior")(gradients.posterior)
        x = jnp.concatenate([x, posterior, gradient], axis=-1)
        if config.lstm_size:
            state = Lstm(config.lstm_size, name="lstm")(state, x)
            x = state.hidden
        return nn.Dense(2 * config.latent_size, kernel_init=TRUNCATED, name="change")(x), state


def _norm(axes: tuple[int, ...], name: str) -> nn.LayerNorm:
    """A layer norm over ``axes`` with a gain and a bias for each entry of the last axis."""
    return nn.LayerNorm(
        1e-5, reduction_axes=axes, feature_axes=-1, use_fast_variance=False, name=name
    )


def decoder(config: IodineModelConfig) -> slot_parts.BroadcastDecoder:
    """Latents [B, K, Z] to means [B, K, S, S, 3], which nothing bounds, and logits [B, K, S, S]."""
    return slot_parts.BroadcastDecoder(
        config.image_size,
        config.decoder_channels,
        (1,) * len(config.decoder_channels),
        kernel_size=config.decoder_kernel_size,
        last_kernel_size=config.decoder_kernel_size,
        coordinates=config.decoder_coordinates,
        activation=nn.elu,
        kernel_init=TRUNCATED,
    )


def first_state(config: IodineModelConfig, batch: int) -> LstmState:
    """The LSTM's state before the first refinement."""
    zeros = jnp.zeros((batch, config.num_slots, config.lstm_size))
    return LstmState(zeros, zeros)
