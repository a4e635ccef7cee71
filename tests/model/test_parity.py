"""Agreement with the authors' program and the supplement's variant of it (docs/method.md 8)."""

import dataclasses
import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import drc_jax
from drc_jax.model import regions
from drc_jax.model.energies import energy
from drc_jax.model.render import classify


class Case:
    """One variant of the fixture: its config, parameters, inputs and expected values."""

    def __init__(self, path, variant):
        self.arrays = np.load(path)
        self.variant = variant
        meta = json.loads(str(self.arrays["meta"]))
        make = getattr(drc_jax.ModelConfig, variant)
        self.meta = meta
        self.config = make(
            zf_dim=meta["zf"],
            zb_dim=meta["zb"],
            zs_dim=meta["zs"],
            **{
                name: meta[name]
                for name in (
                    "generator_channels",
                    "classifier_channels",
                    "ebm_width",
                    "ebm_reassign_width",
                    "num_fg_categories",
                    "num_bg_categories",
                    "sigma",
                )
            },
            orthogonality_weight={"supplement": 1.0, "released": 0.1}[variant],
        )
        self.params = drc_jax.interop.params_from_torch(self.config, self.named("param/"))
        self.z = jnp.asarray(self.arrays["input/z"])
        self.image = nhwc(self.arrays["input/image"])

    def named(self, prefix):
        return {k.removeprefix(prefix): self.arrays[k] for k in self.arrays if k.startswith(prefix)}

    def __getitem__(self, name):
        return self.arrays[f"{self.variant}/{name}"]


def nhwc(array):
    return jnp.asarray(array.transpose(0, 2, 3, 1))


def relative_error(actual, expected):
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    return np.linalg.norm(actual - expected) / max(np.linalg.norm(expected), 1e-12)


def network_error(actual, expected):
    """Relative error of a network's whole gradient, which must be finite.

    The norm of a mask head's one row has no slope; PyTorch answers nan there, which is left out.
    """
    actual, expected = jax.tree.leaves(actual), jax.tree.leaves(expected)
    assert all(np.isfinite(leaf).all() for leaf in actual)
    pairs = [(a, e) for a, e in zip(actual, expected, strict=True) if np.isfinite(e).all()]
    assert len(pairs) >= len(actual) - 1
    flat = [np.concatenate([np.ravel(leaf) for leaf in side]) for side in zip(*pairs, strict=True)]
    return relative_error(*flat)


@pytest.fixture(scope="module", params=["supplement", "released"])
def case(request, shared):
    return Case(shared / "parity" / "drc_32px.npz", request.param)


def test_rendered_regions(case):
    out = jax.jit(drc_jax.render, static_argnums=0)(case.config, case.params, case.z)
    expected = {
        "fg": out.images[:, 0],
        "bg_warped": out.images[:, 1],
        "bg": out.background_source,
        "image_recon": out.reconstruction,
        "pi_f": out.pi[:, 0, ..., None],
        "pi_b": out.pi[:, 1, ..., None],
    }
    for name, value in expected.items():
        np.testing.assert_allclose(value, nhwc(case[name]), atol=1e-4, err_msg=name)
    np.testing.assert_allclose(out.grid, case["grid"], atol=1e-4)


def test_class_logits_and_energies(case):
    rendered = jax.jit(drc_jax.render, static_argnums=0)(case.config, case.params, case.z)
    logits = classify(case.config, case.params, rendered)
    np.testing.assert_allclose(logits["foreground"], case["fg_class_logits"], atol=1e-4)
    np.testing.assert_allclose(logits["background"], case["bg_class_logits"], atol=1e-4)
    prior = energy(case.config, case.params, case.z)
    np.testing.assert_allclose(prior.total, case["ebm_value"][:, 0], atol=1e-4)
    np.testing.assert_allclose(prior.foreground_logits, case["ebm_fg_logits"], atol=1e-4)
    np.testing.assert_allclose(prior.background_logits, case["ebm_bg_logits"], atol=1e-4)


def test_responsibilities(case):
    rendered = jax.jit(drc_jax.render, static_argnums=0)(case.config, case.params, case.z)
    images, log_pi = rendered.planes()
    x = drc_jax.ops.Planes.of(case.image, channel=-1)
    log_p = regions.log_likelihood(images, x, sigma=case.config.sigma)
    gamma = regions.responsibilities(log_pi, log_p, epsilon=1e-8).array(region=1, channel=-1)
    np.testing.assert_allclose(gamma[:, 0], nhwc(case["responsibility_f"]), atol=1e-4)


