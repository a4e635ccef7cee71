"""Slot Attention (Locatello et al., NeurIPS 2020) for object discovery, and its later variants.

An encoder turns an image into a set of N features, K slots compete for them in T rounds of
attention, and a broadcast decoder paints each slot. The options cover implicit gradients (Chang et
al., NeurIPS 2022) and learned queries with bi-level gradients (BO-QSA: Jia et al., ICLR 2023).
"""

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn

from drc_jax.baselines import slots as slot_parts
from drc_jax.baselines.slots import GLOROT, SlotRegions
from drc_jax.config.fields import check, field
from drc_jax.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class SlotModelConfig:
    """Network sizes and options; the defaults are the paper's for CLEVR6 at 128x128.

    Attributes:
      image_size: side S of the images in pixels.
      num_slots: K.
      slot_size: D.
      slot_mlp_size: hidden width of the slots' MLP.
      rounds: T, rounds of attention.
      kernel_size: side of all kernels but the decoder's last, which is 3.
      encoder_channels, encoder_strides: one entry per convolution.
      encoder_mlp: widths of the two layers applied to each feature.
      decoder_size: side of the grid over which a slot is tiled.
      decoder_channels, decoder_strides: one entry per transposed convolution; the last one, to 4
        channels, is not listed.
      pixelwise_decoder: kernels of side 1 in the decoder, the last included, so that each pixel is
        painted from the slot and its position alone; the strides must be 1.
      initial_slots: ``gaussian`` draws all slots from one learned Gaussian, at test time too;
        ``learned`` gives each slot its own learned query.
      noise_steps: iterations in which the noise on learned queries falls from 1 to 0 by half a
        cosine; 0 for no noise.
      gradient: ``unrolled`` through all rounds; ``implicit`` through the last of the T rounds
        alone, so that ``gaussian`` keeps its initial mean and scale; ``bi_level`` likewise, and
        from there straight to the initial slots.
      epsilon: keeps the weighted mean finite.
      epsilon_on: whether epsilon is added to each ``attention`` weight or to their ``sum``.
      layer_norm_epsilon: Keras' 1e-3 as in the authors' code.
      drop_rate: share of images whose slots skip the MLP in a round of training; the others'
        MLP counts 1 / (1 - drop_rate) times.
    """

    image_size: int = field(128, least=4, most=4096)
    num_slots: int = field(7, least=2, most=1024)
    slot_size: int = field(64, least=1, most=2**16)
    slot_mlp_size: int = field(128, least=1, most=2**16)
    rounds: int = field(3, least=1, most=100)
    kernel_size: int = field(5, least=1, most=31)
    encoder_channels: tuple[int, ...] = field((64, 64, 64, 64), least=1, most=2**16)
    encoder_strides: tuple[int, ...] = field((1, 1, 1, 1), least=1, most=64)
    encoder_mlp: tuple[int, ...] = field((64, 64), least=1, most=2**16)
    decoder_size: int = field(8, least=1, most=4096)
    decoder_channels: tuple[int, ...] = field((64, 64, 64, 64, 64), least=1, most=2**16)
    decoder_strides: tuple[int, ...] = field((2, 2, 2, 2, 1), least=1, most=64)
    pixelwise_decoder: bool = False
    initial_slots: str = field("gaussian", choices=("gaussian", "learned"))
    noise_steps: int = field(0, least=0, most=10**12)
    gradient: str = field("unrolled", choices=("unrolled", "implicit", "bi_level"))
    epsilon: float = field(1e-8, least=1e-30, most=1e6)
    epsilon_on: str = field("attention", choices=("attention", "sum"))
    layer_norm_epsilon: float = field(1e-3, least=1e-30, most=1.0)
    drop_rate: float = field(0.0, least=0.0, most=0.99)

    def __post_init__(self) -> None:
        check(self)
        for part in ("encoder", "decoder"):
            channels, strides = getattr(self, f"{part}_channels"), getattr(self, f"{part}_strides")
            if not channels or len(channels) != len(strides):
                raise UserError(
                    f"{part}_channels and {part}_strides must have the same number of entries, 1 "
                    f"or more; got {channels} and {strides}"
                )
        if len(self.encoder_mlp) != 2:
            raise UserError(f"encoder_mlp must have 2 entries, got {self.encoder_mlp}")
        if self.image_size % math.prod(self.encoder_strides):
            raise UserError(
                f"the product of encoder_strides {self.encoder_strides} must divide image_size "
                f"{self.image_size}"
            )
        if self.pixelwise_decoder and set(self.decoder_strides) != {1}:
            raise UserError(
                f"decoder_strides must all be 1 where pixelwise_decoder is set, got "
                f"{self.decoder_strides}"
            )
        painted = self.decoder_size * math.prod(self.decoder_strides)
        if painted != self.image_size:
            raise UserError(
                f"decoder_size {self.decoder_size} times decoder_strides {self.decoder_strides} "
                f"must be image_size {self.image_size}, got {painted}"
            )
        if self.noise_steps and self.initial_slots != "learned":
            raise UserError("noise_steps is for initial_slots 'learned'; set it to 0")


