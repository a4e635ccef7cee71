"""ReDO's losses against NumPy, and its optimizers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drc_jax.baselines import redo_model as model
from drc_jax.baselines import redo_state as states
from drc_jax.baselines.redo_state import ReDOOptimizerConfig
from drc_jax.baselines.slots import to_floats
from tests.helpers.redo import SIZE, TINY, squares

# Compiled whole: op by op takes much longer.
redraw_loss = jax.jit(model.redraw_loss, static_argnums=0)
discriminator_loss = jax.jit(model.discriminator_loss, static_argnums=0)
masks = jax.jit(model.masks, static_argnums=0)


@pytest.fixture(scope="module")
def networks():
    return jax.jit(model.init, static_argnums=0)(TINY, jax.random.key(1))


@pytest.fixture(scope="module")
def images():
    return to_floats(jnp.asarray(squares(4)))


@pytest.fixture(scope="module")
def noise():
    return model.draw_noise(TINY, jax.random.split(jax.random.key(2), 4))


def test_hinge():
    def hinge(real, redrawn):
        return float(model.hinge(jnp.float32(real), jnp.float32(redrawn)))

    assert hinge([1.0], [-1.0]) == 0.0
    assert hinge([-1.0], [1.0]) == 4.0
    # Each group is averaged on its own: (0 + 3) / 2 + (0 + 0 + 1.5) / 3.
    assert hinge([5.0, -2.0], [-1.0, -9.0, 0.5]) == 2.0


def test_redrawing_a_region_leaves_the_other_untouched():
    rng = np.random.default_rng(0)
    images, painted = rng.normal(size=(3, 4, 4, 3)), rng.normal(size=(3, 2, 4, 4, 3))
    first = (rng.random((3, 4, 4)) < 0.5).astype(np.float32)
    pi = np.stack([first, 1 - first], 1)
    found = np.asarray(model.redraw(*(jnp.float32(a) for a in (images, pi, painted))))
    for k in range(2):
        inside = pi[:, k] == 1
        np.testing.assert_array_equal(found[:, k][~inside], np.float32(images)[~inside])
        np.testing.assert_array_equal(found[:, k][inside], np.float32(painted)[:, k][inside])
    soft = np.full((3, 2, 4, 4), 0.25, np.float32)
    found = model.redraw(*(jnp.float32(a) for a in (images, soft, painted)))
    wanted = 0.25 * painted + 0.75 * images[:, None]
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    whole = model.compose(jnp.asarray(pi), jnp.float32(painted))
    np.testing.assert_allclose(whole, np.where(first[..., None] == 1, painted[:, 0], painted[:, 1]))


def test_the_losses_are_the_papers(networks, images, noise):
    """From what each network gives, in NumPy."""
    loss, aux = redraw_loss(TINY, networks, images, noise, 5.0)
    pi = np.asarray(masks(TINY, networks["mask"], images))
    assert pi.shape == (4, 2, SIZE, SIZE)
    generate = jax.jit(TINY.generator().apply)
    each = [generate(networks[f"generator_{k}"], noise[:, k], pi[:, k]) for k in (0, 1)]
    weighted = [pi[:, k, ..., None] * np.asarray(each[k]) for k in (0, 1)]
    redrawn = [weighted[k] + pi[:, 1 - k, ..., None] * np.asarray(images) for k in (0, 1)]
    np.testing.assert_allclose(aux.redrawn, np.stack(redrawn, 1), atol=1e-5)

    def apply(network, name, x):
        found = jax.jit(network.apply)(networks[name], jnp.asarray(x))
        return np.asarray(found, np.float64)

    logits = [apply(TINY.discriminator(), "discriminator", x) for x in redrawn]
    assert logits[0].shape == (4, 1)
    found = apply(TINY.estimator(), "estimator", weighted[0] + weighted[1])
    error = np.mean((np.asarray(noise) - found.reshape(4, 2, 3)) ** 2)
    np.testing.assert_allclose(aux.noise_error, error, rtol=1e-4)
    np.testing.assert_allclose(aux.fake_logit, np.mean(logits), rtol=1e-4)
    np.testing.assert_allclose(loss, 5 * error - np.mean(logits), rtol=1e-4)
    np.testing.assert_allclose(aux.area, pi[:, 0].mean(), rtol=1e-5)

    real = images[::-1]
    loss, seen = discriminator_loss(TINY, networks["discriminator"], real, aux.redrawn)
    on_real = apply(TINY.discriminator(), "discriminator", real)
    wanted = np.maximum(0, 1 - on_real).mean() + np.maximum(0, 1 + np.array(logits)).mean()
    np.testing.assert_allclose(loss, wanted, rtol=1e-4)
    np.testing.assert_allclose(seen.real_logit, on_real.mean(), rtol=1e-4)


def test_nothing_is_stopped_between_the_mask_and_the_loss(networks, images, noise):
    """The gradient that M receives is the loss's difference along it."""
    kernel = networks["mask"]["params"]["last"]["kernel"]

    @jax.jit
    def loss(kernel):
        params = {**networks["mask"]["params"]}
        params["last"] = {**params["last"], "kernel": kernel}
        changed = {**networks, "mask": {"params": params}}
        return redraw_loss(TINY, changed, images, noise, 5.0)[0]

    gradient = jax.jit(jax.grad(loss))(kernel)
    norm = float(jnp.linalg.norm(gradient))
    step = 1e-3 / norm * gradient
    slope = float(loss(kernel + step) - loss(kernel - step)) / 2e-3
    assert norm > 0.01 and slope == pytest.approx(norm, rel=0.02)


def test_every_call_advances_the_norms_of_its_networks_alone(networks, images, noise):
    _, aux = redraw_loss(TINY, networks, images, noise, 5.0)
    assert aux.advanced.keys() == networks.keys() - {"mask"}
    for name, variables in aux.advanced.items():
        old, new = networks[name], variables
        jax.tree.map(np.testing.assert_array_equal, old["params"], new["params"])
        moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), old["spectral"], new["spectral"])
        assert max(jax.tree.leaves(moved)) > 1e-3


def test_weight_decay_is_of_the_mask_network_and_scaled_like_a_gradient():
    config = ReDOOptimizerConfig(learning_rate=1e-3, mask_learning_rate=1e-2, mask_weight_decay=0.5)
    optimizers = states.make_optimizers(config)
    assert optimizers.keys() == {
        "mask", "generator_0", "generator_1", "discriminator", "estimator"
    }  # fmt: skip
    at = jnp.array([3.0, -0.5])
    for name, gradient, wanted in (
        ("mask", [0.0, 0.0], [-1e-2, 1e-2]),  # by the rate, whatever the parameter's size
        ("mask", [-2.0, 1.0], [1e-2, -1e-2]),  # the decay is the smaller part
        ("estimator", [0.0, 0.0], [0.0, 0.0]),
        ("generator_1", [5.0, -1e-3], [-1e-3, 1e-3]),
    ):
        optimizer = optimizers[name]
        with jax.numpy_dtype_promotion("standard"):
            change, state = optimizer.update(jnp.array(gradient), optimizer.init(at), at)
            # Beta 0.9 for squares and none for the mean: the second step is by
            # 1 / sqrt((0.1 + 0.09) / (1 - 0.81)) = 1 again for equal gradients.
            again, _ = optimizer.update(jnp.array(gradient), state, at)
        np.testing.assert_allclose(change, wanted, rtol=1e-3)
        np.testing.assert_allclose(again, wanted, rtol=1e-3)
