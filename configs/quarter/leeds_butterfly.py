"""Butterflies (Leeds Butterfly, one per image) at 32x32, a quarter of the paper's side.

    python -m experiments.prepare --dataset=npz --source=leeds_butterfly.npz --size=32 \\
        --output=data/leeds_butterfly_32
    python -m experiments.train --config=configs/quarter/leeds_butterfly.py \\
        --workdir=runs/leeds_butterfly
    python -m experiments.evaluate --workdir=runs/leeds_butterfly

The npz has `images`, `masks` (for scores only) and `names`; preparation holds out a tenth.
Everything but the images is as in configs/quarter/flowers17.py.

Cost: per iteration as configs/quarter/flowers17.py.
Score: not measured.
"""

from ml_collections import ConfigDict

from configs.quarter import flowers17


def get_config() -> ConfigDict:
    """A locked ConfigDict with every field of ``TrainConfig``."""
    config = flowers17.get_config()
    config.data.dataset = "leeds_butterfly"
    config.data.path = "data/leeds_butterfly_32"
    return config
