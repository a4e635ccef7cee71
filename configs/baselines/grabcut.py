"""GrabCut by OpenCV, which needs no training.

    python -m experiments.evaluate --config=configs/baselines/grabcut.py --data=data/birds_128

OpenCV comes with `pip install 'drc_jax[baselines]'`.
Cost: 54 ms of CPU time per image of 128x128, 14 ms of 32x32 (OpenCV 5.0.0).
Score: IoU 89.5, Dice 94.0 on 500 images of TM-dSprites at 128x128; docs/results.md has other sets
and what the border does.
"""

from ml_collections import ConfigDict

from drc_jax.baselines.grabcut import GrabCutConfig
from drc_jax.config import to_dict


def get_config() -> ConfigDict:
    """A locked ConfigDict with every field of ``GrabCutConfig``."""
    config = GrabCutConfig()
    return ConfigDict({"method": config.method, **to_dict(config)}).lock()
