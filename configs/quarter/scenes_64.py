"""One to three lit objects on coloured floors at 64x64.

    python -m experiments.train --config=configs/quarter/scenes_64.py --workdir=runs/scenes_64
    python -m experiments.evaluate --workdir=runs/scenes_64

configs/quarter/scenes.py with one block more, a quarter of its langevin_weight and twice its
tv_weight.

Cost: not measured.
Score: not measured.
"""

from ml_collections import ConfigDict

from configs.quarter import photographs, scenes


def get_config() -> ConfigDict:
    """A locked ConfigDict with every field of ``TrainConfig``."""
    return photographs.at_64(scenes.get_config())
