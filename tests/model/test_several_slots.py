"""Several foreground slots against the model of one slot, and against plain definitions."""

import dataclasses
import functools
import importlib

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import drc_jax
from drc_jax.model import energies, losses
from drc_jax.model.latents import Latents, join_latents, split_latents
from drc_jax.ops import Planes
from tests.helpers.small import ONE_BLOCK

N, BATCH = 3, 2
ONE = dataclasses.replace(ONE_BLOCK, responsibility="pixel", langevin_weight=1.5, tv_weight=0.2)
SLOTS = dataclasses.replace(ONE, num_slots=N)
RNG = np.random.default_rng(5)
Z = jnp.asarray(RNG.normal(size=(BATCH, SLOTS.latent_dim)), jnp.float32)
Z_PRIOR = jnp.asarray(RNG.normal(size=(BATCH, SLOTS.latent_dim)), jnp.float32)
IMAGES = jnp.asarray(RNG.uniform(-1, 1, (BATCH, 8, 8, 3)), jnp.float32)
SUM_OF_SHARES = 1e-5


@pytest.fixture(scope="module")
def params():
    """Random parameters in which nothing is 0 or 1."""
    shapes = jax.eval_shape(lambda: drc_jax.init_params(ONE, jax.random.key(0)))
    draws = jax.tree.map(lambda x: RNG.normal(size=x.shape, scale=0.4).astype(np.float32), shapes)
    return jax.tree.map(jnp.asarray, draws)


def slot(z, s):
    """The latents of a model of one slot that has slot ``s`` of ``z``."""
    f, b, r = split_latents(SLOTS, z)
    return join_latents(Latents(f.reshape(len(z), N, -1)[:, s], b, r))


def permuted(z, order):
    f, b, r = split_latents(SLOTS, z)
    return join_latents(Latents(f.reshape(len(z), N, -1)[:, order].reshape(f.shape), b, r))


def odds(regions):
    """log pi_f - log pi_b of a model of one slot: the slot's logit against the background's."""
    return np.asarray(regions.log_pi[:, 0] - regions.log_pi[:, 1])


@pytest.fixture(scope="module")
def alone(params):
    """What every slot is without the others."""
    return [drc_jax.render(ONE, params, slot(Z, s)) for s in range(N)]


def test_parameters_do_not_depend_on_the_number_of_slots():
    key = jax.random.key(3)
    chex.assert_trees_all_equal(drc_jax.init_params(ONE, key), drc_jax.init_params(SLOTS, key))


@pytest.mark.parametrize("offset", [0.0, float(np.log(N)), -1.5])
def test_slots_are_painted_one_by_one_and_compete_as_regions(params, alone, offset):
    config = dataclasses.replace(SLOTS, slot_offset=offset)
    found = drc_jax.render(config, params, Z)
    assert found.images.shape == (BATCH, N + 1, 8, 8, 3) and found.pi.shape == (BATCH, N + 1, 8, 8)
    images = [one.images[:, 0] for one in alone] + [alone[0].images[:, 1]]
    np.testing.assert_allclose(found.images, np.stack(images, 1), atol=1e-5)
    logits = np.stack([odds(one) - offset for one in alone] + [np.zeros((BATCH, 8, 8))], 1)
    pi = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(found.pi, pi, atol=1e-5)
    np.testing.assert_allclose(found.foreground_weight, 1 - pi[:, -1], atol=1e-5)
    mixed = (pi[..., None] * np.stack(images, 1)).sum(1)
    np.testing.assert_allclose(found.reconstruction, mixed, atol=1e-5)
    np.testing.assert_allclose(found.background_source, alone[0].background_source, atol=1e-6)
    np.testing.assert_allclose(found.grid, alone[0].grid, atol=1e-6)


