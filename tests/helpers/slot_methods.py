"""Slot methods as small as they can be, and images for them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from drc_jax.baselines import iodine_likelihood as likelihood
from drc_jax.baselines.iodine import Iodine, IodineConfig
from drc_jax.baselines.iodine_networks import IodineModelConfig
from drc_jax.baselines.slot_attention import SlotAttention, SlotAttentionConfig
from drc_jax.baselines.slot_attention_model import SlotModelConfig
from drc_jax.baselines.slot_training import SlotMethod, SlotOptimizerConfig
from drc_jax.config import DataConfig

SIZE, BATCH = 8, 8
SLOTS = SlotModelConfig(
    image_size=SIZE,
    num_slots=3,
    slot_size=10,
    slot_mlp_size=12,
    kernel_size=3,
    encoder_channels=(6, 7),
    encoder_strides=(2, 1),
    encoder_mlp=(9, 8),
    decoder_size=4,
    decoder_channels=(6, 5),
    decoder_strides=(2, 1),
)
IODINE = IodineModelConfig(
    image_size=SIZE,
    num_slots=3,
    latent_size=4,
    refinements=2,
    decoder_channels=(6, 5),
    decoder_kernel_size=1,
    refiner_channels=(5, 6),
    refiner_mlp=(8,),
    lstm_size=7,
    rematerialise=False,
)
METHODS: dict[str, tuple[SlotMethod, Any]] = {
    "slot_attention": (SlotAttention(), SLOTS),
    "iodine": (Iodine(), IODINE),
}


def run_config(method: str, **fields: Any) -> Any:
    """A short run of a method on ``squares``."""
    config_type = {"slot_attention": SlotAttentionConfig, "iodine": IodineConfig}[method]
    defaults = {
        "data": DataConfig(dataset="squares", path="squares", flip=False),
        "model": METHODS[method][1],
        "optimizer": SlotOptimizerConfig(learning_rate=3e-3, warmup_steps=0),
        "batch_size": BATCH,
        "iterations": 4,
        "log_every": 1,
        "image_every": 0,
        "checkpoint_every": 2,
    }
    return config_type(**{**defaults, **fields})


def squares(count: int) -> np.ndarray:
    """uint8 [N, 8, 8, 3]: a coloured square on a dark field."""
    rng = np.random.default_rng(0)
    images = np.full((count, SIZE, SIZE, 3), 30, np.uint8)
    for image in images:
        y, x = rng.integers(0, 5, 2)
        image[y : y + 3, x : x + 3] = rng.integers(100, 256, 3)
    return images


def mixture_pixels(density: str = "gaussian", slots: int = 3) -> tuple[jax.Array, ...]:
    """Images, means, logits and log densities of 2 images of 4x4 pixels."""
    rng = np.random.default_rng(0)
    seen = jnp.asarray(rng.uniform(size=(2, 4, 4, 3)), "float32")
    means = seen[:, None] + jnp.asarray(0.3 * rng.normal(size=(2, slots, 4, 4, 3)), "float32")
    logits = jnp.asarray(rng.normal(size=(2, slots, 4, 4)), "float32")
    return seen, means, logits, likelihood.log_density(density, 0.2, seen, means)
