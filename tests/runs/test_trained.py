"""What an opened run does with new images."""

import dataclasses

import chex
import jax
import numpy as np
import pytest

import drc_jax
from drc_jax.errors import UserError
from tests.helpers.small import small_run

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
KEYS = jax.random.split(jax.random.key(0), 2)


def segmented(**sampler):
    run = small_run()
    sampler = dataclasses.replace(run.config.sampler, test_mask_from="gamma", **sampler)
    run = run._replace(config=dataclasses.replace(run.config, sampler=sampler))
    return run.segment(KEYS, IMAGES, num_steps=3)


def test_new_images_have_the_sigma_of_testing():
    run = small_run()
    sharp = dataclasses.replace(run.config.model, sigma=0.1)
    step = run.config.sampler.posterior_step_size
    expected = drc_jax.infer(
        sharp, run.params, KEYS, IMAGES, num_steps=3, step_size=step, mask_from="gamma"
    )
    found = segmented(test_sigma=0.1)
    chex.assert_trees_all_equal(found.foreground_weight, expected.foreground_weight)
    plain = segmented()
    assert np.abs(found.foreground_weight - plain.foreground_weight).max() > 1e-3
    chex.assert_trees_all_equal(segmented(test_sigma=run.config.model.sigma), plain)
    # The chains feel it, not the masks alone.
    assert np.abs(found.images - plain.images).max() > 1e-4


def test_training_does_not_know_the_sigma_of_testing():
    config = small_run().config
    sharp = dataclasses.replace(config, sampler=dataclasses.replace(config.sampler, test_sigma=0.1))
    assert sharp.in_force(0).model == config.model and sharp.test_model.sigma == 0.1
    for wrong, told in ((-0.1, r"at least 0, got -0\.1"), (1e-9, "0 or at least 1e-06, got 1e-09")):
        with pytest.raises(UserError, match=f"test_sigma must be {told}"):
            dataclasses.replace(config.sampler, test_sigma=wrong)
