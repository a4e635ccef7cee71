"""CLEVR6 at 128x128 divided into up to six objects and the background, with the values of Table 1.

    python -m experiments.prepare --help          # how to write data/clevr6_128
    python -m experiments.train --config=configs/slots_clevr6.py --workdir=runs/slots_clevr6
    python -m experiments.evaluate --workdir=runs/slots_clevr6

The supplement's appendix G.2 says neither how many slots it has nor how it was trained; everything
but the slots is as in configs/clevr6.py. Chains of 1,794 latents for 70,000 images and their
mirrors take 2 GB.

Cost: 2.7 times configs/clevr6.py: 317 TFLOP per iteration, 3.2e18 in all. Not timed yet.
Score: not measured yet.
"""

import math

from ml_collections import ConfigDict

from configs import clevr6


def get_config() -> ConfigDict:
    """A locked ConfigDict with every field of ``TrainConfig``."""
    config = clevr6.get_config()
    config.model.num_slots = 6
    config.model.slot_offset = math.log(6)
    return config