def test_the_offset_of_log_n_keeps_half_of_the_prior_for_all_slots_together():
    """Where all regions paint the same logits."""
    for n in (1, 2, 5):
        config = dataclasses.replace(ONE, num_slots=n, slot_offset=float(np.log(n)))
        shapes = jax.eval_shape(lambda: drc_jax.init_params(ONE, jax.random.key(0)))
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape), shapes)
        regions = drc_jax.render(config, zeros, jnp.zeros((1, config.latent_dim)))
        np.testing.assert_allclose(regions.foreground_weight, 0.5, atol=SUM_OF_SHARES)
        plain = dataclasses.replace(config, slot_offset=0.0)
        regions = drc_jax.render(plain, zeros, jnp.zeros((1, config.latent_dim)))
        np.testing.assert_allclose(regions.foreground_weight, n / (n + 1), atol=SUM_OF_SHARES)


def test_the_energy_is_the_sum_over_slots(params):
    def lse(z):
        logits = energies.energy(ONE, params, z).foreground_logits
        return jax.nn.logsumexp(logits, axis=-1)

    rest = energies.energy(ONE, params, slot(Z, 0)).total - lse(slot(Z, 0))
    expected = rest + sum(lse(slot(Z, s)) for s in range(N))
    found = energies.energy(SLOTS, params, Z)
    np.testing.assert_allclose(found.total, expected, rtol=1e-5)
    prior = drc_jax.prior_energy(SLOTS, params, Z)
    np.testing.assert_allclose(prior, expected + np.square(Z).sum(1) / 2, rtol=1e-5)
    # Slots of an image are neighbours.
    rows = found.foreground_logits.reshape(BATCH, N, -1)
    for s in range(N):
        one = energies.energy(ONE, params, slot(Z, s)).foreground_logits
        np.testing.assert_allclose(rows[:, s], one, atol=1e-5)


@pytest.mark.parametrize("likelihood", ["laplace", "gaussian"])
@pytest.mark.parametrize("responsibility", ["pixel", "channel"])
def test_the_posterior_energy_against_its_plain_definition(params, likelihood, responsibility):
    # So wide that the listings' 1e-8 of responsibilities per channel does not matter.
    config = dataclasses.replace(
        SLOTS, likelihood=likelihood, responsibility=responsibility, sigma=0.7
    )
    regions = jax.device_get(drc_jax.render(config, params, Z))
    error = np.asarray(IMAGES, np.float64)[:, None] - regions.images
    log_p = -(np.abs(error) if likelihood == "laplace" else error**2) / (2 * config.sigma**2)
    if responsibility == "pixel":
        log_p = log_p.sum(-1, keepdims=True)
    joint = regions.log_pi[..., None].astype(np.float64) + log_p
    gamma = np.exp(joint) / np.exp(joint).sum(1, keepdims=True)
    np.testing.assert_allclose(gamma.sum(1), 1)
    j = (gamma * joint).sum((1, 2, 3, 4))
    background = regions.images[:, -1]
    variation = sum(np.abs(np.diff(background, axis=axis)).sum((1, 2, 3)) for axis in (1, 2))
    expected = np.asarray(drc_jax.prior_energy(config, params, Z)) + config.langevin_weight * (
        config.tv_weight * variation - j
    )
    found = drc_jax.posterior_energy(config, params, Z, IMAGES)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_the_gradient_of_j_is_that_of_the_log_likelihood(params):
    """J holds its responsibilities; log sum_k pi_k p_k holds nothing."""

    def evidence(z):
        regions = drc_jax.render(SLOTS, params, z)
        distance = jnp.abs(IMAGES[:, None] - regions.images).sum(-1)
        joint = regions.log_pi - distance / (2 * SLOTS.sigma**2)
        return jax.nn.logsumexp(joint, axis=1).sum()

    def expected_log_likelihood(z):
        energy = drc_jax.posterior_energy(SLOTS, params, z, IMAGES)
        return jnp.sum(drc_jax.prior_energy(SLOTS, params, z) - energy) / SLOTS.langevin_weight

    def variation(z):
        background = drc_jax.render(SLOTS, params, z).images[:, -1]
        across = jnp.abs(jnp.diff(background, axis=2)).sum()
        return SLOTS.tv_weight * (across + jnp.abs(jnp.diff(background, axis=1)).sum())

    expected = jax.grad(lambda z: evidence(z) - variation(z))(Z)
    found = jax.grad(expected_log_likelihood)(Z)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found / scale, expected / scale, atol=1e-4)


