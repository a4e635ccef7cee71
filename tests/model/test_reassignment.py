"""Without re-assignment every pixel of the background stays where it was painted."""

import dataclasses

import jax
import numpy as np

import drc_jax
from drc_jax.inference import rendered
from tests.helpers.small import ONE_BLOCK as CONFIG

STILL = dataclasses.replace(CONFIG, pixel_reassignment=False)


def test_the_background_stays_where_it_was_painted():
    params = drc_jax.init_params(CONFIG, jax.random.key(0))
    z = jax.random.normal(jax.random.key(1), (3, CONFIG.latent_dim))
    moved, still = (rendered(config, params, z) for config in (CONFIG, STILL))
    np.testing.assert_array_equal(still.images[:, -1], still.background_source)
    np.testing.assert_array_equal(still.background_source, moved.background_source)
    np.testing.assert_array_equal(still.images[:, 0], moved.images[:, 0])
    assert np.abs(moved.images[:, -1] - moved.background_source).max() > 0.01
    # The mask logit stays too, so the weights are the softmax of the logits as painted.
    np.testing.assert_allclose(still.pi, jax.nn.softmax(still.mask_logits, axis=1), rtol=1e-5)


def test_the_latent_and_the_generator_of_the_grid_are_of_no_use():
    params = drc_jax.init_params(STILL, jax.random.key(0))
    z = jax.random.normal(jax.random.key(1), (2, STILL.latent_dim))
    image = jax.random.uniform(jax.random.key(2), (2, 8, 8, 3), minval=-1.0)

    def misfit(params, z):
        energy = drc_jax.posterior_energy(STILL, params, z, image)
        return (energy - drc_jax.prior_energy(STILL, params, z)).sum()

    of_params, of_z = jax.jit(jax.grad(misfit, argnums=(0, 1)))(params, z)
    largest = lambda tree: max(np.abs(a).max() for a in jax.tree.leaves(tree))  # noqa: E731
    assert largest(of_params["generator"]["reassignment"]) == 0.0
    assert largest(of_z[:, -STILL.zs_dim :]) < 1e-6  # the prior's, less itself
    assert largest(of_z[:, : -STILL.zs_dim]) > 1e-3
