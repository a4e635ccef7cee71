"""Slot Attention for 32x32 scenes on two CPU cores.

    python -m experiments.train --config=configs/baselines/slot_attention_small.py \\
        --workdir=runs/slots_small

Not the paper's settings: shared Gaussian slots need more iterations to separate than this budget
has, so slots are learned queries with bi-level gradients, as in BO-QSA.
Cost: about 12 GFLOP per iteration, as counted from the layers; meant for 10 to 20 minutes on two
cores, not timed.
Score: not measured.
"""

from ml_collections import ConfigDict

from configs.baselines import slot_attention


def get_config() -> ConfigDict:
    """A locked ConfigDict with every field of ``SlotAttentionConfig``."""
    config = slot_attention.get_config()
    config.model.image_size = 32
    config.model.num_slots = 4
    config.model.kernel_size = 3
    config.model.encoder_channels = (32, 32, 32, 32)
    config.model.encoder_strides = (2, 1, 1, 1)
    config.model.decoder_channels = (32, 32, 32)
    config.model.decoder_strides = (2, 2, 1)
    config.model.initial_slots = "learned"
    config.model.noise_steps = 300
    config.model.gradient = "bi_level"
    config.optimizer.warmup_steps = 100
    config.optimizer.decay_steps = 1_000
    config.data.dataset = "scenes"
    config.data.num_train = 500
    config.data.num_test = 64
    config.batch_size = 32
    config.iterations = 3_000
    config.image_every = 250
    config.checkpoint_every = 250
    return config