def test_slots_may_change_places(params):
    order = np.array([2, 0, 1])
    other = permuted(Z, order)
    found, expected = (drc_jax.render(SLOTS, params, z) for z in (other, Z))
    regions = np.array([*order, N])
    np.testing.assert_allclose(found.images, expected.images[:, regions], atol=1e-6)
    np.testing.assert_allclose(found.pi, expected.pi[:, regions], atol=1e-6)
    np.testing.assert_allclose(found.reconstruction, expected.reconstruction, atol=1e-6)
    for energy in (
        functools.partial(drc_jax.prior_energy, SLOTS, params),
        lambda z: drc_jax.posterior_energy(SLOTS, params, z, IMAGES),
    ):
        np.testing.assert_allclose(energy(other), energy(Z), rtol=1e-5)
    ours, theirs = (drc_jax.generator_loss(SLOTS, params, z, IMAGES) for z in (other, Z))
    chex.assert_trees_all_close(ours, theirs, rtol=1e-5)
    ebm = functools.partial(drc_jax.ebm_loss, SLOTS, params)
    chex.assert_trees_all_close(ebm(other, Z_PRIOR), ebm(Z, Z_PRIOR), rtol=1e-5)


def test_a_slot_that_claims_nothing_changes_nothing(params, monkeypatch):
    module = importlib.import_module("drc_jax.model.render")
    by_slot = module.rows_by_slot
    fewer = dataclasses.replace(SLOTS, num_slots=N - 1)
    f, b, r = split_latents(SLOTS, Z)
    z = join_latents(Latents(f[:, : (N - 1) * ONE.zf_dim], b, r))
    expected = drc_jax.render(fewer, params, z)
    misfit = energies.image_energy(fewer, expected, IMAGES)

    def absent(config, painted):
        *others, last = by_slot(config, painted)
        return [*others, last._replace(logit=last.logit * 0.0 - 1e9)]

    assert np.abs(drc_jax.render(SLOTS, params, Z).pi[:, :-2] - expected.pi[:, :-1]).max() > 0.01
    monkeypatch.setattr(module, "rows_by_slot", absent)
    found = drc_jax.render(SLOTS, params, Z)
    np.testing.assert_allclose(found.pi[:, [*range(N - 1), N]], expected.pi, atol=1e-6)
    np.testing.assert_array_equal(found.pi[:, N - 1], 0.0)
    np.testing.assert_allclose(found.reconstruction, expected.reconstruction, atol=1e-6)
    np.testing.assert_allclose(energies.image_energy(SLOTS, found, IMAGES), misfit, rtol=1e-5)
    for gradient in jax.grad(lambda z: drc_jax.posterior_energy(SLOTS, params, z, IMAGES).sum())(Z):
        assert np.isfinite(gradient).all()


def test_pseudo_labels_are_means_over_slots_and_the_generator_counts_once(params):
    _, found = drc_jax.generator_loss(SLOTS, params, Z, IMAGES)
    each = [drc_jax.generator_loss(ONE, params, slot(Z, s), IMAGES)[1] for s in range(N)]
    expected = np.mean([one["pseudo_label_foreground"] for one in each])
    np.testing.assert_allclose(found["pseudo_label_foreground"], expected, rtol=1e-5)
    for name in ("pseudo_label_background", "orthogonality", "total_variation"):
        np.testing.assert_allclose(found[name], each[0][name], rtol=1e-5)


def test_the_gate_of_the_classifiers_is_each_slots_own(params):
    gated = dict(mask_classifier_input=True)
    one, many = dataclasses.replace(ONE, **gated), dataclasses.replace(SLOTS, **gated)
    _, found = drc_jax.generator_loss(many, params, Z, IMAGES)
    each = [drc_jax.generator_loss(one, params, slot(Z, s), IMAGES)[1] for s in range(N)]
    for name in ("pseudo_label_foreground", "pseudo_label_background"):
        np.testing.assert_allclose(found[name], np.mean([e[name] for e in each]), rtol=1e-5)


