"""The fast path against the plain definition in float64, on fresh random weights and inputs.

The image terms have kinks (absolute values, leaky ReLU, the cells of grid_sample). An argument
that lies within rounding of one takes the other side's slope, in whatever form it is computed, so
one such argument moves a gradient by far more than rounding does; the seeds have none.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import drc_jax
from drc_jax.model.latents import split_latents
from tests.helpers import reference

VARIANTS = ("supplement", "released")
SIZES = dict(
    zf_dim=12,
    zb_dim=5,
    zs_dim=9,
    generator_channels=(16, 24, 12),
    classifier_channels=(8, 12),
    num_fg_categories=7,
    num_bg_categories=5,
    ebm_width=20,
    ebm_reassign_width=24,
)
BATCH = 4
LIMIT = 1e-5


@functools.cache
def inputs(variant: str, seed: int = 0):
    """Config, random parameters in which nothing is 0 or 1, two batches of latents, images."""
    config = getattr(drc_jax.ModelConfig, variant)(**SIZES)
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(lambda: drc_jax.init_params(config, jax.random.key(0)))

    def draw(path: tuple, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        value = rng.normal(size=leaf.shape, scale=0.1) + (path[-1].key == "scale")
        if path[-1].key.endswith("kernel"):
            value += rng.normal(size=leaf.shape, scale=np.prod(leaf.shape[:-1]) ** -0.5)
        return value.astype(np.float32)

    params = jax.tree_util.tree_map_with_path(draw, shapes)
    latents = [rng.normal(size=(BATCH, config.latent_dim)).astype(np.float32) for _ in range(2)]
    images = rng.uniform(-1, 1, (BATCH, config.image_size, config.image_size, 3))
    return config, params, *latents, images.astype(np.float32)


def relative_error(actual, expected) -> float:
    """Norm of the difference over the norm of ``expected``, all leaves taken together."""
    flat = [
        np.concatenate([np.ravel(np.asarray(leaf, np.float64)) for leaf in jax.tree.leaves(tree)])
        for tree in (actual, expected)
    ]
    assert np.isfinite(flat[0]).all()
    return float(np.linalg.norm(flat[0] - flat[1]) / np.linalg.norm(flat[1]))


@functools.cache
def plain_energy(config: drc_jax.ModelConfig, kind: str):
    """(params, z [B, D], images if posterior) -> energies [B] and gradients [B, D]."""
    energy = {"posterior": reference.posterior_energy, "prior": reference.prior_energy}[kind]

    def of_batch(params, *arguments):
        of_one = jax.value_and_grad(functools.partial(energy, config, params))
        return jax.vmap(of_one)(*arguments)

    return jax.jit(of_batch)


@pytest.mark.parametrize("kind", ["posterior", "prior"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_energies_and_their_gradients(kind, variant):
    config, params, z, _, images = inputs(variant)
    energy = {"posterior": drc_jax.posterior_energy, "prior": drc_jax.prior_energy}[kind]
    arguments = (z, images) if kind == "posterior" else (z,)

    def total(params, *arguments):
        values = energy(config, params, *arguments)
        return jnp.sum(values), values

    gradient, values = jax.jit(jax.grad(total, argnums=1, has_aux=True))(params, *arguments)
    expected = reference.evaluate(plain_energy(config, kind), params, *arguments)
    assert values.dtype == gradient.dtype == jnp.float32
    assert relative_error(values, expected[0]) < LIMIT
    assert relative_error(gradient, expected[1]) < LIMIT


def test_bfloat16_rounds_the_products_and_nothing_else():
    """Each limit is a quarter above what was measured; sums in bfloat16 exceed the first two.

    The gradient is that of the Gaussian likelihood: rounding moves images by 1 %, and the signs in
    the Laplace one's gradient turn over where errors are that small.
    """
    config, params, z, _, images = inputs("supplement")

    def gradient_and_values(**changes):
        changed = dataclasses.replace(config, **changes)

        def total(params, z, images):
            values = drc_jax.posterior_energy(changed, params, z, images)
            return jnp.sum(values), values

        return jax.jit(jax.grad(total, argnums=1, has_aux=True))(params, z, images)

    gradient, values = gradient_and_values(precision="bfloat16", likelihood="gaussian")
    exact, exact_values = gradient_and_values(likelihood="gaussian")
    assert gradient.dtype == values.dtype == jnp.float32
    assert relative_error(values, exact_values) < 1e-3
    limits = {"foreground": 0.067, "background": 0.047, "reassignment": 0.31}
    parts = zip(split_latents(config, gradient), split_latents(config, exact), strict=True)
    for (name, limit), (ours, theirs) in zip(limits.items(), parts, strict=True):
        assert relative_error(ours, theirs) < limit, name


def test_the_forms_for_accelerators_are_as_exact(monkeypatch):
    """Those of the convolutions and norms that a CPU is not given, here on a CPU all the same."""
    config, params, z, _, images = inputs("supplement")
    expected = reference.evaluate(plain_energy(config, "posterior"), params, z, images)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")

    def total(z):
        values = drc_jax.posterior_energy(config, params, z, images)
        return jnp.sum(values), values

    traced = jax.jit(jax.grad(total, has_aux=True)).trace(z)
    assert "conv_general_dilated" in str(traced.jaxpr)  # a CPU gets products for the heads too
    gradient, values = traced.lower().compile()(z)
    assert relative_error(values, expected[0]) < LIMIT
    assert relative_error(gradient, expected[1]) < LIMIT


@pytest.mark.parametrize("variant", VARIANTS)
def test_generator_loss_and_its_gradients(variant):
    config, params, z, _, images = inputs(variant)
    loss_and_grad = jax.value_and_grad(drc_jax.generator_loss, argnums=1, has_aux=True)
    (loss, _), gradient = jax.jit(loss_and_grad, static_argnums=0)(config, params, z, images)
    expected, expected_gradient = reference.evaluate(
        jax.jit(jax.value_and_grad(functools.partial(reference.generator_loss, config))),
        params,
        z,
        images,
    )
    assert relative_error(loss, expected) < LIMIT
    for part in ("generator", "classifier"):
        for net, tree in gradient[part].items():
            assert relative_error(tree, expected_gradient[part][net]) < LIMIT, (part, net)


@pytest.mark.parametrize("variant", VARIANTS)
def test_ebm_loss_and_its_gradients(variant):
    config, params, z_posterior, z_prior, _ = inputs(variant)
    loss_and_grad = jax.value_and_grad(drc_jax.ebm_loss, argnums=1, has_aux=True)
    (loss, aux), gradient = jax.jit(loss_and_grad, static_argnums=0)(
        config, params, z_posterior, z_prior
    )
    expected, expected_gradient = reference.evaluate(
        jax.jit(jax.value_and_grad(functools.partial(reference.ebm_loss, config))),
        params,
        z_posterior,
        z_prior,
    )
    # A difference of two means: rounding is relative to the means.
    assert abs(loss - expected) < LIMIT * abs(aux["energy_posterior"])
    for net, tree in gradient["ebm"].items():
        assert relative_error(tree, expected_gradient["ebm"][net]) < LIMIT, net


def test_the_reference_has_a_second_opinion():
    """The PyTorch peer in double, which shares no line with either."""
    torch = pytest.importorskip("torch", reason="torch is absent: the PyTorch peer is an extra")
    from experiments.peers.torch_model import TorchDRC

    config, _, z, _, images = inputs("supplement")
    torch.manual_seed(0)
    peer = TorchDRC(config)
    params = drc_jax.interop.params_from_torch(config, peer.arrays())
    leaf = torch.tensor(z).double().requires_grad_()
    values = peer.double().posterior_energy(
        leaf, torch.tensor(images.transpose(0, 3, 1, 2)).double()
    )
    (gradient,) = torch.autograd.grad(values.sum(), leaf)
    expected = reference.evaluate(plain_energy(config, "posterior"), params, z, images)
    # The peer renders in float32 whatever its networks compute in.
    assert relative_error(values.detach().numpy(), expected[0]) < 1e-6
    assert relative_error(gradient.numpy(), expected[1]) < 1e-6
