"""The defaults every config starts from: those of `drc_jax.config`, the paper's supplement.

Copy a config beside this one and change what differs; any field can also be set on the command
line, as in ``--config.optimizer.ebm_learning_rate=1e-5``. What the fields mean is documented in
``drc_jax/config/``.
"""

from ml_collections import ConfigDict

from drc_jax.config import TrainConfig, to_dict


def get_config() -> ConfigDict:
    """A locked ConfigDict with every field of ``TrainConfig``."""
    config = ConfigDict(to_dict(TrainConfig()))
    config.model.responsibility = "auto"  # decided by num_slots, which may still be set
    return config.lock()
