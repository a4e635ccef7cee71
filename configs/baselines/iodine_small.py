"""IODINE for 32x32 scenes on two CPU cores.

    python -m experiments.train --config=configs/baselines/iodine_small.py \\
        --workdir=runs/iodine_small

Not the paper's settings: the decoder paints each pixel on its own, which makes it a chain of matrix
products, and the KL divergence is weighted in slowly.

Cost: not measured on idle cores.
Score: not measured; in three tries with nearby settings slots had not separated after 1,300 to
3,000 iterations.
"""

from ml_collections import ConfigDict

from configs.baselines import iodine


def get_config() -> ConfigDict:
    """A locked ConfigDict with every field of ``IodineConfig``."""
    config = iodine.get_config()
    config.model.image_size = 32
    config.model.num_slots = 4
    config.model.latent_size = 16
    config.model.refinements = 3
    config.model.decoder_channels = (32, 32, 32)
    config.model.decoder_kernel_size = 1
    config.model.decoder_coordinates = "both"
    config.model.refiner_channels = (16, 32, 32)
    config.model.refiner_mlp = (64, 64)
    config.model.lstm_size = 64
    config.model.kl_warmup_steps = 1_500
    config.model.rematerialise = False
    config.optimizer.learning_rate = 1e-3
    config.optimizer.warmup_steps = 300
    config.optimizer.decay_rate = 0.5
    config.optimizer.decay_steps = 1_500
    config.data.dataset = "scenes"
    config.data.num_train = 500
    config.data.num_test = 64
    config.batch_size = 16
    config.iterations = 3_000
    config.image_every = 500
    config.checkpoint_every = 500
    return config