@pytest.mark.parametrize("kind", ["posterior", "prior"])
def test_objectives_gradients_and_noiseless_steps(case, kind):
    def energy(z):
        if kind == "prior":
            return drc_jax.prior_energy(case.config, case.params, z)
        return drc_jax.posterior_energy(case.config, case.params, z, case.image)

    value, gradient = jax.jit(jax.value_and_grad(lambda z: jnp.sum(energy(z))))(case.z)
    np.testing.assert_allclose(value, case[f"{kind}_objective"], rtol=1e-5)
    assert relative_error(gradient, case[f"{kind}_grad"]) < 1e-3
    z = drc_jax.langevin.sample(
        jax.random.key(0),
        energy,
        case.z,
        num_steps=3,
        step_size=case.meta[f"delta_{kind}"],
        temperature=0.0,
    )
    expected = case[f"{kind}_z_after_3_noiseless_steps"]
    if kind == "prior":
        np.testing.assert_allclose(z, expected, atol=1e-5)
    else:
        # Steps of 0.1 on this energy are chaotic: the last bit of a latent grows to 0.1 and more
        # in single ones, in the authors' program as in ours. A step size wrong by 0.5 % moves
        # the median by 0.2.
        assert np.median(np.abs(z - expected)) < 0.02


def test_generator_loss_and_gradients(case):
    value_and_grad = jax.value_and_grad(drc_jax.generator_loss, argnums=1, has_aux=True)
    (loss, aux), gradient = jax.jit(value_and_grad, static_argnums=0)(
        case.config, case.params, case.z, case.image
    )
    terms = {
        "gen_e_z_log_p": "log_likelihood",
        "gen_tv": "total_variation",
        "gen_ortho": "orthogonality",
        "gen_pseudo_label_f": "pseudo_label_foreground",
        "gen_pseudo_label_b": "pseudo_label_background",
    }
    for name, ours in terms.items():
        np.testing.assert_allclose(aux[ours], case[name], rtol=1e-3, err_msg=name)
    np.testing.assert_allclose(loss, case["gen_loss"], rtol=1e-3)

    expected = case.named("param/") | case.named(f"{case.variant}/gen_grad/")
    expected = drc_jax.interop.params_from_torch(case.config, expected)
    # In the released variant's background one pre-activation is -1.2e-7 in float64, just under the
    # leaky ReLU's kink, and just above it in the authors' float32. The direct forms round as
    # theirs do and agree to 2e-6 everywhere; the product forms are on the true side.
    kinked = case.variant == "released"
    for part in ("generator", "classifier"):
        for net, tree in gradient[part].items():
            tolerance = 5e-3 if kinked and (part, net) == ("generator", "background") else 1e-3
            assert network_error(tree, expected[part][net]) < tolerance, (part, net)
    chex.assert_trees_all_equal(gradient["ebm"], jax.tree.map(jnp.zeros_like, gradient["ebm"]))


def test_ebm_loss_and_gradients(case):
    value_and_grad = jax.value_and_grad(drc_jax.ebm_loss, argnums=1, has_aux=True)
    (loss, aux), gradient = jax.jit(value_and_grad, static_argnums=0)(
        case.config, case.params, case.z, jnp.asarray(case["z_prior"])
    )
    np.testing.assert_allclose(loss, case["ebm_loss"], rtol=1e-3)
    np.testing.assert_allclose(aux["energy_posterior"], case["ebm_value"].mean(), rtol=1e-4)
    expected = case.named("param/") | case.named(f"{case.variant}/ebm_grad/")
    expected = drc_jax.interop.params_from_torch(case.config, expected)
    for net, tree in gradient["ebm"].items():
        assert network_error(tree, expected["ebm"][net]) < 1e-3, net


def test_the_authors_parameters_paint_several_slots(case):
    """Their networks are shared by all slots: two equal ones split what the one would have."""
    config = dataclasses.replace(case.config, num_slots=2, slot_offset=float(np.log(2)))
    params = drc_jax.interop.params_from_torch(config, case.named("param/"))
    chex.assert_trees_all_equal(params, case.params)
    z = jnp.concatenate([case.z[:, : config.zf_dim], case.z], axis=1)
    found = drc_jax.render(config, params, z)
    expected = drc_jax.render(case.config, case.params, case.z)
    np.testing.assert_allclose(found.pi[:, 0], expected.pi[:, 0] / 2, atol=1e-5)
    np.testing.assert_allclose(found.foreground_weight, expected.foreground_weight, atol=1e-5)
    np.testing.assert_allclose(found.reconstruction, expected.reconstruction, atol=1e-5)
