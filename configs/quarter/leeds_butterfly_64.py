"""Butterflies (Leeds Butterfly) at 64x64, half of the paper's side.

    python -m experiments.prepare --dataset=npz --source=leeds_butterfly.npz --size=64 \\
        --output=data/leeds_butterfly_64
    python -m experiments.train --config=configs/quarter/leeds_butterfly_64.py \\
        --workdir=runs/leeds_butterfly_64
    python -m experiments.evaluate --workdir=runs/leeds_butterfly_64

configs/quarter/leeds_butterfly.py with one block more and a quarter of its langevin_weight.

Cost: per iteration as configs/quarter/flowers17_64.py.
Score: fixed IoU 62.4 on 82 held-out images after 2,006 iterations, 29 minutes, with 8 chains, seed
0; 58.1 after 1,287 with seed 1 (mean training mask 56.9). With tv_weight 0.6, without test_sigma,
53.6 after 626.
"""

from ml_collections import ConfigDict

from configs.quarter import leeds_butterfly, photographs


def get_config() -> ConfigDict:
    """A locked ConfigDict with every field of ``TrainConfig``."""
    return photographs.at_64(leeds_butterfly.get_config())
