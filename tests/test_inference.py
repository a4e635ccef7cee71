"""Inference on new images: keys, restarts, pieces, and what is refused."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import drc_jax
from drc_jax import inference, langevin
from drc_jax.model import posterior
from drc_jax.model.energies import responsibilities
from drc_jax.model.images import as_images
from tests.helpers.small import ONE_BLOCK as CONFIG

KEY = jax.random.key(0)
IMAGES = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def params():
    return _noise_for(CONFIG)


def _noise_for(config):
    """Noise in the place of trained parameters."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: drc_jax.init_params(config, jax.random.key(0)))
    draws = jax.tree.map(lambda x: rng.normal(size=x.shape, scale=0.3), shapes)
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), draws)


@pytest.fixture
def infer(params):
    return functools.partial(drc_jax.infer, CONFIG, params)


def test_chains_start_from_noise_and_run_on_the_posterior_energy(params, infer):
    start_key, chain_key = jax.random.split(KEY)
    z = langevin.sample(
        chain_key,
        lambda z: drc_jax.posterior_energy(CONFIG, params, z, IMAGES),
        jax.random.normal(start_key, (6, CONFIG.latent_dim)),
        num_steps=4,
        step_size=0.1,
    )
    expected = drc_jax.render(CONFIG, params, z)
    found = infer(KEY, IMAGES, num_steps=4)
    np.testing.assert_allclose(found.pi, expected.pi, atol=1e-4)
    np.testing.assert_allclose(found.foreground_weight, found.pi[:, 0], atol=1e-6)


