"""The demo on coloured floors, where a saturation threshold fails (docs/results.md).

    python -m experiments.train --config=configs/demo_coloured.py --workdir=runs/demo_coloured
    python -m experiments.evaluate --workdir=runs/demo_coloured

As configs/demo.py, with four background latents instead of two, for the floor's colour varies too.
"""

from ml_collections import ConfigDict

from configs import demo


def get_config() -> ConfigDict:
    """A locked ConfigDict with every field of ``TrainConfig``."""
    config = demo.get_config()
    config.model.zb_dim = 4
    config.data.floor = "coloured"
    return config
