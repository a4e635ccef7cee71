"""Textured Multi-dSprites at 128x128, with the values of Table 1; the images are generated.

    python -m experiments.train --config=configs/tm_dsprites.py --workdir=runs/tm_dsprites
    python -m experiments.evaluate --workdir=runs/tm_dsprites

Cost: 118 TFLOP per iteration and 1.2e18 in all (batch 48, 10,000 iterations); the paper used one
16 GB V100 for at most 48 hours. Not timed with this code yet.
Score: not measured yet.
"""

from ml_collections import ConfigDict

from configs import default


def get_config() -> ConfigDict:
    """A locked ConfigDict with every field of ``TrainConfig``."""
    config = default.get_config()
    config.model.zf_dim = 256
    config.model.zb_dim = 4
    config.model.zs_dim = 1024
    config.model.num_fg_categories = 30
    config.model.num_bg_categories = 10
    config.model.orthogonality_weight = 1.0
    config.sampler.test_steps = 5000
    config.data.dataset = "tm_dsprites"
    return config
