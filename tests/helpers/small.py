"""Models as small as they go: what takes time in most tests is compiling."""

import dataclasses

from drc_jax.config import ModelConfig

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