def test_the_gradient_of_the_ebm_loss_is_the_sum_over_slots(params):
    def gradient(config, z, z_prior):
        loss = lambda p: drc_jax.ebm_loss(config, params | {"ebm": p}, z, z_prior)[0]  # noqa: E731
        return jax.grad(loss)(params["ebm"])

    found = gradient(SLOTS, Z, Z_PRIOR)
    each = [gradient(ONE, slot(Z, s), slot(Z_PRIOR, s)) for s in range(N)]
    summed = jax.tree.map(lambda *leaves: sum(leaves), *each)
    chex.assert_trees_all_close(found["foreground"], summed["foreground"], rtol=1e-3, atol=1e-5)
    chex.assert_trees_all_close(found["background"], each[0]["background"], rtol=1e-3, atol=1e-5)


def test_monitors_of_slots_are_there_where_there_are_several(params):
    _, aux = drc_jax.generator_loss(SLOTS, params, Z, IMAGES)
    shares = np.asarray(drc_jax.render(SLOTS, params, Z).pi[:, :-1]).mean((2, 3))
    np.testing.assert_allclose(aux["largest_slot"], shares.max(1).mean(), rtol=1e-5)
    assert aux["active_slots"] == (shares > losses.ACTIVE_SHARE).sum(1).mean()
    _, aux = drc_jax.generator_loss(ONE, params, slot(Z, 0), IMAGES)
    assert "largest_slot" not in aux and "active_slots" not in aux


def test_the_area_term_makes_halves_cost_more_than_the_whole(params):
    config = dataclasses.replace(SLOTS, slot_area_weight=0.3)
    areas = np.asarray(drc_jax.render(SLOTS, params, Z).pi[:, :-1]).sum((2, 3))
    expected = np.sqrt(1 + areas).sum(1) - np.sqrt(1 + areas.sum(1))
    found, plain = (drc_jax.posterior_energy(c, params, Z, IMAGES) for c in (config, SLOTS))
    weight = config.langevin_weight * config.slot_area_weight
    np.testing.assert_allclose(found - plain, weight * expected, rtol=1e-2)
    loss, aux = drc_jax.generator_loss(config, params, Z, IMAGES)
    np.testing.assert_allclose(aux["slot_cost"], 0.3 * expected.mean() / 64, rtol=1e-5)
    difference = loss - drc_jax.generator_loss(SLOTS, params, Z, IMAGES)[0]
    np.testing.assert_allclose(difference, aux["slot_cost"], rtol=1e-3)

    def term(shares):
        log_pi = jnp.log(jnp.asarray([*shares, 1 - sum(shares)], jnp.float32))
        planes = Planes.of(jnp.broadcast_to(log_pi[None, :, None, None], (1, 3, 8, 8)), region=1)
        return float(energies.slot_area(planes)[0])

    assert term([0.4, 1e-9]) < term([0.3, 0.1]) < term([0.2, 0.2])
    np.testing.assert_allclose([term([0.4, 1e-9]), term([0.1, 1e-9])], 1.0, atol=1e-5)


def contact(pi):
    """(1.16) pair by pair, float64: the chance that two neighbours are in different slots."""
    batch, regions, rows, columns = pi.shape
    steps = [(r, c, r + 1, c) for r in range(rows - 1) for c in range(columns)]
    steps += [(r, c, r, c + 1) for r in range(rows) for c in range(columns - 1)]
    total = np.zeros(batch)
    for r, c, below, beside in steps:
        for s in range(regions - 1):
            for t in range(regions - 1):
                total += (s != t) * pi[:, s, r, c] * pi[:, t, below, beside]
    return total


