"""Butterflies (Leeds Butterfly) at 64x64, half of the paper's side.

    python -m experiments.prepare --dataset=npz --source=leeds_butterfly.npz --size=64 \\
        --output=data/leeds_butterfly_64
    python -m experiments.train --config=configs/quarter/leeds_butterfly_64.py \\
        --workdir=runs/leeds_butterfly_64
    python -m experiments.evaluate --workdir=runs/leeds_butterfly_64

configs/quarter/leeds_butterfly.py with one block more, a quarter of its langevin_weight and twice
its tv_weight, but for the first iterations.

Cost: per iteration as configs/quarter/flowers17_64.py.
Score: fixed IoU 53.6 on 82 held-out images after 626 iterations with 8 chains, seed 0, without
test_sigma (mean training mask 56.9).
"""

from ml_collections import ConfigDict

from configs.quarter import leeds_butterfly, photographs


def get_config() -> ConfigDict:
    """A locked ConfigDict with every field of ``TrainConfig``."""
    return photographs.at_64(leeds_butterfly.get_config())
