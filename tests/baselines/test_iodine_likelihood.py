"""IODINE's mixture: densities, likelihoods, and gradients in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drc_jax.baselines import iodine_likelihood as likelihood
from tests.helpers.slot_methods import mixture_pixels


@pytest.mark.parametrize("density", likelihood.DENSITIES)
def test_the_density_of_a_channel_integrates_to_one(density):
    values = jnp.linspace(-3.0, 3.0, 20_001)
    seen = jnp.stack([values, jnp.full_like(values, 0.4), jnp.full_like(values, 0.4)], -1)[None]
    centre = jnp.full((1, 1, 1, 3), 0.4)
    at = likelihood.log_density(density, 0.1, seen[:, None], centre[:, :, None])[0, 0, 0]
    peak = likelihood.log_density(density, 0.1, centre[:, 0, None], centre[:, :, None])
    others = 2 * float(peak[0, 0, 0, 0]) / 3
    assert float(jnp.sum(jnp.exp(at - others)) * 6 / 20_000) == pytest.approx(1.0, rel=1e-3)


def test_channels_belong_to_one_component_together():
    seen, means, logits, densities = mixture_pixels()
    z = (np.asarray(seen, np.float64)[:, None] - means) / 0.2
    each = np.exp(-0.5 * z**2) / (0.2 * np.sqrt(2 * np.pi))
    weights = np.exp(np.asarray(logits, np.float64))
    weights /= weights.sum(1, keepdims=True)
    expected = np.log((weights * each.prod(-1)).sum(1))
    np.testing.assert_allclose(likelihood.log_likelihood(logits, densities), expected, rtol=1e-4)


@pytest.mark.parametrize("density", likelihood.DENSITIES)
def test_pixel_gradients_are_autodiffs(density):
    seen, means, logits, densities = mixture_pixels(density)

    def nll(means, logits):
        of_slots = likelihood.log_density(density, 0.2, seen, means)
        return -jnp.sum(likelihood.log_likelihood(logits, of_slots))

    expected = jax.grad(nll, argnums=(0, 1))(means, logits)
    found = likelihood.pixel_gradients(density, 0.2, seen, means, logits, densities)
    for closed, differentiated in zip(found, expected, strict=True):
        assert np.abs(differentiated).max() > 0.1
        np.testing.assert_allclose(closed, differentiated, rtol=1e-3, atol=1e-4)


def test_leaving_a_slot_out():
    """Of two slots the other remains; of three, the mixture of the other two."""
    _, _, logits, densities = mixture_pixels(slots=2)
    found = likelihood.leave_one_out(logits, densities)
    np.testing.assert_allclose(found, densities[:, ::-1], rtol=1e-4, atol=1e-4)
    _, _, logits, densities = mixture_pixels()
    for k in range(3):
        others = np.delete(np.arange(3), k)
        expected = likelihood.log_likelihood(logits[:, others], densities[:, others])
        found = likelihood.leave_one_out(logits, densities)[:, k]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_far_off_slots_give_finite_numbers():
    seen, means, logits, _ = mixture_pixels()
    densities = likelihood.log_density("gaussian", 1e-3, seen, means + 50.0)
    for values in (
        likelihood.log_likelihood(logits, densities),
        likelihood.leave_one_out(logits, densities),
        *likelihood.pixel_gradients("gaussian", 1e-3, seen, means + 50.0, logits, densities),
    ):
        assert np.isfinite(values).all()
