"""Several objects: scenes of one to three flat ones at 32x32, on two CPU cores.

    python -m experiments.train --config=configs/slots.py --workdir=runs/slots
    python -m experiments.evaluate --workdir=runs/slots

Three foreground slots compete with one background. Touching, two-tone or one-hue objects are set by
flags such as --config.data.touching; the data of other options lie in a folder of their own.

Cost: not measured yet.
Score: not measured yet.
"""

import math

from ml_collections import ConfigDict

from configs import demo


def get_config() -> ConfigDict:
    """A locked ConfigDict with every field of ``TrainConfig``."""
    config = demo.get_config()
    config.model.num_slots = 3
    config.model.slot_offset = math.log(3)
    config.model.zf_dim = 32
    config.data.objects = (1, 3)
    config.data.shading = "flat"
    config.iterations = 600
    return config