class Draws(NamedTuple):
    """What is random in a forward pass.

    Attributes:
      noise: [B, K, D], for the initial slots, scaled already.
      mlp_weight: [B, T], how much the slots' MLP counts in each round: 1 but in training with a
        drop rate.
    """

    noise: jax.Array
    mlp_weight: jax.Array


class Output(NamedTuple):
    """A forward pass.

    Attributes:
      regions: what the slots paint.
      slots: [B, K, D], after the last round.
      attention: [B, N, K], of the last round, summing to 1 over K.
    """

    regions: SlotRegions
    slots: jax.Array
    attention: jax.Array


def attention_weights(keys: jax.Array, queries: jax.Array) -> jax.Array:
    """A = softmax over k of D^-1/2 k q^T: the slots compete for each feature.

    Args:
      keys: [B, N, D], of the features.
      queries: [B, K, D], of the slots.

    Returns:
      [B, N, K], summing to 1 over K.
    """
    scores = jnp.einsum("bnd,bkd->bnk", keys, queries * queries.shape[-1] ** -0.5)
    return jax.nn.softmax(scores, axis=-1)


def weighted_mean(
    attention: jax.Array, values: jax.Array, epsilon: float, epsilon_on: str
) -> jax.Array:
    """W^T v, where W are the attention weights divided by their sum over the features.

    Args:
      attention: A, [B, N, K].
      values: v, [B, N, D].
      epsilon: added to each weight, or to their sum, which then is less than 1.
      epsilon_on: ``attention`` or ``sum``.

    Returns:
      [B, K, D].
    """
    if epsilon_on == "attention":
        attention = attention + epsilon
    total = jnp.sum(attention, axis=1, keepdims=True)
    weights = attention / (total + epsilon if epsilon_on == "sum" else total)
    return jnp.einsum("bnk,bnd->bkd", weights, values)


def enter_last_round(gradient: str, slots: jax.Array, start: jax.Array) -> jax.Array:
    """The slots with which the last round begins: the same values, other gradients.

    Args:
      gradient: as in ``SlotModelConfig``.
      slots: [B, K, D], after the rounds before.
      start: [B, K, D], the initial slots.
    """
    if gradient == "unrolled":
        return slots
    detached = jax.lax.stop_gradient(slots)
    if gradient == "implicit":
        return detached
    return detached + (start - jax.lax.stop_gradient(start))


def noise_scale(config: SlotModelConfig, step: jax.Array) -> jax.Array:
    """How large the noise of training is at an iteration: 1, or (1 + cos(pi t / steps)) / 2."""
    if config.initial_slots == "gaussian":
        return jnp.ones(())
    if not config.noise_steps:
        return jnp.zeros(())
    share = jnp.minimum(step.astype(jnp.float32) / config.noise_steps, 1.0)
    return 0.5 * (1.0 + jnp.cos(jnp.pi * share))


def training_draws(config: SlotModelConfig, keys: chex.PRNGKey, step: jax.Array) -> Draws:
    """The draws of an iteration from [B] keys, one per image."""

    def of_one(key: chex.PRNGKey) -> tuple[jax.Array, jax.Array]:
        noise_key, keep_key = jax.random.split(key)
        noise = jax.random.normal(noise_key, (config.num_slots, config.slot_size))
        kept = jax.random.bernoulli(keep_key, 1.0 - config.drop_rate, (config.rounds,))
        return noise, kept

    noise, kept = jax.vmap(of_one)(keys)
    mlp_weight = kept.astype(jnp.float32) / (1.0 - config.drop_rate)
    return Draws(noise_scale(config, step) * noise, mlp_weight)


def test_draws(config: SlotModelConfig, keys: chex.PRNGKey) -> Draws:
    """The draws outside of training: noise for ``gaussian`` slots, none for learned queries."""
    shape = (config.num_slots, config.slot_size)
    noise = jax.vmap(lambda key: jax.random.normal(key, shape))(keys)
    if config.initial_slots == "learned":
        noise = jnp.zeros_like(noise)
    return Draws(noise, jnp.ones((len(noise), config.rounds)))


