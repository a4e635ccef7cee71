"""Birds (CUB-200-2011) at 128x128, with the values of Table 1.

    python -m experiments.prepare --help          # how to write data/birds_128
    python -m experiments.train --config=configs/birds.py --workdir=runs/birds
    python -m experiments.evaluate --workdir=runs/birds

Cost: 118 TFLOP per iteration and 1.2e18 in all (batch 48, 10,000 iterations); the paper used one
16 GB V100 for at most 48 hours. Not timed with this code yet.
Score: not measured yet; the paper reports 56.4 IoU.
"""

from ml_collections import ConfigDict

from configs import default


def get_config() -> ConfigDict:
    """A locked ConfigDict with every field of ``TrainConfig``."""
    config = default.get_config()
    config.model.zf_dim = 256
    config.model.zb_dim = 256
    config.model.zs_dim = 512
    config.model.num_fg_categories = 200
    config.model.num_bg_categories = 200
    config.model.orthogonality_weight = 0.1
    config.sampler.test_steps = 2500
    config.data.dataset = "birds"
    config.data.path = "data/birds_128"
    return config
