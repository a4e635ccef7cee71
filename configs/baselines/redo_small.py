"""ReDO for 32x32 scenes on two CPU cores.

    python -m experiments.train --config=configs/baselines/redo_small.py --workdir=runs/redo_small
    python -m experiments.evaluate --workdir=runs/redo_small

Cost: 0.3 s per iteration beside other programs.
Score: IoU 58.7 and 79.0 best per set (seeds 1 and 2, 1,000 iterations; floors 22.6 and 33.1), 45.3
(seed 0, 2,000 iterations). Regions are exchangeable: fixed IoU can be near 0 (docs/results.md).
At 16x16 it fails: 26.6 best per set after 1,000 iterations (seed 0).
"""

from ml_collections import ConfigDict

from configs.baselines import redo


def get_config() -> ConfigDict:
    """A locked ConfigDict with every field of ``ReDOConfig``."""
    config = redo.get_config()
    config.model.image_size = 32
    config.model.noise_size = 8
    config.model.mask_width = 32
    config.model.generator_width = 16
    config.model.discriminator_width = 16
    config.model.estimator_width = 16
    config.model.attention = False
    config.model.start = "paper"
    config.optimizer.learning_rate = 4e-4
    config.optimizer.mask_learning_rate = 1e-4
    config.restart.every = 100
    config.restart.until = 700
    config.data.dataset = "scenes"
    config.data.num_train = 500
    config.data.num_test = 64
    config.batch_size = 32
    config.iterations = 1_000
    config.image_every = 200
    config.checkpoint_every = 200
    return config
