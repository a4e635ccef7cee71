"""The authors' released code's variant (docs/method.md 8) on Textured Multi-dSprites at 128x128.

    python -m experiments.train --config=configs/released_code.py --workdir=runs/released_code
    python -m experiments.evaluate --workdir=runs/released_code

Cost: 118 TFLOP per iteration (batch 48). Not timed with this code yet.
Score: not measured yet.
"""

from ml_collections import ConfigDict

from configs import default
from drc_jax.config import ModelConfig, to_dict


def get_config() -> ConfigDict:
    """A locked ConfigDict with every field of ``TrainConfig``."""
    config = default.get_config()
    released = ModelConfig.released(
        zf_dim=256, zb_dim=4, zs_dim=1024, num_fg_categories=200, num_bg_categories=200
    )
    config.model.update(to_dict(released))
    config.sampler.test_steps = 5000
    config.data.dataset = "tm_dsprites"
    config.iterations = 2_000_000  # a ceiling: stop when the pictures no longer change
    return config
