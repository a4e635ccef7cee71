"""Slot Attention with the learned queries of BO-QSA and its mixture decoder, at 128x128.

    python -m experiments.train --config=configs/baselines/boqsa_mixture.py \\
        --workdir=runs/boqsa_mixture --config.data.dataset=clevr6 --config.data.path=data/clevr6_128

A preset of ours, not a reproduction: the scores that BO-QSA reports on photographs need its
transformer decoder, which is not here, and the slots' MLP begins Glorot uniform throughout.
Cost: not measured.
Score: not measured.
"""

from ml_collections import ConfigDict

from configs.baselines import slot_attention


def get_config() -> ConfigDict:
    """A locked ConfigDict with every field of ``SlotAttentionConfig``."""
    config = slot_attention.get_config()
    config.model.encoder_strides = (2, 1, 1, 1)
    config.model.encoder_mlp = (128, 64)
    config.model.initial_slots = "learned"
    config.model.noise_steps = 30_000
    config.model.gradient = "bi_level"
    config.model.epsilon = 1.0
    config.model.epsilon_on = "sum"
    config.model.layer_norm_epsilon = 1e-5
    config.model.drop_rate = 0.2
    config.optimizer.warmup_steps = 5_000
    config.optimizer.decay_steps = 50_000
    config.optimizer.clip_norm = 1.0
    config.batch_size = 128
    config.iterations = 250_000
    return config
