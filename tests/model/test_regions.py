"""Region competition against its plain definition, for two and for more regions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drc_jax.model import regions

RNG = np.random.default_rng(3)


def draw(num_regions):
    pi = RNG.dirichlet(np.ones(num_regions), (2, 4, 5)).transpose(0, 3, 1, 2)
    images = RNG.uniform(-1, 1, (2, num_regions, 4, 5, 3))
    target = RNG.uniform(-1, 1, (2, 4, 5, 3))
    return pi, images, target


@pytest.mark.parametrize("num_regions", [2, 3, 5])
@pytest.mark.parametrize("likelihood", ["laplace", "gaussian"])
@pytest.mark.parametrize("per", ["channel", "pixel"])
def test_against_the_plain_definition(num_regions, likelihood, per):
    pi, images, target = draw(num_regions)
    error = target[:, None] - images
    log_p = -(np.abs(error) if likelihood == "laplace" else error**2) / (2 * 0.25**2)
    if per == "pixel":
        log_p = log_p.sum(-1, keepdims=True)
    weighted = pi[..., None] * np.exp(log_p)
    gamma = weighted / weighted.sum(1, keepdims=True)
    j = (gamma * (np.log(pi)[..., None] + log_p)).sum(1)

    f32 = [jnp.asarray(a, jnp.float32) for a in (pi, images, target)]
    ours = regions.log_likelihood(f32[1], f32[2], sigma=0.25, likelihood=likelihood)
    if per == "pixel":
        ours = jnp.sum(ours, axis=-1, keepdims=True)
    np.testing.assert_allclose(ours, log_p, rtol=1e-4, atol=1e-5)
    ours_gamma = regions.responsibilities(jnp.log(f32[0]), ours)
    np.testing.assert_allclose(ours_gamma, gamma, atol=1e-5)
    ours_j = regions.expected_log_likelihood(ours_gamma, jnp.log(f32[0]), ours)
    np.testing.assert_allclose(ours_j, j, rtol=1e-4)
    mixed = regions.mix(f32[0], f32[1])
    np.testing.assert_allclose(mixed, (pi[..., None] * images).sum(1), atol=1e-5)


def test_epsilon_is_the_listings():
    pi, images, target = draw(2)
    images[0, :, 0, 0] = 40.0  # so bad a fit that both densities vanish beside 1e-8
    p = np.exp(-np.abs(target[:, None] - images) / (2 * 0.25**2))
    f, b = pi[..., None].transpose(1, 0, 2, 3, 4), p.transpose(1, 0, 2, 3, 4)
    gamma_f = f[0] * b[0] / (f[0] * b[0] + f[1] * b[1] + 1e-8)
    log_p = regions.log_likelihood(
        jnp.asarray(images, jnp.float32), jnp.asarray(target, jnp.float32), sigma=0.25
    )
    log_pi = jnp.log(jnp.asarray(pi, jnp.float32))
    gamma = regions.responsibilities(log_pi, log_p, epsilon=1e-8)
    np.testing.assert_allclose(gamma[:, 0], gamma_f, atol=1e-5)
    np.testing.assert_allclose(gamma[:, 1], 1 - gamma_f, atol=1e-5)
    np.testing.assert_allclose(gamma[0, 0, 0, 0], 0.0)


def test_no_gradient_through_responsibilities():
    log_pi = jnp.log(jnp.full((1, 2, 1, 1), 0.5))
    log_p = jnp.zeros((1, 2, 1, 1, 3))
    slope = jax.grad(lambda lp: jnp.sum(regions.responsibilities(log_pi, lp)[:, 0]))(log_p)
    np.testing.assert_array_equal(slope, 0.0)


def test_finite_where_densities_underflow():
    log_pi = jnp.array([-200.0, 0.0]).reshape(1, 2, 1, 1)
    log_p = jnp.array([-500.0, -900.0]).reshape(1, 2, 1, 1, 1)
    gamma = regions.responsibilities(log_pi, log_p)
    np.testing.assert_allclose(gamma.ravel(), [1.0, 0.0])
    assert np.isfinite(regions.expected_log_likelihood(gamma, log_pi, log_p)).all()