def test_contact_counts_neighbours_in_different_slots(params):
    config = dataclasses.replace(SLOTS, slot_contact_weight=0.3, slot_area_weight=0.2)
    area = dataclasses.replace(config, slot_contact_weight=0.0)
    expected = contact(np.asarray(drc_jax.render(SLOTS, params, Z).pi, np.float64))
    assert (expected > 1).all()
    found, plain = (drc_jax.posterior_energy(c, params, Z, IMAGES) for c in (config, area))
    np.testing.assert_allclose(found - plain, config.langevin_weight * 0.3 * expected, rtol=1e-2)
    losses = [drc_jax.generator_loss(c, params, Z, IMAGES)[0] for c in (config, area)]
    np.testing.assert_allclose(losses[0] - losses[1], 0.3 * expected.mean() / 64, rtol=1e-3)


def planes_of(labels, softness=1e-6):
    """log pi [1, 4, H, W] of a map of three slots, 3 the background."""
    pi = np.eye(4)[np.asarray(labels)] * (1 - 4 * softness) + softness
    return Planes.of(jnp.asarray(np.log(pi.transpose(2, 0, 1))[None], jnp.float32), region=1)


def test_contact_is_the_length_of_the_border_between_slots():
    whole = np.full((6, 6), 3)
    whole[1:5, 1:3], whole[1:5, 4:] = 0, 1  # a column of background between them
    cut, corner, touching = whole.copy(), whole.copy(), whole.copy()
    cut[3:5, 1:3] = 2
    corner[1, 1] = 2
    touching[2, 3] = 0
    found = [float(energies.slot_contact(planes_of(x))[0]) for x in (whole, cut, corner, touching)]
    np.testing.assert_allclose(found, [0, 2, 2, 1], atol=1e-3)
    # Two slots that share every pixel of an object are in contact all over it.
    shared = np.zeros((1, 3, 4, 4))
    shared[:, :2] = 0.5
    log_pi = jnp.log(jnp.asarray(shared + 1e-9, jnp.float32))
    np.testing.assert_allclose(energies.slot_contact(Planes.of(log_pi, region=1)), 12, rtol=1e-5)


def test_the_gradient_of_contact_is_that_of_its_definition():
    logits = np.random.default_rng(3).normal(size=(1, 4, 3, 3))

    def by_hand(logits):
        pi = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        return contact(pi)[0]

    def ours(logits):
        return energies.slot_contact(Planes.of(jax.nn.log_softmax(logits, axis=1), region=1))[0]

    found = jax.grad(ours)(jnp.asarray(logits, jnp.float32))
    for index in np.ndindex(logits.shape):
        step = np.zeros_like(logits)
        step[index] = 1e-5
        slope = (by_hand(logits + step) - by_hand(logits - step)) / 2e-5
        np.testing.assert_allclose(found[index], slope, atol=1e-4)


def test_one_slot_touches_no_other(params):
    z = slot(Z, 0)
    costly = dataclasses.replace(ONE, slot_contact_weight=3.0)
    energy = functools.partial(drc_jax.posterior_energy, params=params, z=z, image=IMAGES)
    np.testing.assert_array_equal(energy(costly), energy(ONE))


def test_responsibilities_are_shared_by_the_channels_where_there_are_several_slots():
    assert drc_jax.ModelConfig().responsibility == "channel"
    assert drc_jax.ModelConfig(num_slots=2).responsibility == "pixel"
    assert drc_jax.ModelConfig(num_slots=2, responsibility="channel").responsibility == "channel"
    trained = drc_jax.ModelConfig(num_slots=2)
    assert dataclasses.replace(trained, num_slots=1).responsibility == "pixel"


def test_latents_of_another_number_of_slots_are_refused(params):
    with pytest.raises(drc_jax.UserError, match=r"must have 15 = 3 \* 3 \+ 2 \+ 4 latents"):
        drc_jax.render(SLOTS, params, Z[:, : ONE.latent_dim])
    with pytest.raises(drc_jax.UserError, match="num_slots must be at least 1, got 0"):
        drc_jax.ModelConfig(num_slots=0)
