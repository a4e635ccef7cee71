"""Region competition against its plain definition, for two and for more regions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drc_jax.model import regions
from drc_jax.ops import Planes

RNG = np.random.default_rng(3)


def draw(num_regions):
    pi = RNG.dirichlet(np.ones(num_regions), (2, 4, 5)).transpose(0, 3, 1, 2)
    images = RNG.uniform(-1, 1, (2, num_regions, 4, 5, 3))
    target = RNG.uniform(-1, 1, (2, 4, 5, 3))
    return pi, images, target


def weights(pi):
    return Planes.of(jnp.asarray(pi, jnp.float32), region=1)


def painted(images):
    return Planes.of(jnp.asarray(images, jnp.float32), region=1, channel=-1)


def observed(image):
    return Planes.of(jnp.asarray(image, jnp.float32), channel=-1)


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

    log_pi = weights(np.log(pi))
    ours = regions.log_likelihood(
        painted(images), observed(target), sigma=0.25, likelihood=likelihood
    )
    axes = dict(region=1, channel=-1)
    if per == "pixel":
        ours = ours.sum("channel")
        axes = dict(region=1)
        log_p, gamma, j = log_p[..., 0], gamma[..., 0], j[..., 0]
    np.testing.assert_allclose(ours.array(**axes), log_p, rtol=1e-4, atol=1e-5)
    ours_gamma = regions.responsibilities(log_pi, ours)
    np.testing.assert_allclose(ours_gamma.array(**axes), gamma, atol=1e-5)
    del axes["region"]
    ours_j = regions.expected_log_likelihood(ours_gamma, log_pi, ours).array(**axes)
    np.testing.assert_allclose(ours_j, j, rtol=1e-4)
    mixed = regions.mix(weights(pi), painted(images)).array(channel=-1)
    np.testing.assert_allclose(mixed, (pi[..., None] * images).sum(1), atol=1e-5)


def test_epsilon_is_the_listings():
    pi, images, target = draw(2)
    images[0, :, 0, 0] = 40.0  # so bad a fit that both densities vanish beside 1e-8
    p = np.exp(-np.abs(target[:, None] - images) / (2 * 0.25**2))
    f, b = pi[..., None].transpose(1, 0, 2, 3, 4), p.transpose(1, 0, 2, 3, 4)
    gamma_f = f[0] * b[0] / (f[0] * b[0] + f[1] * b[1] + 1e-8)
    log_p = regions.log_likelihood(painted(images), observed(target), sigma=0.25)
    gamma = regions.responsibilities(weights(np.log(pi)), log_p, epsilon=1e-8)
    gamma = gamma.array(region=1, channel=-1)
    np.testing.assert_allclose(gamma[:, 0], gamma_f, atol=1e-5)
    np.testing.assert_allclose(gamma[:, 1], 1 - gamma_f, atol=1e-5)
    np.testing.assert_allclose(gamma[0, 0, 0, 0], 0.0)


def test_no_gradient_through_responsibilities():
    log_pi = weights(np.log(np.full((1, 2, 1, 1), 0.5)))

    def share(log_p):
        gamma = regions.responsibilities(log_pi, painted(log_p))
        return jnp.sum(gamma.array(region=1, channel=-1)[:, 0])

    np.testing.assert_array_equal(jax.grad(share)(jnp.zeros((1, 2, 1, 1, 3))), 0.0)


def test_finite_where_densities_underflow():
    log_pi = weights(np.array([-200.0, 0.0]).reshape(1, 2, 1, 1))
    log_p = weights(np.array([-500.0, -900.0]).reshape(1, 2, 1, 1))
    gamma = regions.responsibilities(log_pi, log_p)
    np.testing.assert_allclose(gamma.array(region=1).ravel(), [1.0, 0.0])
    assert np.isfinite(regions.expected_log_likelihood(gamma, log_pi, log_p).array()).all()
