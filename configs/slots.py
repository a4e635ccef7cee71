"""Several objects: scenes of one to three flat ones at 32x32, on two CPU cores.

    python -m experiments.train --config=configs/slots.py --workdir=runs/slots
    python -m experiments.evaluate --workdir=runs/slots

Three foreground slots compete with one background. Touching, two-tone or one-hue objects are set by
flags such as --config.data.touching; the data of other options lie in a folder of their own.

Cost: 280 iterations took 11 minutes on two cores that some ten other programs shared.
Score: after 280 iterations union IoU 81.7, FG-ARI 68.1, matched mIoU 60.1; a third of the objects
is split (docs/results.md).

Half the demo's batch and images: for the same computing the generators take twice the steps and
chains are visited as often, and training was ahead at equal cost.
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
    config.data.num_train = 250
    config.batch_size = 16
    config.sampler.test_chains = 8
    config.sampler.test_mask_from = "gamma"
    config.iterations = 600
    config.image_every = 100
    return config
