"""Butterflies (butterfly-segmentation) at 64x64, half of the paper's side.

    python -m experiments.prepare --dataset=npz --source=butterfly.npz --size=64 \\
        --output=data/butterfly_64
    python -m experiments.train --config=configs/quarter/butterfly_64.py --workdir=runs/butterfly_64
    python -m experiments.evaluate --workdir=runs/butterfly_64

configs/quarter/butterfly.py with one block more and a quarter of its langevin_weight.

Cost: per iteration as configs/quarter/flowers17_64.py.
Score: fixed IoU 58.0 on 37 held-out images after 1,234 iterations, 17 minutes, seed 0, 55.7 with 8
chains (mean training mask 53.3).
"""

from ml_collections import ConfigDict

from configs.quarter import butterfly, photographs


def get_config() -> ConfigDict:
    """A locked ConfigDict with every field of ``TrainConfig``."""
    return photographs.at_64(butterfly.get_config())
