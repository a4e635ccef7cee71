"""The whole pipeline in seconds: small generated scenes, small networks, short chains.

    python -m experiments.train --config=configs/tiny.py --workdir=runs/tiny
    python -m experiments.evaluate --workdir=runs/tiny

Cost: half a minute on two CPU cores, nearly all of it compiling.
Score: none to expect; eight iterations learn nothing.
"""

from ml_collections import ConfigDict

from configs import default


def get_config() -> ConfigDict:
    """A locked ConfigDict with every field of ``TrainConfig``."""
    config = default.get_config()
    config.model.zf_dim = 8
    config.model.zb_dim = 4
    config.model.zs_dim = 8
    config.model.generator_channels = (8, 8, 8)
    config.model.classifier_channels = (4, 8)
    config.model.ebm_width = 8
    config.model.ebm_reassign_width = 8
    config.model.num_fg_categories = 4
    config.model.num_bg_categories = 3
    config.sampler.prior_steps = 3
    config.sampler.posterior_steps = 2
    config.sampler.test_steps = 5
    config.data.dataset = "scenes"
    config.data.num_train = 16
    config.data.num_test = 8
    config.batch_size = 4
    config.iterations = 8
    config.log_every = 1
    config.image_every = 4
    config.checkpoint_every = 2
    return config
