"""The penalty of the energies, which the paper does not have."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax

import drc_jax
from drc_jax.model.energies import energy
from tests.helpers.small import ONE_BLOCK as CONFIG

PENALISED = dataclasses.replace(CONFIG, energy_penalty_weight=0.25)


def samples():
    keys = jax.random.split(jax.random.key(1))
    return tuple(jax.random.normal(key, (8, CONFIG.latent_dim)) for key in keys)


def test_the_penalty_is_added_to_the_ebm_loss():
    params = drc_jax.init_params(CONFIG, jax.random.key(0))
    posterior, prior = samples()
    plain, aux = drc_jax.ebm_loss(CONFIG, params, posterior, prior)
    assert "energy_penalty" not in aux
    loss, aux = drc_jax.ebm_loss(PENALISED, params, posterior, prior)
    squares = [np.square(energy(CONFIG, params, z).total).mean() for z in (posterior, prior)]
    np.testing.assert_allclose(aux["energy_penalty"], sum(squares), rtol=1e-5)
    np.testing.assert_allclose(loss, plain + 0.25 * sum(squares), rtol=1e-5)


def test_the_penalty_bounds_energies_that_fall_without_bound():
    """On fixed samples the loss has no least value; with a penalty energies stay near +-1 / 2w."""

    def trained(config, steps=600):
        params = drc_jax.init_params(config, jax.random.key(0))
        optimizer = optax.adam(1e-2)
        z = samples()

        @jax.jit
        def step(params, state):
            gradient = jax.grad(lambda p: drc_jax.ebm_loss(config, p, *z)[0])(params)
            with jax.numpy_dtype_promotion("standard"):
                updates, state = optimizer.update(gradient, state)
            return optax.apply_updates(params, updates), state

        state = optimizer.init(params)
        for _ in range(steps):
            params, state = step(params, state)
        return [np.abs(energy(config, params, part).total).max() for part in z]

    assert min(trained(CONFIG)) > 100.0
    assert max(trained(PENALISED)) < 3.0


def test_a_limited_drift_reaches_both_chains_of_training():
    """With a likelihood far too steep chains leap, and a limit of the drift holds them."""
    model = dataclasses.replace(CONFIG, langevin_weight=1e5)
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    batch = {"image": images, "index": np.arange(4), "flip": np.zeros(4, bool)}

    def moved(limit):
        config = drc_jax.TrainConfig(
            model=model,
            sampler=drc_jax.SamplerConfig(
                prior_steps=2, posterior_steps=3, posterior_step_size=0.5, drift_limit=limit
            ),
            batch_size=4,
        )
        state = drc_jax.init_state(config, 4)
        before = {k: np.asarray(getattr(state, k)) for k in ("posterior_chains", "prior_chains")}
        state, metrics = drc_jax.train_step(config, state, batch)
        assert float(metrics["latents_finite"]) == 1.0
        return {k: np.asarray(getattr(state, k)) - z for k, z in before.items()}

    free, limited = moved(0.0), moved(1e-4)
    root = lambda z: np.sqrt(np.mean(np.square(z[:, 0])))  # noqa: E731
    assert root(free["posterior_chains"]) > 100.0
    # Three steps: noise of delta each, hardly a drift, and the pull of the prior.
    assert root(limited["posterior_chains"]) < 3 * (0.5 + 0.5e-4 + 0.5)
    assert jnp.abs(free["prior_chains"] - limited["prior_chains"]).max() > 1e-4
