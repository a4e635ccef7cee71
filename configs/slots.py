"""Several objects: scenes of one to three flat ones at 32x32, on two CPU cores.

    python -m experiments.train --config=configs/slots.py --workdir=runs/slots
    python -m experiments.evaluate --workdir=runs/slots

Three foreground slots compete with one background. Touching, two-tone or one-hue objects are set by
flags such as --config.data.touching; the data of other options lie in a folder of their own.

Cost: 300 iterations take 5 minutes on one core, scoring 64 images with eight chains 3 minutes.
Score: union IoU 97.5, FG-ARI 94.4, matched mIoU 81.7; 12 % of the objects are split, large ones
alone in their image (seed 0, docs/slots.md).

- sigma 0.45 and a cost of contact between slots keep slots off the floor and each other (docs/
  slots.md); w / (2 sigma^2) is what it is at sigma 0.25 and the demo's w;
- eight chains at test, masks from responsibilities: pixels that chains often put together are one
  object;
- half the demo's batch and images: for the same computing the generators take twice the steps and
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
    config.model.sigma = 0.45
    config.model.langevin_weight = 12.96
    config.model.slot_contact_weight = 4.0
    config.data.objects = (1, 3)
    config.data.shading = "flat"
    config.data.num_train = 250
    config.batch_size = 16
    config.sampler.test_chains = 8
    config.sampler.test_mask_from = "gamma"
    config.iterations = 300
    config.image_every = 100
    return config
