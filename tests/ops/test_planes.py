"""Planes against the same arithmetic on whole arrays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drc_jax.ops import Planes, each, log_sum_exp
from drc_jax.ops.planes import taken_apart

RNG = np.random.default_rng(2)


def draw(*shape):
    return jnp.asarray(RNG.standard_normal(shape), jnp.float32)


IMAGES, WEIGHTS, IMAGE = draw(2, 3, 4, 5, 2), draw(2, 3, 4, 5), draw(2, 4, 5, 2)


def test_arrays_are_taken_apart_and_put_together_again():
    images = Planes.of(IMAGES, region=1, channel=-1)
    assert images.axes == (("region", 3), ("channel", 2))
    assert [plane.shape for plane in images.planes] == [(2, 4, 5)] * 6
    np.testing.assert_array_equal(images.array(region=1, channel=-1), IMAGES)
    for axis in (0, 1, -1):
        parts = taken_apart(WEIGHTS, axis)
        assert len(parts) == WEIGHTS.shape[axis]
        np.testing.assert_array_equal(jnp.stack(parts, axis), WEIGHTS)


def test_operands_are_broadcast_over_the_axes_they_lack():
    images, weights = Planes.of(IMAGES, region=1, channel=-1), Planes.of(WEIGHTS, region=1)
    image = Planes.of(IMAGE, channel=-1)
    wide, seen = WEIGHTS[..., None], IMAGE[:, None]
    for planes, expected in (
        (weights * images, wide * IMAGES),
        (image - images, seen - IMAGES),
        (images + weights, IMAGES + wide),
        (images / weights, IMAGES / wide),
        (-2.0 * images, -2.0 * IMAGES),
        (weights - image, wide - seen),  # regions first, whichever operand has them
        (-images, -IMAGES),
        (each(jnp.maximum, images, 0.5), jnp.maximum(IMAGES, 0.5)),
    ):
        np.testing.assert_allclose(planes.array(region=1, channel=-1), expected, rtol=1e-6)
    with pytest.raises(AssertionError):
        images + Planes.of(WEIGHTS[:, :2], region=1)


def test_reductions_and_parts():
    images = Planes.of(IMAGES, region=1, channel=-1)
    np.testing.assert_allclose(
        images.sum("region").array(channel=-1), jnp.sum(IMAGES, 1), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_array_equal(images.max("channel").array(region=1), jnp.max(IMAGES, -1))
    np.testing.assert_allclose(images.pixel_sums(), jnp.sum(IMAGES, (1, 2, 3, 4)), rtol=1e-4)
    np.testing.assert_allclose(images.mean(), jnp.mean(IMAGES), rtol=1e-4)
    np.testing.assert_allclose(
        log_sum_exp(images, "region").array(channel=-1), jax.nn.logsumexp(IMAGES, 1), rtol=1e-5
    )
    np.testing.assert_array_equal(images.at("region", -1).array(channel=-1), IMAGES[:, -1])
    some = images.at("region", slice(1, None)).array(region=1, channel=-1)
    np.testing.assert_array_equal(some, IMAGES[:, 1:])
    again = Planes.stack("region", images.along("region"))
    np.testing.assert_array_equal(again.array(region=1, channel=-1), IMAGES)
    one = Planes.of(IMAGE, channel=-1)
    added = images.added("region", -1, one).array(region=1, channel=-1)
    np.testing.assert_array_equal(added, IMAGES.at[:, -1].add(IMAGE))


def test_planes_pass_through_jit_and_grad():
    @jax.jit
    def mixed(weights, images):
        return (weights * images).sum("region")

    def loss(images):
        return mixed(Planes.of(WEIGHTS, region=1), Planes.of(images, region=1, channel=-1)).mean()

    expected = jnp.broadcast_to(WEIGHTS[..., None] / IMAGE.size, IMAGES.shape)
    np.testing.assert_allclose(jax.grad(loss)(IMAGES), expected, rtol=1e-5)
