"""Models as small as they go: what takes time in most tests is compiling."""

import dataclasses
import pathlib

import jax

import drc_jax
from drc_jax.config import ModelConfig, TrainConfig
from drc_jax.runs.trained import Run
from drc_jax.training.drc import DRC
from drc_jax.zoo import models

# 16x16 images. No two numbers that could be mixed up are equal.
TWO_BLOCKS = ModelConfig(
    zf_dim=3,
    zb_dim=2,
    zs_dim=4,
    generator_channels=(4, 6, 5),
    classifier_channels=(4, 6),
    ebm_width=8,
    ebm_reassign_width=7,
    num_fg_categories=3,
    num_bg_categories=2,
)
# 8x8 images.
ONE_BLOCK = dataclasses.replace(TWO_BLOCKS, generator_channels=(4, 4), classifier_channels=(4,))

CARD = {
    "data": "noise",
    "licence": "none",
    "command": "none",
    "scores": {"noise": 0.0},
    "limits": "finds nothing",
}


def small_run() -> Run:
    """An untrained model of 8x8 images, without an encoder."""
    config = TrainConfig(model=ONE_BLOCK, seed=5)
    return Run(DRC(), config, drc_jax.init_params(ONE_BLOCK, jax.random.key(0)), 7)


def small_card(folder: pathlib.Path) -> pathlib.Path:
    """The card of ``small_run`` in single precision, for ``--model``."""
    models.export(small_run(), folder / "small.json", CARD, "float32")
    return folder / "small.json"
