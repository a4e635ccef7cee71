"""ReDO's networks: the released sizes, spectral norm, and each network again in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drc_jax.baselines import redo_model as model
from drc_jax.baselines import redo_networks as networks
from drc_jax.baselines.redo_model import ReDOModelConfig
from drc_jax.baselines.redo_start import fresh

RNG = np.random.default_rng(0)
SIZE = 16
# n = 2: every network has each of its kinds of blocks.
WIDE = ReDOModelConfig(
    image_size=SIZE,
    noise_size=3,
    mask_width=8,
    residual_blocks=1,
    generator_width=4,
    discriminator_width=5,
    estimator_width=4,
)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def sizes(**fields):
    config = ReDOModelConfig(**fields)
    shapes = jax.eval_shape(lambda: model.init(config, jax.random.key(0)))
    return {
        name: sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
        for name, variables in shapes.items()
    }


def test_the_released_sizes():
    full = sizes()
    assert full == {
        "discriminator": 38_424_258,
        "generator_0": 30_933_791,
        "generator_1": 30_933_791,
        "mask": 274_966,
        "estimator": 38_483_712,
    }
    without = sizes(attention=False)
    assert (without["discriminator"], without["generator_0"]) == (38_419_137, 30_913_310)
    assert sizes(generator_width=32)["generator_0"] == 7_956_895
    small = sizes(
        image_size=32,
        mask_width=32,
        generator_width=16,
        discriminator_width=16,
        estimator_width=16,
        attention=False,
    )
    assert small == {
        "discriminator": 148_721,
        "generator_0": 169_438,
        "generator_1": 169_438,
        "mask": 70_742,
        "estimator": 152_816,
    }


def test_spectral_norm_finds_the_largest_singular_value():
    kernel = normal(3, 3, 5, 7)
    matrix = np.asarray(kernel, np.float64).reshape(45, 7)
    u = np.eye(7, dtype=np.float32)[0]
    sigma, following = networks.spectral_norm(kernel, u)
    v = matrix @ u
    v /= np.linalg.norm(v)
    wanted = v @ matrix
    np.testing.assert_allclose(sigma, np.linalg.norm(wanted), rtol=1e-5)
    np.testing.assert_allclose(following, wanted / np.linalg.norm(wanted), rtol=1e-4)
    largest = np.linalg.svd(matrix, compute_uv=False)[0]
    assert sigma < 0.99 * largest
    for _ in range(200):
        sigma, following = networks.spectral_norm(kernel, following)
    np.testing.assert_allclose(sigma, largest, rtol=1e-5)


def test_the_gradient_of_sigma_is_that_of_the_singular_value():
    """d sigma / dW = v u^T, with u and v constant."""
    kernel = normal(6, 4)
    u, _, vt = np.linalg.svd(kernel.astype(np.float64))
    gradient = jax.grad(lambda w: networks.spectral_norm(w, vt[0].astype(np.float32))[0])(kernel)
    np.testing.assert_allclose(gradient, np.outer(u[:, 0], vt[0]), atol=1e-5)


def test_a_call_advances_u_only_where_the_collection_is_mutable():
    layer, x = networks.Conv(6, spectral=True), normal(2, 8, 8, 3)
    variables = fresh(layer, jax.random.key(0), "released", x)
    kernel = np.asarray(variables["params"]["kernel"], np.float64)
    u = np.asarray(variables["spectral"]["u"])
    assert np.linalg.norm(u) == pytest.approx(1.0, abs=1e-5)
    largest = np.linalg.svd(kernel.reshape(-1, 6), compute_uv=False)[0]
    at_start, following = networks.spectral_norm(variables["params"]["kernel"], u)
    assert 0.5 * largest < at_start < 1.00001 * largest

    y, advanced = layer.apply(variables, x, mutable=["spectral"])
    np.testing.assert_allclose(advanced["spectral"]["u"], following, atol=1e-6)
    assert np.abs(following - u).max() > 1e-6
    np.testing.assert_array_equal(layer.apply(variables, x), y)
    wanted = conv(x, kernel / float(at_start)) + np.asarray(variables["params"]["bias"])
    np.testing.assert_allclose(y, wanted, atol=1e-5)


def test_kernels_begin_as_the_option_says():
    limit = 1 / 12  # the fan-in is 9 * 16

    def kernel_of(start, **fields):
        made = fresh(networks.Conv(8, **fields), jax.random.key(1), start, jnp.zeros((1, 4, 4, 16)))
        bias = made["params"]["bias"]
        assert 0.03 < np.abs(bias).max() < limit and np.abs(np.mean(bias)) < 0.05
        return np.asarray(made["params"]["kernel"], np.float64).reshape(-1, 8)

    for start, spectral in (("paper", True), ("paper", False), ("released", False)):
        matrix = kernel_of(start, spectral=spectral)
        np.testing.assert_allclose(matrix.T @ matrix, 0.64 * np.eye(8), atol=1e-5)
    released = kernel_of("released", spectral=True)
    assert 0.98 * limit < np.abs(released).max() < limit
    assert released.std() == pytest.approx(limit / np.sqrt(3), rel=0.05)

    for start, least in (("paper", 1.0), ("released", 0.0)):
        x = jnp.zeros((1, 4, 4, 200))
        scale = fresh(networks.InstanceNorm(), jax.random.key(2), start, x)["params"]["scale"]
        assert scale.min() == pytest.approx(least, abs=0.02)
        assert scale.mean() == pytest.approx((least + 1) / 2, abs=0.05)


def test_a_stride_of_two_keeps_the_even_pixels():
    """With zeros on both sides; "SAME" would give the odd ones."""
    x = normal(1, 8, 8, 1)
    kernel = np.zeros((3, 3, 1, 1), np.float32)
    kernel[1, 1] = 1.0
    variables = {"params": {"kernel": kernel}}
    y = networks.Conv(1, 3, 2, bias=False).apply(variables, x)
    np.testing.assert_array_equal(y, x[:, ::2, ::2])


@pytest.mark.parametrize(("side", "cells"), [(8, (1, 2, 4, 8)), (32, (1, 2, 3, 6))])
def test_pyramid_cells_leave_out_what_does_not_fill_them(side, cells):
    x = normal(1, side, side, 2)
    module = networks.Pyramid()
    variables = fresh(module, jax.random.key(0), "paper", x)
    y = np.asarray(module.apply(variables, x))
    assert y.shape == (1, side, side, 6)
    np.testing.assert_array_equal(y[..., :2], x)
    for i, count in enumerate(cells):
        layer = variables["params"][f"grid_{i}"]
        size = side // count
        used = x[:, : count * size, : count * size]
        means = used.reshape(1, count, size, count, size, 2).mean((2, 4))
        grid = means @ np.asarray(layer["kernel"])[0, 0] + np.asarray(layer["bias"])
        np.testing.assert_allclose(y[0, ..., 2 + i], enlarged(grid[0, ..., 0], side), atol=1e-5)


def enlarged(grid, side):
    """Bilinear, of half-pixel centres, the border's values beyond them."""
    centres = (np.arange(side) + 0.5) * len(grid) / side - 0.5
    rows = np.stack([np.interp(centres, np.arange(len(grid)), column) for column in grid.T], 1)
    return np.stack([np.interp(centres, np.arange(len(grid)), row) for row in rows])


