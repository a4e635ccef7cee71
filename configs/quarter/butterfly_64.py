"""Butterflies (butterfly-segmentation) at 64x64, half of the paper's side.

    python -m experiments.prepare --dataset=npz --source=butterfly.npz --size=64 \\
        --output=data/butterfly_64
    python -m experiments.train --config=configs/quarter/butterfly_64.py --workdir=runs/butterfly_64
    python -m experiments.evaluate --workdir=runs/butterfly_64

configs/quarter/butterfly.py with one block more and a quarter of its langevin_weight.

Cost: per iteration as configs/quarter/flowers17_64.py.
Score: fixed IoU 54.8 on 37 held-out images after 549 iterations with 8 chains, seed 0; with
tv_weight 1 throughout and without test_sigma 53.9 after 466 (mean training mask 53.3).
"""

from ml_collections import ConfigDict

from configs.quarter import butterfly, photographs


def get_config() -> ConfigDict:
    """A locked ConfigDict with every field of ``TrainConfig``."""
    return photographs.at_64(butterfly.get_config())
