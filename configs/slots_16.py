"""Several objects at 16x16: scenes of one to three, in about two minutes on two CPU cores.

    python -m experiments.train --config=configs/slots_16.py --workdir=runs/slots_16
    python -m experiments.evaluate --workdir=runs/slots_16

The scale of the experiments in docs/slots.md. A quarter of the pixels of configs/slots.py, and w
such that their likelihood weighs as much against prior and noise.
"""

from ml_collections import ConfigDict

from configs import slots


def get_config() -> ConfigDict:
    """A locked ConfigDict with every field of ``TrainConfig``."""
    config = slots.get_config()
    config.model.generator_channels = (32, 32, 16)
    config.model.classifier_channels = (16, 32)
    config.model.langevin_weight = 16.0
    config.iterations = 400
    config.image_every = 100
    config.checkpoint_every = 100
    return config