class Encoder(nn.Module):
    """Convolutions, positions, and a small MLP for each feature: images to a set."""

    config: SlotModelConfig

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, S, S, 3] in [-1, 1] to [B, N, encoder_mlp[1]]."""
        config = self.config
        kernel = (config.kernel_size, config.kernel_size)
        for channels, stride in zip(config.encoder_channels, config.encoder_strides, strict=True):
            x = nn.relu(nn.Conv(channels, kernel, (stride, stride), kernel_init=GLOROT)(x))
        x = slot_parts.PositionEmbedding(name="positions")(x)
        x = x.reshape(len(x), -1, x.shape[-1])
        x = nn.LayerNorm(config.layer_norm_epsilon)(x)
        hidden, width = config.encoder_mlp
        x = nn.relu(nn.Dense(hidden, kernel_init=GLOROT)(x))
        return nn.Dense(width, kernel_init=GLOROT)(x)


class SlotAttention(nn.Module):
    """T rounds in which K slots compete for N features and are updated by a GRU and an MLP.

    Each gate of the GRU has a matrix of its own: orthogonal from the slots, Glorot from the update.
    """

    config: SlotModelConfig

    def setup(self) -> None:
        config = self.config
        size = config.slot_size
        norm = functools.partial(nn.LayerNorm, config.layer_norm_epsilon)
        dense = functools.partial(nn.Dense, kernel_init=GLOROT)
        self.norm_inputs, self.norm_slots, self.norm_mlp = norm(), norm(), norm()
        self.to_keys, self.to_values, self.to_queries = (
            dense(size, use_bias=False) for _ in range(3)
        )
        self.gru = nn.GRUCell(size, kernel_init=GLOROT)
        self.mlp_hidden, self.mlp_out = dense(config.slot_mlp_size), dense(size)
        if config.initial_slots == "gaussian":
            self.mean = self.param("mean", GLOROT, (1, 1, size))
            self.log_scale = self.param("log_scale", GLOROT, (1, 1, size))
        else:
            self.queries = self.param("queries", GLOROT, (config.num_slots, size))

    def initial_slots(self, noise: jax.Array) -> jax.Array:
        """mu + sigma eps for noise eps [B, K, D]; sigma is |mu| for learned queries."""
        if self.config.initial_slots == "gaussian":
            return self.mean + jnp.exp(self.log_scale) * noise
        queries = self.queries[None]
        return queries + noise * jax.lax.stop_gradient(queries)

    def one_round(
        self, slots: jax.Array, keys: jax.Array, values: jax.Array, mlp_weight: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Slots [B, K, D] to the next ones, and the attention [B, N, K] between."""
        config = self.config
        attention = attention_weights(keys, self.to_queries(self.norm_slots(slots)))
        update = weighted_mean(attention, values, config.epsilon, config.epsilon_on)
        slots, _ = self.gru(slots, update)
        change = self.mlp_out(nn.relu(self.mlp_hidden(self.norm_mlp(slots))))
        return slots + mlp_weight[:, None, None] * change, attention

    def __call__(self, inputs: jax.Array, draws: Draws) -> tuple[jax.Array, jax.Array]:
        """Features [B, N, C] to slots [B, K, D] and the last round's attention [B, N, K]."""
        inputs = self.norm_inputs(inputs)
        keys, values = self.to_keys(inputs), self.to_values(inputs)
        slots = start = self.initial_slots(draws.noise)
        for number in range(self.config.rounds - 1):
            slots, _ = self.one_round(slots, keys, values, draws.mlp_weight[:, number])
        slots = enter_last_round(self.config.gradient, slots, start)
        return self.one_round(slots, keys, values, draws.mlp_weight[:, -1])


class SlotAutoencoder(nn.Module):
    """Encoder, Slot Attention and decoder."""

    config: SlotModelConfig

    @nn.compact
    def __call__(self, images: jax.Array, draws: Draws) -> Output:
        """Images [B, S, S, 3] in [-1, 1] to what the slots paint."""
        config = self.config
        features = Encoder(config, name="encoder")(images)
        slots, attention = SlotAttention(config, name="slot_attention")(features, draws)
        decoder = slot_parts.BroadcastDecoder(
            config.decoder_size,
            config.decoder_channels,
            config.decoder_strides,
            kernel_size=1 if config.pixelwise_decoder else config.kernel_size,
            last_kernel_size=1 if config.pixelwise_decoder else 3,
            name="decoder",
        )
        return Output(slot_parts.mix(*decoder(slots)), slots, attention)


def init_params(config: SlotModelConfig, key: chex.PRNGKey) -> dict:
    """Fresh parameters; traceable."""
    images = jnp.zeros((1, config.image_size, config.image_size, 3))
    draws = test_draws(config, jax.random.split(key, 1))
    return SlotAutoencoder(config).init(key, images, draws)["params"]


def apply(config: SlotModelConfig, params: dict, images: jax.Array, draws: Draws) -> Output:
    """A forward pass on images [B, S, S, 3] in [-1, 1]; pure."""
    output: Any = SlotAutoencoder(config).apply({"params": params}, images, draws)
    return output


def loss(
    config: SlotModelConfig, params: dict, images: jax.Array, draws: Draws
) -> tuple[jax.Array, Output]:
    """Mean squared error of the mixed image over images, pixels and channels.

    Args:
      config: static.
      params: from ``init_params``.
      images: [B, S, S, 3] in [-1, 1].
      draws: of the same B.

    Returns:
      The scalar loss and the forward pass.
    """
    output = apply(config, params, images, draws)
    return jnp.mean(jnp.square(output.regions.reconstruction - images)), output
