"""Initialisation and the shapes of Table 2."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import drc_jax
from drc_jax.benchmark import flops
from drc_jax.model.latents import Latents, join_latents, sizes, split_latents


@pytest.fixture(scope="module")
def params():
    config = drc_jax.ModelConfig(
        zf_dim=6, zb_dim=2, zs_dim=5, generator_channels=(4, 6, 3), classifier_channels=(4, 5)
    )
    return jax.device_get(jax.jit(drc_jax.init_params, static_argnums=0)(config, jax.random.key(0)))


def test_weights_start_orthogonal_and_the_rest_plain(params):
    kernels = 0
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        if name.endswith("kernel"):
            kernels += 1
            rows = leaf.reshape(-1, leaf.shape[-1]).T  # [out, in * kh * kw]
            rows = rows if rows.shape[0] <= rows.shape[1] else rows.T
            np.testing.assert_allclose(rows @ rows.T, np.eye(len(rows)), atol=1e-5, err_msg=name)
        else:
            expected = 1.0 if name.endswith("scale") else 0.0
            np.testing.assert_array_equal(leaf, expected, err_msg=name)
    # 3 bases, 3 * 2 blocks, 2 + 2 + 1 heads, 2 * (2 + 1) classifier convs, 3 + 3 + 4 energy layers.
    assert kernels == 3 + 6 + 5 + 6 + 10


def test_table_2_at_the_papers_size():
    """Shapes alone, nothing is computed."""
    config = drc_jax.ModelConfig(zb_dim=4, zs_dim=1024, num_fg_categories=30, num_bg_categories=10)
    shapes = jax.eval_shape(lambda key: drc_jax.init_params(config, key), jax.random.key(0))

    def kernel(tree):
        return tree["kernel"].shape

    for name, inputs in (("foreground", 128), ("background", 128), ("reassignment", 256)):
        net = shapes["generator"][name]
        blocks = [kernel(net[f"block_{i}"]) for i in range(5)]
        channels = [inputs, 1024, 512, 256, 128, 64]
        assert blocks == [(3, 3, *pair) for pair in itertools.pairwise(channels)]
        assert net["base"]["linear"]["kernel"].shape[1] == 4 * 4 * 128
    convs = [kernel(shapes["classifier"]["foreground"][f"conv_{i}"]) for i in range(5)]
    channels = [3, 64, 128, 256, 512, 1024]
    assert convs == [(4, 4, *pair) for pair in itertools.pairwise(channels)]
    assert kernel(shapes["classifier"]["background"]["out"]) == (4, 4, 1024, 10)
    assert kernel(shapes["ebm"]["reassignment"]["linear_0"]) == (1024, 200)

    z = jax.ShapeDtypeStruct((2, config.latent_dim), np.float32)
    regions = jax.eval_shape(lambda p, z: drc_jax.render(config, p, z), shapes, z)
    assert regions.images.shape == (2, 2, 128, 128, 3)
    assert regions.pi.shape == (2, 2, 128, 128)
    assert regions.grid.shape == (2, 128, 128, 2)


def test_cost_is_that_of_the_method_page():
    config = drc_jax.TrainConfig()
    assert flops.posterior_step(config.model) / 1e9 == pytest.approx(59, abs=1)
    sampling = 40 * 48 * flops.posterior_step(config.model)
    assert sampling / 1e12 == pytest.approx(114, abs=1)
    assert (flops.train_iteration(config) - sampling) / 1e12 == pytest.approx(4.5, abs=0.6)


def test_latents_of_the_wrong_size_are_refused(params, as_users_call):
    config = drc_jax.ModelConfig(zf_dim=6, zb_dim=2, zs_dim=5)
    with pytest.raises(drc_jax.UserError, match=r"13 = 6 \+ 2 \+ 5"):
        drc_jax.render(config, params, jnp.zeros((1, 12)))
    with pytest.raises(drc_jax.UserError, match="floats, got int32"):
        drc_jax.prior_energy(config, params, jnp.zeros((1, 13), jnp.int32))


def test_parts_of_z_are_split_in_their_order_and_joined_again():
    config = drc_jax.ModelConfig(zf_dim=6, zb_dim=2, zs_dim=5)
    z = jnp.arange(26.0).reshape(2, 13)
    parts = split_latents(config, z)
    assert Latents(*(part.shape[-1] for part in parts)) == sizes(config) == (6, 2, 5)
    np.testing.assert_array_equal(parts.background[0], [6.0, 7.0])
    np.testing.assert_array_equal(join_latents(parts), z)


def test_a_run_config_in_the_place_of_a_model_config_is_named(params, as_users_call):
    run = drc_jax.TrainConfig()
    for function in (
        lambda: drc_jax.init_params(run, jax.random.key(0)),
        lambda: drc_jax.render(run, params, jnp.zeros((1, 13))),
        lambda: drc_jax.prior_energy(run, params, jnp.zeros((1, 13))),
    ):
        with pytest.raises(drc_jax.UserError, match=r"got TrainConfig; pass config\.model"):
            function()
