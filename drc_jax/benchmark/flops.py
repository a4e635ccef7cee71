"""Analytic cost of the networks in FLOPs, 2 per multiply-add, counting the direct form.

At the paper's size one generator is 9.9 GFLOP per image forward, one Langevin step 59 GFLOP per
image, one training iteration at batch 48 about 118 TFLOP (docs/method.md, "9 Cost"). Normalisation,
activations and sampling of the grid count nothing; an up-sampling convolution counts as a
convolution at the doubled size, however it is computed.
"""

import itertools

from drc_jax.config import ModelConfig, TrainConfig
from drc_jax.model.networks import BASE_SIZE


def generators_forward(config: ModelConfig) -> int:
    """All generators, one image, forward; the foreground's once for each slot."""
    slots = config.num_slots
    heads = (*[4] * slots, 4, 2)  # image and mask, image and mask, grid
    inputs = (*[config.zf_dim] * slots, config.zb_dim, config.zs_dim)
    first, last = config.generator_channels[0], config.generator_channels[-1]
    total = 0
    for latent, head in zip(inputs, heads, strict=True):
        total += latent * BASE_SIZE**2 * first
        total += 9 * last * head * config.image_size**2
        for i, (before, after) in enumerate(itertools.pairwise(config.generator_channels)):
            total += 9 * before * after * (BASE_SIZE * 2 ** (i + 1)) ** 2
    # The re-assignment generator also reads the background's base.
    total += 9 * first * config.generator_channels[1] * (2 * BASE_SIZE) ** 2
    return 2 * total


def energies_forward(config: ModelConfig) -> int:
    """All three energy MLPs, one latent, forward."""
    wide, narrow = config.ebm_width, config.ebm_reassign_width
    return 2 * (
        config.num_slots * wide * (config.zf_dim + wide + config.num_fg_categories)
        + wide * (config.zb_dim + wide + config.num_bg_categories)
        + narrow * (config.zs_dim + 2 * narrow + 1)
    )


def classifiers_forward(config: ModelConfig) -> int:
    """Both auxiliary classifiers, one image for each slot and one, forward."""
    total, side = 0, config.image_size
    for before, after in itertools.pairwise((3, *config.classifier_channels)):
        side //= 2
        total += 2 * 16 * before * after * side**2
    outputs = config.num_slots * config.num_fg_categories + config.num_bg_categories
    return (config.num_slots + 1) * total + 32 * config.classifier_channels[-1] * outputs


def posterior_step(config: ModelConfig) -> int:
    """One Langevin step on U1, one image: forward, and backward to z."""
    return 2 * (generators_forward(config) + energies_forward(config))


def prior_step(config: ModelConfig) -> int:
    """One Langevin step on U0, one chain: forward, and backward to z."""
    return 2 * energies_forward(config)


def train_iteration(config: TrainConfig) -> int:
    """Both samplers and the update, one batch; a backward pass to parameters is two forwards."""
    model, sampler = config.model, config.sampler
    update = generators_forward(model) + classifiers_forward(model) + 2 * energies_forward(model)
    per_image = (
        sampler.posterior_steps * posterior_step(model)
        + sampler.prior_steps * prior_step(model)
        + 3 * update
    )
    return config.batch_size * per_image
