"""Butterflies (Leeds Butterfly, ten species, one per image, mostly in nature) at 32x32.

    python -m experiments.prepare --dataset=npz --source=leeds_butterfly.npz --size=32 \\
        --output=data/leeds_butterfly_32
    python -m experiments.train --config=configs/quarter/leeds_butterfly.py \\
        --workdir=runs/leeds_butterfly
    python -m experiments.evaluate --workdir=runs/leeds_butterfly

The npz has `images`, `masks` (for scores only) and `names`; preparation holds out a tenth.
All values are those of configs/quarter/photographs.py.

Cost: per iteration as configs/quarter/flowers17.py.
Score: not measured.
"""

from ml_collections import ConfigDict

from configs.quarter import photographs


def get_config() -> ConfigDict:
    """A locked ConfigDict with every field of ``TrainConfig``."""
    return photographs.of_set(photographs.get_config(), "leeds_butterfly")
