"""IODINE for 16x16 scenes of two flat objects, on two CPU cores.

    python -m experiments.train --config=configs/baselines/iodine_small.py \\
        --workdir=runs/iodine_small
    python -m experiments.evaluate --workdir=runs/iodine_small

Not the paper's sizes: two refinements, no LSTM (as the authors' release has it for Tetrominoes), a
decoder that paints each pixel on its own as a chain of matrix products, features flattened instead
of averaged. The density, its scale of 0.1 and the loss are the paper's. At test time the best of
eight draws is kept, by the loss itself.
Cost: 11 min 23 s for 14,958 iterations beside other programs, 24 per second; 30 s to compile.
Score: FG-ARI 81.4, ARI 79.8, matched mIoU 78.1 (seed 0, after 14,958 iterations, when its time was
up); with one draw 55.6, 54.6 and 54.9. k-means of colour and place has 76.9, 69.2 and 72.0.
docs/results.md shows the slots and the course.
"""

from ml_collections import ConfigDict

from configs.baselines import iodine


def get_config() -> ConfigDict:
    """A locked ConfigDict with every field of ``IodineConfig``."""
    config = iodine.get_config()
    config.model.image_size = 16
    config.model.num_slots = 3
    config.model.latent_size = 8
    config.model.refinements = 2
    config.model.decoder_channels = (32, 32, 32)
    config.model.decoder_kernel_size = 1
    config.model.decoder_coordinates = "both"
    config.model.refiner_channels = (16, 32)
    config.model.refiner_pooling = "flatten"
    config.model.refiner_mlp = (64, 64)
    config.model.lstm_size = 0
    config.model.scale = 0.1
    config.model.kl_warmup_steps = 2_000
    config.model.test_draws = 8
    config.model.rematerialise = False
    config.optimizer.learning_rate = 2e-3
    config.optimizer.warmup_steps = 100
    config.optimizer.decay_rate = 0.5
    config.optimizer.decay_steps = 10_000
    config.data.dataset = "scenes"
    config.data.objects = (2, 2)
    config.data.shading = "flat"
    config.data.num_train = 10_000
    config.data.num_test = 320
    config.batch_size = 8
    config.iterations = 15_000
    config.log_every = 50
    config.image_every = 2_000
    config.checkpoint_every = 500
    return config
