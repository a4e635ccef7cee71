"""Textured Multi-dSprites at 64x64, half of the paper's side.

    python -m experiments.train --config=configs/quarter/tm_dsprites_64.py \\
        --workdir=runs/tm_dsprites_64
    python -m experiments.evaluate --workdir=runs/tm_dsprites_64

configs/quarter/tm_dsprites.py with one block more, a quarter of its langevin_weight, and twice its
channels, an eighth of the paper's: sprites have corners that 32x32 does not show.

Cost: not measured.
Score: not measured.
"""

from ml_collections import ConfigDict

from configs.quarter import photographs, tm_dsprites


def get_config() -> ConfigDict:
    """A locked ConfigDict with every field of ``TrainConfig``."""
    config = tm_dsprites.get_config()
    config.model.generator_channels = (64, 128, 64, 32)
    config.model.classifier_channels = (32, 64, 128)
    return photographs.at_64(config)
