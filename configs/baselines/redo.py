"""ReDO with the released code's sizes for 128x128 images.

    python -m experiments.train --config=configs/baselines/redo.py --workdir=runs/redo_birds \\
        --config.data.dataset=birds --config.data.path=data/birds_128
    python -m experiments.train --config=configs/baselines/redo.py --workdir=runs/redo_clevr6 \\
        --config.data.dataset=clevr6 --config.data.path=data/clevr6_128 --config.restart.below=0.02

The authors trained for 20,000 to 40,000 iterations, and took 32 for `model.generator_width` on
Flowers. A restart of a collapsed run takes its iterations from the same budget; the metric
`restarts` counts them.
Cost: about 6.2 TFLOP per iteration and 1.2e17 in all, as counted from the layers; not timed.
Score: not measured.
"""

from ml_collections import ConfigDict

from drc_jax.baselines.redo import ReDOConfig
from drc_jax.config import to_dict


def get_config() -> ConfigDict:
    """A locked ConfigDict with every field of ``ReDOConfig``."""
    config = ReDOConfig()
    return ConfigDict({"method": config.method, **to_dict(config)}).lock()
