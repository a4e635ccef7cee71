"""People in streets (clothing-co-parsing) at 64x64, half of the paper's side.

    python -m experiments.prepare --dataset=npz --source=ccp.npz --size=64 \\
        --output=data/ccp_64
    python -m experiments.train --config=configs/quarter/ccp_64.py --workdir=runs/ccp_64
    python -m experiments.evaluate --workdir=runs/ccp_64

configs/quarter/ccp.py with one block more and a quarter of its langevin_weight.

Cost: per iteration as configs/quarter/flowers17_64.py.
Score: fixed IoU 52.9 on 100 held-out images after 2,038 iterations, 36 minutes, with 8 chains, seed
0; 49.2 after 1,201 (mean training mask 69.1).
"""

from ml_collections import ConfigDict

from configs.quarter import ccp, photographs


def get_config() -> ConfigDict:
    """A locked ConfigDict with every field of ``TrainConfig``."""
    return photographs.at_64(ccp.get_config())