def test_pieces_of_any_length_change_no_bit(params, infer):
    seen = []
    in_pieces = infer(KEY, IMAGES, num_steps=13, progress=lambda *steps: seen.append(steps))
    assert len(seen) > 2  # 1, 1 + 2, ...: the first call compiles, or the pieces grow
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert seen[-1] == (13, 13) and {total for _, total in seen} == {13}
    x = as_images(CONFIG, IMAGES)
    for every, steps in ((13, [0, 13]), (5, [0, 5, 10, 13])):
        chains = list(posterior.chains(CONFIG, params, KEY, x, num_steps=13, every=every))
        assert [chain.step for chain in chains] == steps
        found = inference.rendered(CONFIG, params, chains[-1].z)
        for ours, theirs in zip(in_pieces, found, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_progress_counts_all_restarts_and_may_end_the_chain(infer):
    seen = []
    infer(KEY, IMAGES, num_steps=3, num_restarts=2, progress=lambda *steps: seen.append(steps))
    assert seen[-1] == (6, 6) and any(done == 3 for done, _ in seen)

    def interrupted(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        infer(KEY, IMAGES, num_steps=10**9, progress=interrupted)


def test_one_program_serves_every_number_of_steps(infer):
    infer(KEY, IMAGES, num_steps=2)
    before = posterior._advance._cache_size()
    infer(KEY, IMAGES, num_steps=5, step_size=0.05, num_restarts=2)
    assert posterior._advance._cache_size() == before


@pytest.mark.parametrize("key", [KEY, inference.image_keys(KEY, IMAGES)])
def test_under_jit_it_is_one_program_with_the_same_chains(infer, key):
    options = dict(num_steps=3, num_restarts=2)
    inside = jax.jit(lambda key, images: infer(key, images, **options).pi)(key, IMAGES)
    np.testing.assert_allclose(inside, infer(key, IMAGES, **options).pi, atol=1e-4)


def test_an_images_chain_depends_on_the_image_alone(infer):
    keys = inference.image_keys(KEY, IMAGES)
    assert len(np.unique(jax.random.key_data(keys), axis=0)) == 6
    twice = inference.image_keys(KEY, IMAGES[[2, 2]])
    np.testing.assert_array_equal(*jax.random.key_data(twice))
    options = dict(num_steps=4, num_restarts=2)
    together = infer(keys, IMAGES, **options).pi
    order = np.array([4, 1, 3])
    some = IMAGES[order]
    apart = infer(inference.image_keys(KEY, some), some, **options).pi
    np.testing.assert_allclose(apart, together[order], atol=1e-4)
    other = infer(inference.image_keys(jax.random.key(1), some), some, **options).pi
    assert np.abs(other - apart).max() > 0.01


def test_restarts_keep_the_chain_of_lowest_energy_for_each_image(params, infer):
    def chain(restart):
        key = KEY if restart == 0 else jax.random.fold_in(KEY, restart)
        start_key, chain_key = jax.random.split(key)
        return langevin.sample(
            chain_key,
            lambda z: drc_jax.posterior_energy(CONFIG, params, z, IMAGES),
            jax.random.normal(start_key, (6, CONFIG.latent_dim)),
            num_steps=3,
            step_size=0.1,
        )

    chains = [chain(restart) for restart in range(5)]
    energy = jax.jit(lambda z: drc_jax.posterior_energy(CONFIG, params, z, IMAGES))
    best = np.stack([energy(z) for z in chains]).argmin(axis=0)
    assert len(set(best)) > 1  # images differ in which chain is theirs
    z = jnp.stack([chains[winner][i] for i, winner in enumerate(best)])
    expected = drc_jax.render(CONFIG, params, z)
    kept = infer(KEY, IMAGES, num_steps=3, num_restarts=5)
    np.testing.assert_allclose(kept.pi, expected.pi, atol=1e-4)
    np.testing.assert_allclose(kept.images, expected.images, atol=1e-4)


@pytest.mark.parametrize(("num_slots", "mask_from"), [(1, "pi"), (1, "gamma"), (3, "gamma")])
def test_the_mean_over_chains_is_the_masks_weight(num_slots, mask_from):
    """(6.2), each image and chain on its own."""
    config = dataclasses.replace(CONFIG, num_slots=num_slots, responsibility="auto")
    params = _noise_for(config)
    x = as_images(config, IMAGES)
    options = dict(num_steps=3, num_restarts=4)
    chains = posterior.chains(config, params, KEY, x, **options)
    ends = [chain.z for chain in chains if chain.step == 3]
    rendered = [drc_jax.render(config, params, z) for z in ends]
    source = {"pi": lambda r: r.pi, "gamma": lambda r: responsibilities(config, r, x)}[mask_from]
    expected = np.mean([1 - source(r)[:, -1] for r in rendered], axis=0)
    infer = functools.partial(drc_jax.infer, config, params, KEY, IMAGES, mask_from=mask_from)
    found = infer(num_steps=3, num_chains=4)
    np.testing.assert_allclose(found.foreground_weight, expected, atol=1e-4)
    np.testing.assert_allclose(found.pi.sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(found.log_pi, np.log(np.maximum(found.pi, 1e-37)), atol=1e-4)
    kept = infer(**options)
    np.testing.assert_array_equal(found.images[:, -1], kept.images[:, -1])
    np.testing.assert_array_equal(found.reconstruction, kept.reconstruction)
    assert np.abs(found.foreground_weight - kept.foreground_weight).max() > 0.01
    if num_slots == 1:
        np.testing.assert_array_equal(found.images, kept.images)


def test_masks_may_be_responsibilities(params, infer):
    x = as_images(CONFIG, IMAGES)
    mixing = infer(KEY, IMAGES, num_steps=3)
    found = infer(KEY, IMAGES, num_steps=3, mask_from="gamma")
    np.testing.assert_allclose(found.pi, responsibilities(CONFIG, mixing, x), atol=1e-5)
    np.testing.assert_array_equal(found.images, mixing.images)
    with pytest.raises(drc_jax.UserError, match="mask_from must be one of pi, gamma; got 'p'"):
        infer(KEY, IMAGES, num_steps=3, mask_from="p")


def test_the_mean_leaves_out_chains_that_are_not_finite(infer, monkeypatch):
    advance, calls = posterior._advance, []

    def broken(*arguments):
        calls.append(arguments)
        z = advance(*arguments)
        return z.at[2].set(jnp.nan) if len(calls) > 1 else z

    finite = infer(KEY, IMAGES, num_steps=1, num_chains=1)
    monkeypatch.setattr(posterior, "_advance", broken)
    found = infer(KEY, IMAGES, num_steps=1, num_chains=3)
    assert len(calls) == 3 and np.isfinite(found.pi).all()
    np.testing.assert_array_equal(found.images[2], finite.images[2])


def test_under_jit_the_mean_is_the_same(infer):
    inside = jax.jit(lambda images: infer(KEY, images, num_steps=3, num_chains=2).pi)(IMAGES)
    np.testing.assert_allclose(inside, infer(KEY, IMAGES, num_steps=3, num_chains=2).pi, atol=1e-4)


def test_the_first_steps_of_a_fresh_chain_may_be_short(params, infer):
    start_key, chain_key = jax.random.split(KEY)
    z = jax.random.normal(start_key, (6, CONFIG.latent_dim))
    for first, last, delta in [(0, 3, 0.02), (3, 5, 0.1)]:
        z = langevin.sample(
            chain_key,
            lambda z: drc_jax.posterior_energy(CONFIG, params, z, IMAGES),
            z,
            num_steps=last - first,
            step_size=delta,
            first_step=first,
        )
    seen = []
    options = dict(warm_up_steps=3, warm_up_step_size=0.02)
    found = infer(
        KEY, IMAGES, num_steps=5, **options, progress=lambda *steps: seen.append(steps[0])
    )
    np.testing.assert_allclose(found.pi, drc_jax.render(CONFIG, params, z).pi, atol=1e-4)
    assert {3, 5} <= set(seen) and seen == sorted(set(seen))
    # A warm-up longer than the chain is all of it.
    short = infer(KEY, IMAGES, num_steps=2, **options)
    all_short = infer(KEY, IMAGES, num_steps=2, step_size=0.02)
    np.testing.assert_array_equal(short.pi, all_short.pi)


def test_a_limited_drift_reaches_the_chains_part_by_part(params, infer):
    start_key, chain_key = jax.random.split(KEY)
    parts = (CONFIG.zf_dim, CONFIG.zb_dim, CONFIG.zs_dim)
    z = langevin.sample(
        chain_key,
        lambda z: drc_jax.posterior_energy(CONFIG, params, z, IMAGES),
        jax.random.normal(start_key, (6, CONFIG.latent_dim)),
        num_steps=4,
        step_size=0.1,
        drift_limit=0.25,
        parts=parts,
    )
    found = infer(KEY, IMAGES, num_steps=4, drift_limit=0.25)
    np.testing.assert_allclose(found.pi, drc_jax.render(CONFIG, params, z).pi, atol=1e-4)
    assert np.abs(found.pi - infer(KEY, IMAGES, num_steps=4).pi).max() > 0.01
    prior = functools.partial(drc_jax.sample_prior, CONFIG, params, KEY, num_samples=2, num_steps=3)
    assert np.abs(prior(drift_limit=1e-3).pi - prior().pi).max() > 1e-4


def test_a_limited_drift_counts_every_slot_as_a_part():
    config = dataclasses.replace(CONFIG, num_slots=2)
    params = drc_jax.init_params(config, jax.random.key(5))
    start_key, chain_key = jax.random.split(KEY)
    z = langevin.sample(
        chain_key,
        lambda z: drc_jax.posterior_energy(config, params, z, IMAGES),
        jax.random.normal(start_key, (6, config.latent_dim)),
        num_steps=3,
        step_size=0.1,
        drift_limit=0.05,
        parts=(CONFIG.zf_dim, CONFIG.zf_dim, CONFIG.zb_dim, CONFIG.zs_dim),
    )
    found = drc_jax.infer(config, params, KEY, IMAGES, num_steps=3, drift_limit=0.05)
    np.testing.assert_allclose(found.pi, drc_jax.render(config, params, z).pi, atol=1e-4)
    samples = drc_jax.sample_prior(
        config, params, KEY, num_samples=2, num_steps=2, drift_limit=0.05
    )
    assert np.isfinite(samples.pi).all()


def test_energies_that_are_no_numbers_never_win():
    nan = np.float32("nan")
    energy, z = inference._lower(
        jnp.array([1.0, nan, 2.0, nan]),
        jnp.zeros((4, 1)),
        jnp.array([nan, 5.0, 1.0, nan]),
        jnp.ones((4, 1)),
    )
    np.testing.assert_array_equal(energy, [1.0, 5.0, 1.0, nan])
    np.testing.assert_array_equal(z[:3, 0], [0, 1, 1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(num_steps=0), "num_steps must be at least 1, got 0"),
        (dict(step_size=-0.1), "step_size must be finite and greater than 0"),
        (dict(num_restarts=0), "num_restarts must be at least 1, got 0"),
        (dict(num_chains=0), "num_chains must be at least 1, got 0"),
        (dict(num_chains=2, num_restarts=3), r"num_restarts \(3\).* or num_chains \(2\).*not both"),
        (dict(drift_limit=-1.0), "drift_limit must be a finite number of at least 0, got -1.0"),
        (dict(warm_up_steps=-1), "warm_up_steps must be an integer of at least 0, got -1"),
        (dict(warm_up_steps=1, warm_up_step_size=0.0), "step_size must be finite and greater"),
        (dict(key=jax.random.split(KEY, 2)), "6 images, 2 keys"),
    ],
)
def test_what_no_chain_can_run_with_is_refused(infer, changes, message):
    with pytest.raises(drc_jax.UserError, match=message):
        infer(**(dict(key=KEY, images=IMAGES, num_steps=1) | changes))


def test_keys_are_made_of_bytes():
    with pytest.raises(drc_jax.UserError, match="uint8, got float64"):
        inference.image_keys(KEY, IMAGES / 255)


def test_chains_that_diverge_are_named_with_their_step_size(infer, params):
    with pytest.raises(drc_jax.UserError, match=r"no chain is finite .* step_size 5\.0"):
        infer(KEY, IMAGES, num_steps=200, step_size=5.0)
    with pytest.raises(drc_jax.UserError, match=r"step_size 5\.0"):
        drc_jax.sample_prior(CONFIG, params, KEY, num_samples=2, num_steps=200, step_size=5.0)


def test_some_chains_that_diverge_do_not_cost_the_others(infer, monkeypatch):
    advance = posterior._advance

    def broken(*arguments):
        return advance(*arguments).at[2].set(jnp.nan)

    monkeypatch.setattr(posterior, "_advance", broken)
    with pytest.warns(RuntimeWarning, match=r"images \[2\] are not finite"):
        found = infer(inference.image_keys(KEY, IMAGES), IMAGES, num_steps=2)
    finite = np.isfinite(found.pi).all(axis=(1, 2, 3))
    np.testing.assert_array_equal(finite, np.arange(6) != 2)


def test_prior_samples(params):
    done: list[tuple[int, int]] = []
    draw = functools.partial(drc_jax.sample_prior, CONFIG, params, KEY, num_samples=3, num_steps=4)
    samples = draw(progress=lambda *counts: done.append(counts))
    assert samples.images.shape == (3, 2, 8, 8, 3)
    assert done[0] == (1, 4) and done[-1] == (4, 4)
    start_key, chain_key = jax.random.split(KEY)
    z = langevin.sample(
        chain_key,
        lambda z: drc_jax.prior_energy(CONFIG, params, z),
        jax.random.normal(start_key, (3, CONFIG.latent_dim)),
        num_steps=4,
        step_size=0.4,
    )
    np.testing.assert_allclose(samples.pi, drc_jax.render(CONFIG, params, z).pi, atol=1e-4)
    np.testing.assert_allclose(jax.jit(draw)().pi, samples.pi, atol=1e-4)
    with pytest.raises(drc_jax.UserError, match="num_samples must be at least 1, got 0"):
        drc_jax.sample_prior(CONFIG, params, KEY, num_samples=0)
