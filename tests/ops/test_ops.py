"""The fast forms against ``ops.definitions``, values and gradients, and those against numbers."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drc_jax import ops
from drc_jax.ops import convolutions, definitions, interpolation

RNG = np.random.default_rng(5)
grid_sample = jax.jit(ops.grid_sample)


def normal(*shape):
    return jnp.asarray(RNG.standard_normal(shape), jnp.float32)


@functools.partial(jax.jit, static_argnums=0)
def value_and_cotangents(function, above, *inputs):
    value, pull = jax.vjp(function, *inputs)
    return value, *pull(above)


def assert_same_function(fast, plain, *inputs, atol=5e-5, gradient_atol=1e-4):
    """Values, and cotangents of all inputs for a random one of the output."""
    above = normal(*jax.eval_shape(plain, *inputs).shape)
    value, *ours = value_and_cotangents(fast, above, *inputs)
    expected, *theirs = value_and_cotangents(plain, above, *inputs)
    np.testing.assert_allclose(value, expected, atol=atol)
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.shape == other.shape
        np.testing.assert_allclose(mine, other, rtol=1e-4, atol=gradient_atol)


@pytest.mark.parametrize("height, width", [(4, 4), (1, 1), (2, 7), (8, 16)])
@pytest.mark.parametrize("channels", [(3, 5), (6, 1), (16, 2)])
@pytest.mark.parametrize(
    "fast, plain",
    [
        (convolutions.upsample_conv_product, definitions.upsample_conv),
        (convolutions.conv3x3_product, definitions.conv3x3),
        (ops.upsample_conv, definitions.upsample_conv),
        (ops.conv3x3, definitions.conv3x3),
    ],
)
def test_convolutions(height, width, channels, fast, plain):
    x, kernel = normal(2, height, width, channels[0]), normal(3, 3, *channels)
    assert_same_function(fast, plain, x, kernel)


@pytest.mark.parametrize("height, width, channels", [(1, 1, 2), (2, 3, 5), (4, 6, 3), (1, 5, 4)])
@pytest.mark.parametrize(
    "form, transposed",
    [
        (interpolation.by_slices, interpolation.by_slices_transposed),
        (interpolation.by_weights, interpolation.by_weights_transposed),
    ],
)
def test_both_forms_of_interpolation_and_their_transposes(
    height, width, channels, form, transposed
):
    taps = normal(2, height, width, 3, 3, channels)
    cotangent = normal(2, 2 * height, 2 * width, channels)
    np.testing.assert_allclose(form(taps), definitions.interpolate(taps), atol=2e-6)
    (expected,) = jax.linear_transpose(definitions.interpolate, taps)(cotangent)
    np.testing.assert_allclose(transposed(cotangent), expected, atol=2e-6)
    assert_same_function(interpolation.interpolate, definitions.interpolate, taps, atol=2e-6)


def test_interpolation_sums_in_float32_and_keeps_the_dtype():
    taps = normal(2, 4, 4, 3, 3, 5).astype(jnp.bfloat16)
    expected = interpolation.by_slices(taps.astype(jnp.float32))
    for form in (interpolation.by_slices, interpolation.by_weights):
        found = form(taps)
        assert found.dtype == jnp.bfloat16
        # One rounding of 2^-9 for each axis that is stored, none for the sums.
        np.testing.assert_allclose(found.astype(jnp.float32), expected, atol=0.02, rtol=0.01)


def test_upsampling_clamps_edges_and_uses_half_pixel_centres():
    x = jnp.array([0.0, 4.0, 8.0]).reshape(1, 3, 1, 1)
    rows = definitions.upsample(x)[0, :, 0, 0]
    np.testing.assert_allclose(rows, [0.0, 1.0, 3.0, 5.0, 7.0, 8.0])


def test_convolution_is_cross_correlation_with_zeros_outside():
    x = jnp.zeros((1, 3, 3, 1)).at[0, 0, 0, 0].set(1.0)
    kernel = jnp.arange(9.0).reshape(3, 3, 1, 1)
    for conv in (convolutions.conv3x3_product, definitions.conv3x3):
        np.testing.assert_allclose(conv(x, kernel)[0, :2, :2, 0], [[4.0, 3.0], [1.0, 0.0]])


def sampled_by_hand(image, grid):
    _, height, width, channels = image.shape
    out = np.zeros((*grid.shape[:3], channels))
    for b, i, j in np.ndindex(*grid.shape[:3]):
        x = ((grid[b, i, j, 0] + 1) * width - 1) / 2
        y = ((grid[b, i, j, 1] + 1) * height - 1) / 2
        for row in range(height):
            for column in range(width):
                weight = max(0, 1 - abs(x - column)) * max(0, 1 - abs(y - row))
                out[b, i, j] += weight * image[b, row, column]
    return out


def test_grid_sample_against_its_definition():
    image = RNG.standard_normal((2, 5, 7, 3))
    grid = RNG.uniform(-1.4, 1.4, (2, 4, 6, 2))
    grid[0, 0, :4] = [[9.0, -9.0], [-1.0, 1.0], [1.0, 1.0], [0.0, 0.0]]
    ours = grid_sample(jnp.asarray(image, jnp.float32), jnp.asarray(grid, jnp.float32))
    np.testing.assert_allclose(ours, sampled_by_hand(image, grid), atol=1e-5)


def test_grid_sample_of_the_identity_grid_is_the_image():
    image = normal(1, 4, 6, 2)
    x = (2 * jnp.arange(6.0) + 1) / 6 - 1
    y = (2 * jnp.arange(4.0) + 1) / 4 - 1
    grid = jnp.stack(jnp.meshgrid(x, y), axis=-1)[None]
    np.testing.assert_allclose(grid_sample(image, grid), image, atol=1e-5)


def test_grid_sample_gradients_to_image_and_grid():
    image, slope = normal(1, 5, 4, 2), normal(1, 3, 3, 2)
    # Away from pixel centres, where the interpolation has kinks.
    grid = jnp.asarray(RNG.uniform(-0.9, 0.9, (1, 3, 3, 2)), jnp.float32)

    def loss(image, grid):
        return jnp.sum(slope * ops.grid_sample(image, grid))

    image_grad, grid_grad = jax.jit(jax.grad(loss, argnums=(0, 1)))(image, grid)

    def by_hand(image, grid):
        return np.sum(np.asarray(slope) * sampled_by_hand(image, grid))

    step = 1e-6
    for array, ours, place in ((image, image_grad, 0), (grid, grid_grad, 1)):
        arrays = [np.asarray(image, np.float64), np.asarray(grid, np.float64)]
        for index in np.ndindex(*array.shape):
            moved = [a.copy() for a in arrays]
            moved[place][index] += step
            expected = (by_hand(*moved) - by_hand(*arrays)) / step
            np.testing.assert_allclose(ours[index], expected, atol=2e-3)


def test_grid_sample_survives_coordinates_that_are_not_numbers():
    grid = jnp.full((1, 2, 2, 2), jnp.nan)
    assert np.isnan(grid_sample(normal(1, 3, 3, 1), grid)).all()


def test_total_variation_and_instance_norm():
    image = normal(2, 4, 5, 3)
    a = np.asarray(image, np.float64)
    expected = np.abs(np.diff(a, axis=1)).sum((1, 2, 3)) + np.abs(np.diff(a, axis=2)).sum((1, 2, 3))
    np.testing.assert_allclose(ops.total_variation(image), expected, rtol=1e-5)

    scale, shift = normal(3), normal(3)
    mean, variance = a.mean((1, 2), keepdims=True), a.var((1, 2), keepdims=True)
    expected = (a - mean) / np.sqrt(variance + 1e-5) * np.asarray(scale) + np.asarray(shift)
    np.testing.assert_allclose(ops.instance_norm(image, scale, shift), expected, atol=1e-5)


@pytest.mark.parametrize("slope", [1.0, 0.01, 0.2])
def test_instance_norm_and_its_written_out_gradient(slope):
    inputs = 3.0 + 2.0 * normal(2, 6, 5, 4), normal(4), normal(4)
    fast, plain = (
        functools.partial(form, slope=slope)
        for form in (ops.instance_norm, definitions.instance_norm)
    )
    assert_same_function(fast, plain, *inputs, atol=1e-5, gradient_atol=2e-5)


def test_total_variation_and_grid_sample_against_their_definitions():
    image = normal(2, 5, 7, 3)
    assert_same_function(ops.total_variation, definitions.total_variation, image)
    # Away from pixel centres, where the interpolation has kinks, and partly outside.
    grid = jnp.asarray(RNG.uniform(-1.4, 1.4, (2, 4, 6, 2)), jnp.float32)
    assert_same_function(ops.grid_sample, definitions.grid_sample, image, grid, gradient_atol=2e-4)
    planes = ops.Planes.of(image, channel=-1)
    np.testing.assert_array_equal(ops.total_variation(planes), ops.total_variation(image))


def test_stored_is_the_identity_with_its_gradient():
    x = normal(3, 5)

    def paid(y):
        return jnp.sum(jnp.sin(y))

    for function in (ops.stored, jax.jit(ops.stored), jax.vmap(ops.stored)):
        np.testing.assert_array_equal(function(x), x)
    gradient = jax.grad(lambda x: paid(ops.stored(2.0 * x)))(x)
    np.testing.assert_allclose(gradient, jax.grad(lambda x: paid(2.0 * x))(x), rtol=1e-6)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="elsewhere it does nothing")
def test_stored_keeps_xla_from_repeating_a_sum():
    def readers(x, y, keep):
        total = x + y
        total = ops.stored(total) if keep else total
        return [jnp.exp(total * factor) for factor in (2.0, 3.0, 4.0)]

    compiled = jax.jit(readers, static_argnums=2)
    x = jnp.ones((64, 64))
    additions = [
        len(re.findall(r" add\(", compiled.lower(x, x, keep).compile().as_text()))
        for keep in (False, True)
    ]
    assert additions == [3, 1]