# The networks in NumPy and float64.


def conv(x, kernel, stride=1, pad=None):
    x = np.asarray(x, np.float64)
    side = len(kernel)
    pad = (side - 1) // 2 if pad is None else pad
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (side, side), (1, 2))
    return np.einsum("bhwcij,ijco->bhwo", windows[:, ::stride, ::stride], kernel)


def relu(x):
    return np.maximum(x, 0)


def halved(x):
    return x.reshape(len(x), x.shape[1] // 2, 2, x.shape[2] // 2, 2, -1).mean((2, 4))


def doubled(x):
    return x.repeat(2, 1).repeat(2, 2)


def normalised(x):
    return (x - x.mean((1, 2), keepdims=True)) / np.sqrt(x.var((1, 2), keepdims=True) + 1e-5)


class Numpy:
    """Layers by their names, with kernels divided by their true singular values."""

    def __init__(self, variables):
        self.params = jax.tree.map(lambda x: np.asarray(x, np.float64), variables["params"])

    def conv(self, x, name, stride=1, pad=None, spectral=True, within=None):
        layer = self.params[name] if within is None else self.params[within][name]
        kernel = layer["kernel"]
        if spectral:
            matrix = kernel.reshape(-1, kernel.shape[-1])
            kernel = kernel / np.linalg.svd(matrix, compute_uv=False)[0]
        return conv(x, kernel, stride, pad) + layer.get("bias", 0.0)

    def linear(self, x, name, within=None):
        layer = (self.params if within is None else self.params[within])[name]["dense"]
        return x @ layer["kernel"] + layer["bias"]

    def attention(self, x):
        batch, side, _, channels = x.shape

        def of(name):
            return self.conv(x, name, within="attention")

        def largest(y):
            y = y.reshape(batch, side // 2, 2, side // 2, 2, -1)
            return y.max((2, 4)).reshape(batch, -1, y.shape[-1])

        queries = of("queries").reshape(batch, side * side, -1)
        assert queries.shape[-1] == max(channels // 8, 1)
        weights = np.exp(queries @ largest(of("keys")).transpose(0, 2, 1))
        weights /= weights.sum(-1, keepdims=True)
        found = (weights @ largest(of("values"))).reshape(batch, side, side, -1)
        return x + self.params["attention"]["weight"] * self.conv(found, "out", within="attention")


def settled(module, *inputs):
    """Variables whose u have settled, with an attention that counts."""
    variables = fresh(module, jax.random.key(3), "released", *inputs)
    params = variables["params"]
    if "attention" in params:
        params["attention"]["weight"] = jnp.float32(0.7)

    def settle(kernel, u):
        advance = lambda _, u: networks.spectral_norm(kernel, u)[1]  # noqa: E731
        return jax.lax.fori_loop(0, 3000, advance, u)

    def walk(params, spectral):
        if "u" in spectral:
            return {"u": settle(params["kernel"], spectral["u"])}
        return {name: walk(params[name], spectral[name]) for name in spectral}

    if "spectral" not in variables:
        return variables
    spectral = jax.jit(walk)(params, variables["spectral"])
    return {"params": params, "spectral": spectral}


def test_the_discriminator_is_the_papers():
    """First block without a ReLU before it, shortcuts before ReLU, positions summed."""
    module, x = WIDE.discriminator(), normal(2, SIZE, SIZE, 3)
    variables = settled(module, x)
    net = Numpy(variables)
    y = halved(net.conv(relu(net.conv(x, "block_0_a")), "block_0_b"))
    y = net.attention(y + net.conv(halved(x), "block_0_shortcut"))
    z = halved(net.conv(relu(net.conv(relu(y), "block_1_a")), "block_1_b"))
    y = z + net.conv(halved(y), "block_1_shortcut")
    assert y.shape == (2, 4, 4, 10)
    y = y + net.conv(relu(net.conv(relu(y), "last_a")), "last_b")
    wanted = net.linear(y.sum((1, 2)), "head")
    np.testing.assert_allclose(jax.jit(module.apply)(variables, x), wanted, rtol=2e-3, atol=2e-3)


def test_a_generator_is_the_papers():
    """It has the noise in its base and every norm, and its mask at every size."""
    module = WIDE.generator()
    z, mask = normal(2, 3), RNG.random((2, SIZE, SIZE)).astype(np.float32)
    variables = settled(module, z, mask)
    net = Numpy(variables)

    def normed(x, name):
        gamma, beta = (
            net.linear(z, part, within=name)[:, None, None] for part in ("gamma", "beta")
        )
        return relu(normalised(x) * gamma + beta)

    def with_mask(x):
        part = SIZE // x.shape[1]
        small = mask.reshape(2, x.shape[1], part, x.shape[1], part).mean((2, 4))
        return np.concatenate([x, small[..., None]], -1)

    x = net.linear(z, "base").reshape(2, 8, 4, 4).transpose(0, 2, 3, 1)
    for i in range(2):
        if i == 1:
            x = net.attention(x)
        y = net.conv(doubled(with_mask(normed(x, f"block_{i}_norm_a"))), f"block_{i}_a")
        y = net.conv(normed(y, f"block_{i}_norm_b"), f"block_{i}_b")
        x = y + net.conv(doubled(x), f"block_{i}_shortcut")
    assert x.shape == (2, SIZE, SIZE, 4)
    wanted = np.tanh(net.conv(with_mask(normed(x, "norm")), "image"))
    np.testing.assert_allclose(
        jax.jit(module.apply)(variables, z, mask), wanted, rtol=5e-3, atol=5e-3
    )


def test_the_mask_network_is_the_papers():
    module, x = WIDE.mask_net(), normal(2, SIZE, SIZE, 3)
    variables = fresh(module, jax.random.key(4), "released", x)
    net = Numpy(variables)

    def normed(x, name):
        layer = net.params[f"{name}_norm"]
        return normalised(x) * layer["scale"] + layer["shift"]

    def plain(x, name, stride=1, pad=None):
        return net.conv(x, name, stride, pad, spectral=False)

    def reflected(x):
        return np.pad(x, ((0, 0), (3, 3), (3, 3), (0, 0)), mode="reflect")

    y = relu(normed(plain(reflected(x), "first", pad=0), "first"))
    for i in range(2):
        y = relu(normed(plain(y, f"down_{i}", stride=2), f"down_{i}"))
    z = relu(normed(plain(y, "residual_0_a"), "residual_0_a"))
    y = relu(normed(y + plain(z, "residual_0_b"), "residual_0_b"))
    assert y.shape == (2, 4, 4, 8)
    pyramid = networks.Pyramid().apply({"params": variables["params"]["pyramid"]}, jnp.float32(y))
    y = np.asarray(pyramid, np.float64)
    for i in range(2):
        y = relu(normed(plain(doubled(y), f"up_{i}"), f"up_{i}"))
    wanted = plain(reflected(y), "last", pad=0)[..., 0]
    np.testing.assert_allclose(jax.jit(module.apply)(variables, x), wanted, atol=1e-4)
    pi = model.masks(WIDE, variables, jnp.asarray(x))
    np.testing.assert_allclose(pi[:, 0], 1 / (1 + np.exp(-wanted)), atol=1e-4)
    np.testing.assert_allclose(pi.sum(1), 1.0, rtol=1e-6)


def test_attention_does_nothing_at_the_start():
    x = normal(1, 4, 4, 8)
    module = networks.Attention()
    variables = fresh(module, jax.random.key(0), "paper", x)
    np.testing.assert_array_equal(module.apply(variables, x), x)
