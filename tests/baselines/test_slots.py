"""What slot methods share: grids, the broadcast decoder, and the picture of their slots."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drc_jax.baselines import slots
from drc_jax.evaluation import pictures


def test_position_grid():
    grid = slots.position_grid(3, 5)
    assert grid.shape == (3, 5, 4)
    np.testing.assert_allclose(grid[0, 4], [0, 1, 1, 0])
    np.testing.assert_allclose(grid[2, 1], [1, 0.25, 0, 0.75])


def test_coordinates():
    linear = slots.coordinates("linear", 3, 5)
    np.testing.assert_allclose(linear[0, 4], [-1, 1])
    np.testing.assert_allclose(linear[2, 1], [1, -0.5])
    cosine = slots.coordinates("cosine", 3, 5)
    u, v = 0.5, 0.75
    expected = [np.cos(i * np.pi * u) * np.cos(j * np.pi * v) for i in range(3) for j in range(3)]
    np.testing.assert_allclose(cosine[1, 3], expected[1:], atol=1e-6)
    both = slots.coordinates("both", 3, 5)
    np.testing.assert_array_equal(both, np.concatenate([linear, cosine], axis=-1))


def test_masks_are_a_softmax_over_slots_that_mixes_the_images():
    rng = np.random.default_rng(0)
    images = rng.normal(size=(2, 3, 4, 4, 3)).astype("float32")
    logits = rng.normal(size=(2, 3, 4, 4)).astype("float32")
    regions = slots.mix(jnp.asarray(images), jnp.asarray(logits))
    weights = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(regions.pi, weights, rtol=1e-5)
    mixed = np.einsum("bkhw,bkhwc->bhwc", weights, images)
    np.testing.assert_allclose(regions.reconstruction, mixed, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("coordinates", ["", "linear", "both"])
def test_a_kernel_of_one_is_a_convolution(coordinates):
    """The matrix products are what 1x1 kernels compute, and paint every slot on its own."""
    decoder = slots.BroadcastDecoder(
        8, (6, 5), (1, 1), kernel_size=1, last_kernel_size=1, coordinates=coordinates
    )
    latents = jax.random.normal(jax.random.key(0), (2, 3, 4))
    params = decoder.init(jax.random.key(1), latents)["params"]
    images, logits = decoder.apply({"params": params}, latents)
    assert images.shape == (2, 3, 8, 8, 3) and logits.shape == (2, 3, 8, 8)

    wide = decoder.clone(kernel_size=3, last_kernel_size=3)
    kernels = wide.init(jax.random.key(1), latents)["params"]
    for number in range(3):
        flat, layer = params[f"Dense_{number}"], kernels[f"ConvTranspose_{number}"]
        middle = jnp.zeros_like(layer["kernel"]).at[1, 1].set(flat["kernel"])
        kernels[f"ConvTranspose_{number}"] = {"kernel": middle, "bias": flat["bias"]}
    if not coordinates:
        kernels["positions"] = params["positions"]
    others, other_logits = wide.apply({"params": kernels}, latents)
    np.testing.assert_allclose(images, others, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(logits, other_logits, rtol=1e-4, atol=1e-5)

    alone, _ = decoder.apply({"params": params}, latents[1:, 2:])
    np.testing.assert_allclose(images[1:, 2:], alone, rtol=1e-4, atol=1e-6)


def test_the_picture_colours_each_pixel_by_its_heaviest_slot():
    """32 pixels a side fill a grid of cells enlarged by 4 (``image_grid``), slots in the last."""
    masks = np.zeros((1, 3, 32, 32))
    masks[0, 0, :, :16] = masks[0, 2, :, 16:] = 1.0
    painted = np.zeros((1, 3, 32, 32, 3))
    seen = np.zeros((1, 32, 32, 3), np.uint8)
    grid = pictures.slots_grid(seen, seen, painted, masks)
    other = pictures.slots_grid(seen, seen, painted, masks[:, [2, 1, 0]])
    labels, swapped = (g[-4 - 64, -128:-4] for g in (grid, other))
    assert len(np.unique(labels, axis=0)) == 2
    np.testing.assert_array_equal(labels[10], swapped[-10])
    np.testing.assert_array_equal(labels[-10], swapped[10])
