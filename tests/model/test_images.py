"""The one rule for images, and what every function says to images that break it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import drc_jax
from drc_jax.model.images import as_images
from tests.helpers.small import ONE_BLOCK as CONFIG

RNG = np.random.default_rng(4)
BYTES = RNG.integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
FLOATS = BYTES.astype(np.float32) / 127.5 - 1

pytestmark = pytest.mark.usefixtures("as_users_call")


@pytest.fixture(scope="module")
def params():
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: drc_jax.init_params(CONFIG, jax.random.key(0)))
    return jax.tree.map(lambda x: rng.normal(size=x.shape, scale=0.3).astype(np.float32), shapes)


def energy(params, images):
    z = jnp.zeros((2, CONFIG.latent_dim))
    return drc_jax.posterior_energy(CONFIG, params, z, images)


def loss(params, images):
    return drc_jax.generator_loss(CONFIG, params, jnp.zeros((2, CONFIG.latent_dim)), images)[0]


def infer(params, images):
    return drc_jax.infer(CONFIG, params, jax.random.key(0), images, num_steps=2).pi


@pytest.mark.parametrize("function", [energy, loss, infer])
def test_bytes_and_floats_of_the_same_images_give_the_same(params, function):
    function = jax.jit(function)
    np.testing.assert_allclose(
        function(params, BYTES), function(params, FLOATS), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("form", [np.asarray, jnp.asarray, np.ndarray.tolist, np.float64])
def test_floats_of_any_kind_are_taken(form):
    images = as_images(CONFIG, form(FLOATS))
    assert images.dtype == jnp.float32
    np.testing.assert_allclose(images, FLOATS)
    assert as_images(CONFIG, jnp.asarray(FLOATS, jnp.bfloat16)).dtype == jnp.float32


WRONG = {
    "0..255 floats": (BYTES.astype(np.float32), "divide 0..255 by 127.5 and subtract 1"),
    "integers": (BYTES.astype(np.int64), r"int\d+; use images.astype\('uint8'\)"),
    "lists of integers": (BYTES.tolist(), r"use images.astype\('uint8'\)"),
    "booleans": (BYTES > 127, "got bool"),
    "not numbers": (np.full_like(FLOATS, np.nan), "not finite"),
    "one image": (BYTES[0], r"images\[None\] is a batch of one"),
    "grey": (BYTES[..., 0], "grey"),
    "one channel": (BYTES[..., :1], "grey"),
    "four channels": (np.concatenate([BYTES, BYTES[..., :1]], -1), "got"),
    "channels first": (BYTES.transpose(0, 3, 1, 2), "channels come last"),
    "another side": (np.zeros((2, 9, 9, 3), np.uint8), "resize them to 8x8"),
    "no image": (BYTES[:0], r"\(0, 8, 8, 3\)"),
    "ragged lists": ([[1.0], [1.0, 2.0]], "their sizes differ"),
}


@pytest.mark.parametrize("function", [energy, loss, infer])
@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_named_in_one_line(params, function, case):
    images, message = WRONG[case]
    with pytest.raises(drc_jax.UserError, match=message) as caught:
        function(params, images)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("case", ["integers", "one image", "grey", "another side"])
def test_shapes_and_dtypes_are_checked_under_jit_too(params, case):
    images, message = WRONG[case]
    with pytest.raises(drc_jax.UserError, match=message):
        jax.jit(energy)(params, np.asarray(images, np.int16) if case == "integers" else images)


def test_images_in_0_to_1_are_warned_of(params):
    with pytest.warns(UserWarning, match="multiply by 2 and subtract 1"):
        as_images(CONFIG, BYTES / np.float32(255))


@pytest.mark.parametrize("function", [drc_jax.posterior_energy, drc_jax.generator_loss])
@pytest.mark.parametrize("images", [BYTES[:1], BYTES])
def test_as_many_latents_as_images(params, function, images):
    rows = 3 - len(images)
    z = jnp.zeros((rows, CONFIG.latent_dim))
    with pytest.raises(drc_jax.UserError, match=f"z must have shape .* for {len(images)} images"):
        function(CONFIG, params, z, images)


def test_a_run_config_is_not_taken_for_a_model_config(params):
    run = dataclasses.replace(drc_jax.TrainConfig(), model=CONFIG)
    with pytest.raises(drc_jax.UserError, match=r"pass config\.model"):
        drc_jax.infer(run, params, jax.random.key(0), BYTES, num_steps=1)
