"""GrabCut by OpenCV, which needs no training.

    python -m experiments.evaluate --config=configs/baselines/grabcut.py --data=data/birds_128

OpenCV comes with `pip install 'drc_jax[baselines]'`.
Cost: not measured.
Score: not measured.
"""

from ml_collections import ConfigDict

from drc_jax.baselines.grabcut import GrabCutConfig
from drc_jax.config import to_dict


def get_config() -> ConfigDict:
    """A locked ConfigDict with every field of ``GrabCutConfig``."""
    config = GrabCutConfig()
    return ConfigDict({"method": config.method, **to_dict(config)}).lock()
