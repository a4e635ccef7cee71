"""Slot Attention with the paper's sizes for 128x128 images.

    python -m experiments.train --config=configs/baselines/slot_attention.py \\
        --workdir=runs/slot_attention --config.data.dataset=clevr6 \\
        --config.data.path=data/clevr6_128
    python -m experiments.train --config=configs/baselines/slot_attention.py \\
        --workdir=runs/slots_birds --config.data.dataset=birds --config.data.path=data/birds_128 \\
        --config.model.num_slots=2

Slots: 7 for CLEVR6 (6 objects and the background), 2 for one object, 4 for TM-dSprites.
Cost: about 8.2 TFLOP per iteration of 64 images with 7 slots and 4e18 in all, as counted from the
layers; not timed.
Score: not measured.
"""

from ml_collections import ConfigDict

from drc_jax.baselines.slot_attention import SlotAttentionConfig
from drc_jax.config import to_dict


def get_config() -> ConfigDict:
    """A locked ConfigDict with every field of ``SlotAttentionConfig``."""
    config = SlotAttentionConfig()
    return ConfigDict({"method": config.method, **to_dict(config)}).lock()
