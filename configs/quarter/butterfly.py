"""Butterflies (butterfly-segmentation, one per image, in nature or on white) at 32x32.

    python -m experiments.prepare --dataset=npz --source=butterfly.npz --size=32 \\
        --output=data/butterfly_32
    python -m experiments.train --config=configs/quarter/butterfly.py --workdir=runs/butterfly
    python -m experiments.evaluate --workdir=runs/butterfly

The npz has `images`, `masks` (for scores only) and `names`; preparation holds out a tenth.
As configs/quarter/photographs.py, except for zb_dim 32 and zs_dim 64: butterflies sit in gardens,
and a background that cannot draw them leaves them to the foreground (docs/ablations.md).

With 32 chains per new image instead of 8, as single chains err more than on flowers; for a quick
look --chains=8, or --start=encoder --steps=1.

Cost: per iteration as configs/quarter/flowers17.py; 4 s per new image on one CPU core.
Score: fixed IoU 52.8 on 37 held-out images after 2,088 iterations, 15 minutes; 50.9 with 8 chains
(mean training mask 53.3, GrabCut 40.5). With 20 posterior steps and no drift limit 56.2 after 1,788
iterations, 39 minutes.
"""

from ml_collections import ConfigDict

from configs.quarter import photographs


def get_config() -> ConfigDict:
    """A locked ConfigDict with every field of ``TrainConfig``."""
    config = photographs.of_set(photographs.get_config(), "butterfly")
    config.sampler.test_chains = 32
    return config
