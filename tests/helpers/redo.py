"""The smallest ReDO, and images for it."""

import numpy as np

from drc_jax.baselines.redo_model import ReDOModelConfig

SIZE = 16
TINY = ReDOModelConfig(
    image_size=SIZE,
    noise_size=3,
    mask_width=4,
    residual_blocks=1,
    generator_width=2,
    discriminator_width=2,
    estimator_width=2,
    start="paper",
)


def squares(count: int) -> np.ndarray:
    """uint8 [N, 16, 16, 3]: a coloured square on a dark field."""
    rng = np.random.default_rng(0)
    images = np.full((count, SIZE, SIZE, 3), 30, np.uint8)
    for image in images:
        y, x = rng.integers(0, 10, 2)
        image[y : y + 6, x : x + 6] = rng.integers(100, 256, 3)
    return images
