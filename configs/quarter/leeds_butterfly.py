"""Butterflies (Leeds Butterfly, ten species, one per image, mostly in nature) at 32x32.

    python -m experiments.prepare --dataset=npz --source=leeds_butterfly.npz --size=32 \\
        --output=data/leeds_butterfly_32
    python -m experiments.train --config=configs/quarter/leeds_butterfly.py \\
        --workdir=runs/leeds_butterfly
    python -m experiments.evaluate --workdir=runs/leeds_butterfly

The npz has `images`, `masks` (for scores only) and `names`; preparation holds out a tenth.
As configs/quarter/photographs.py, except for zb_dim 32 and zs_dim 64: butterflies sit in gardens,
and a background that cannot draw them leaves them to the foreground (docs/ablations.md).

Cost: per iteration as configs/quarter/flowers17.py.
Score: not measured with these latents.
"""

from ml_collections import ConfigDict

from configs.quarter import photographs


def get_config() -> ConfigDict:
    """A locked ConfigDict with every field of ``TrainConfig``."""
    config = photographs.of_set(photographs.get_config(), "leeds_butterfly")
    config.model.zb_dim = 32
    config.model.zs_dim = 64
    return config
