"""IODINE with the paper's sizes for 128x128 images.

    python -m experiments.train --config=configs/baselines/iodine.py --workdir=runs/iodine \\
        --config.data.dataset=clevr6 --config.data.path=data/clevr6_128
    python -m experiments.train --config=configs/baselines/iodine.py --workdir=runs/iodine_birds \\
        --config.data.dataset=birds --config.data.path=data/birds_128 --config.model.num_slots=2

Slots: 7 for CLEVR6 (6 objects and the background), 2 for one object, 4 for TM-dSprites.
The authors' release differs from the paper: --config.model.density=logistic
--config.model.scale=0.03 --config.model.prior_variance=0.6931 --config.optimizer.beta1=0.95
--config.optimizer.learning_rate=1e-3 --config.optimizer.decay_rate=0.1.
Cost: 0.82 TFLOP per image with 7 slots and 0.23 with 2, half as much again for rematerialise, as
counted from the layers; not timed.
Score: not measured.
"""

from ml_collections import ConfigDict

from drc_jax.baselines.iodine import IodineConfig
from drc_jax.config import to_dict


def get_config() -> ConfigDict:
    """A locked ConfigDict with every field of ``IodineConfig``."""
    config = IodineConfig()
    return ConfigDict({"method": config.method, **to_dict(config)}).lock()
