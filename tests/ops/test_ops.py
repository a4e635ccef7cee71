"""Array operations against their definitions, values and gradients."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drc_jax import ops
from drc_jax.ops import convolutions, interpolation

RNG = np.random.default_rng(5)
grid_sample = jax.jit(ops.grid_sample)


def normal(*shape):
    return jnp.asarray(RNG.standard_normal(shape), jnp.float32)


@functools.partial(jax.jit, static_argnums=0)
def value_and_slopes(function, above, *inputs):
    value, pull = jax.vjp(function, *inputs)
    return value, *pull(above)


@pytest.mark.parametrize("height, width", [(4, 4), (1, 1), (2, 7), (8, 16)])
@pytest.mark.parametrize("channels", [(3, 5), (6, 1), (16, 2)])
@pytest.mark.parametrize(
    "fast, direct",
    [
        (convolutions.upsample_conv_product, convolutions.upsample_conv_direct),
        (convolutions.conv3x3_product, convolutions.conv3x3_direct),
    ],
)
def test_product_forms_equal_direct_forms(height, width, channels, fast, direct):
    x, kernel = normal(2, height, width, channels[0]), normal(3, 3, *channels)
    above = normal(*jax.eval_shape(direct, x, kernel).shape)
    value, *slopes = value_and_slopes(fast, above, x, kernel)
    expected, *expected_slopes = value_and_slopes(direct, above, x, kernel)
    np.testing.assert_allclose(value, expected, atol=5e-5)
    for ours, theirs in zip(slopes, expected_slopes, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("height, width, channels", [(1, 1, 2), (2, 3, 5), (4, 6, 3), (1, 5, 4)])
def test_both_forms_of_interpolation_are_one_linear_map_and_its_transpose(height, width, channels):
    taps = normal(2, height, width, 3, 3, channels)
    slope = normal(2, 2 * height, 2 * width, channels)
    image = interpolation.by_slices(taps)
    found = interpolation.by_weights(taps)
    np.testing.assert_allclose(found, image, atol=2e-6)
    for transposed in (interpolation.by_slices_transposed, interpolation.by_weights_transposed):
        below = transposed(slope)
        np.testing.assert_allclose(jnp.vdot(below, taps), jnp.vdot(slope, image), rtol=1e-4)
        (expected,) = jax.linear_transpose(interpolation.by_slices, taps)(slope)
        np.testing.assert_allclose(below, expected, atol=2e-6)


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
    rows = convolutions.upsample(x)[0, :, 0, 0]
    np.testing.assert_allclose(rows, [0.0, 1.0, 3.0, 5.0, 7.0, 8.0])


def test_convolution_is_cross_correlation_with_zeros_outside():
    x = jnp.zeros((1, 3, 3, 1)).at[0, 0, 0, 0].set(1.0)
    kernel = jnp.arange(9.0).reshape(3, 3, 1, 1)
    for conv in (convolutions.conv3x3_product, convolutions.conv3x3_direct):
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
def test_instance_norm_and_its_written_out_slopes_against_autodiff(slope):
    def plain(x, scale, shift):
        mean = jnp.mean(x, (1, 2), keepdims=True)
        deviation = jnp.sqrt(jnp.mean((x - mean) ** 2, (1, 2), keepdims=True) + 1e-5)
        y = (x - mean) / deviation * scale[None, None, None] + shift[None, None, None]
        return jnp.where(y >= 0, y, slope * y)

    def ours(x, scale, shift):
        return ops.instance_norm(x, scale, shift, slope=slope)

    inputs = 3.0 + 2.0 * normal(2, 6, 5, 4), normal(4), normal(4)
    above = normal(*inputs[0].shape)
    value, *slopes = value_and_slopes(ours, above, *inputs)
    expected, *expected_slopes = value_and_slopes(plain, above, *inputs)
    np.testing.assert_allclose(value, expected, atol=1e-5)
    for mine, theirs in zip(slopes, expected_slopes, strict=True):
        assert mine.shape == theirs.shape
        np.testing.assert_allclose(mine, theirs, atol=2e-5)


def test_planes_take_apart_what_stack_puts_together():
    x = normal(2, 3, 4)
    for axis in (0, 1, -1):
        parts = ops.planes(x, axis)
        assert len(parts) == x.shape[axis]
        np.testing.assert_array_equal(jnp.stack(parts, axis), x)


def test_stored_is_the_identity_with_its_slope():
    x = normal(3, 5)

    def paid(y):
        return jnp.sum(jnp.sin(y))

    for function in (ops.stored, jax.jit(ops.stored), jax.vmap(ops.stored)):
        np.testing.assert_array_equal(function(x), x)
    slope = jax.grad(lambda x: paid(ops.stored(2.0 * x)))(x)
    np.testing.assert_allclose(slope, jax.grad(lambda x: paid(2.0 * x))(x), rtol=1e-6)


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
