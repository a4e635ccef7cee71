"""The sampler with a limited drift, on energies whose behaviour is known exactly."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drc_jax import langevin
from drc_jax.errors import UserError

KEY = jax.random.key(7)


def gaussian_energy(z):
    return 0.5 * jnp.sum(jnp.square(z), axis=-1)


def steep_energy(z):
    """|z|^2 / 2 + 50 sum(z): the gradient beyond z has root mean square 50 in every part."""
    return gaussian_energy(z) + 50.0 * jnp.sum(z, axis=-1)


def test_a_limit_that_is_never_reached_changes_no_bit():
    """So mean and variance stay the Gaussian's: |dU/dz - (z - 1)| has root mean square 1 < 5."""
    chains, delta = 100_000, 0.4

    def energy(z):
        return gaussian_energy(z - 1.0)

    options = dict(num_steps=100, step_size=delta)
    z = langevin.sample(KEY, energy, jnp.zeros((chains, 2)), **options, drift_limit=1.0)
    np.testing.assert_array_equal(
        z, langevin.sample(KEY, energy, jnp.zeros((chains, 2)), **options)
    )
    variance = 1 / (1 - delta**2 / 4)
    assert abs(float(jnp.mean(z)) - 1.0) < 4 * np.sqrt(variance / 2 / chains)
    assert abs(float(jnp.var(z)) - variance) < 4 * np.sqrt(2 / (2 * chains)) * variance


def test_a_limited_gaussian_has_the_mean_that_the_limit_gives():
    """The drift of R is a constant c delta then: mean -2 c / delta, and the variance is as ever."""
    chains, delta, limit = 100_000, 0.4, 0.5
    z = langevin.sample(
        KEY, steep_energy, jnp.zeros((chains, 2)), num_steps=150, step_size=delta, drift_limit=limit
    )
    variance = 1 / (1 - delta**2 / 4)
    assert abs(float(jnp.mean(z)) + 2 * limit / delta) < 4 * np.sqrt(variance / 2 / chains)
    assert abs(float(jnp.var(z)) - variance) < 4 * np.sqrt(2 / (2 * chains)) * variance


@pytest.mark.parametrize("diagnostics", [False, True])
def test_the_drift_is_bounded_part_by_part_and_the_noise_exact(diagnostics):
    """(3.3) with NumPy: z stays whole, the rest of the gradient is scaled in the steep part."""
    delta, limit, parts = 0.1, 0.5, (3, 4)
    slope = np.array([200.0, -10.0, 30.0, 1.0, -2.0, 0.5, 3.0], np.float32)
    z = np.asarray(jax.random.normal(KEY, (5, 7)))

    def energy(z):
        return gaussian_energy(z) + jnp.sum(z * slope[None], axis=-1)

    def sample(**options):
        found = langevin.sample(
            KEY, energy, z, num_steps=1, step_size=delta, diagnostics=diagnostics, **options
        )
        return np.asarray(found[0] if diagnostics else found)

    still = sample(drift_limit=limit, parts=parts, temperature=0.0)
    steep = slope[:3] * (2 * limit / delta) / np.sqrt(np.mean(slope[:3] ** 2))
    rest = np.concatenate([steep, slope[3:]])
    np.testing.assert_allclose(still, z - delta**2 / 2 * (z + rest), rtol=1e-5, atol=1e-6)
    drift = (still - z * (1 - delta**2 / 2)) / delta
    np.testing.assert_allclose(np.sqrt(np.mean(drift[:, :3] ** 2, axis=1)), limit, rtol=1e-4)
    noise = sample(drift_limit=limit, parts=parts) - still
    free = sample() - sample(temperature=0.0)
    np.testing.assert_allclose(noise, free, atol=1e-5)  # delta epsilon, whatever the limit
    assert np.std(noise) > 0.05


def test_chains_are_limited_each_on_its_own():
    scales = jnp.array([[1.0], [1000.0]])

    def energy(z):
        return gaussian_energy(z) + jnp.sum(scales * z, axis=-1)

    options = dict(num_steps=3, step_size=0.1)
    limited = langevin.sample(KEY, energy, jnp.zeros((2, 4)), **options, drift_limit=1.0)
    free = langevin.sample(KEY, energy, jnp.zeros((2, 4)), **options)
    np.testing.assert_array_equal(limited[0], free[0])
    assert np.abs(limited[1]).max() < 3 * (0.1 + 0.6) < np.abs(free[1]).min()


def test_a_gradient_that_is_not_a_number_is_not_hidden_by_a_limit():
    def energy(z):
        return gaussian_energy(z) + jnp.sum(jnp.sqrt(z), axis=-1)

    z = langevin.sample(KEY, energy, -jnp.ones((2, 3)), num_steps=1, step_size=0.1, drift_limit=1.0)
    assert np.isnan(z).all()


@pytest.mark.parametrize(
    ("z", "changes", "message"),
    [
        ((2, 3), dict(drift_limit=-1.0), "drift_limit must be a finite number of at least 0"),
        ((2, 3), dict(drift_limit=np.inf), "drift_limit must be a finite number of at least 0"),
        ((2, 3), dict(drift_limit=1.0, parts=(1, 1)), "parts must sum to the 3 latents of a chain"),
        ((2,), dict(drift_limit=1.0), "drift_limit needs latents [B, D], got shape (2,)"),
    ],
)
def test_limits_that_cannot_be_held_are_refused(z, changes, message, as_users_call):
    with pytest.raises(UserError, match=re.escape(message)):
        langevin.sample(KEY, gaussian_energy, jnp.zeros(z), num_steps=1, step_size=0.1, **changes)
