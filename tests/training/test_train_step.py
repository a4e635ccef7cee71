"""The training step: which chains move, what is random, and what is refused."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import drc_jax
from drc_jax import langevin
from drc_jax.model import losses
from drc_jax.runtime.devices import data_mesh
from drc_jax.training import step as steps
from drc_jax.training.drc import DRC
from tests.helpers.rounding import assert_same_step
from tests.helpers.small import ONE_BLOCK

NUM_IMAGES = 6


@pytest.fixture(scope="module")
def config():
    return drc_jax.TrainConfig(
        model=ONE_BLOCK,
        sampler=drc_jax.SamplerConfig(posterior_steps=3, prior_steps=2),
        batch_size=3,
        seed=11,
    )


@pytest.fixture(scope="module")
def initial(config):
    return jax.device_get(drc_jax.init_state(config, NUM_IMAGES))


def batch(index=(4, 0, 2), flip=(True, False, True)):
    rng = np.random.default_rng(0)
    return {
        "image": rng.integers(0, 256, (len(index), 8, 8, 3), dtype=np.uint8),
        "index": np.array(index, np.int32),
        "flip": np.array(flip),
    }


def step(config, state, batch):
    state, metrics = drc_jax.train_step(config, jax.device_put(state), batch)
    return jax.device_get((state, metrics))


def test_only_the_batchs_own_chains_move(config, initial):
    after, _ = step(config, initial, batch())
    moved = {(4, 1), (0, 0), (2, 1)}
    for name in ("posterior_chains", "prior_chains"):
        old, new = getattr(initial, name), getattr(after, name)
        for place in np.ndindex(NUM_IMAGES, 2):
            assert np.array_equal(old[place], new[place]) == (place not in moved), (name, place)


def test_the_step_is_made_of_the_public_functions(config, initial):
    """Chains and metrics follow from sample, the energies and the losses alone."""
    data = batch()
    after, metrics = step(config, initial, data)
    image = jnp.asarray(data["image"], jnp.float32) / 127.5 - 1.0
    key = jax.random.fold_in(jax.random.key(config.seed), 0)
    pairs = [jax.random.split(k) for k in jax.random.split(key, 3)]
    posterior_keys, prior_keys = (jnp.stack([pair[i] for pair in pairs]) for i in (0, 1))
    rows, sides = data["index"], data["flip"].astype(int)
    m, params = config.model, jax.device_put(initial.params)
    z_posterior = langevin.sample(
        posterior_keys,
        lambda z: drc_jax.posterior_energy(m, params, z, image),
        initial.posterior_chains[rows, sides],
        num_steps=3,
        step_size=0.1,
    )
    z_prior = langevin.sample(
        prior_keys,
        lambda z: drc_jax.prior_energy(m, params, z),
        initial.prior_chains[rows, sides],
        num_steps=2,
        step_size=0.4,
    )
    np.testing.assert_allclose(
        after.posterior_chains[rows, sides], z_posterior, rtol=1e-3, atol=1e-5
    )
    np.testing.assert_allclose(after.prior_chains[rows, sides], z_prior, rtol=1e-4, atol=1e-6)
    z_posterior = jnp.asarray(after.posterior_chains[rows, sides])
    z_prior = jnp.asarray(after.prior_chains[rows, sides])
    loss, aux = jax.jit(losses.generator_loss, static_argnums=0)(m, params, z_posterior, image)
    np.testing.assert_allclose(metrics["generator_loss"], loss, rtol=1e-4)
    np.testing.assert_allclose(metrics["log_likelihood"], aux["log_likelihood"], rtol=1e-4)
    loss, aux = losses.ebm_loss(m, params, z_posterior, z_prior)
    np.testing.assert_allclose(metrics["ebm_loss"], loss, atol=1e-5)
    np.testing.assert_allclose(metrics["energy_prior"], aux["energy_prior"], rtol=1e-5)
    part = z_posterior[:, :3]
    np.testing.assert_allclose(
        metrics["posterior_mean_square_foreground"], np.mean(part**2), rtol=1e-5
    )
    start = initial.posterior_chains[rows, sides][:, :3]
    np.testing.assert_allclose(
        metrics["posterior_displacement_foreground"],
        np.sqrt(np.mean((part - start) ** 2)),
        rtol=1e-4,
    )
    assert metrics["latents_finite"] == 1.0


def test_first_adam_step_moves_every_parameter_by_the_rate(config, initial):
    """Adam's first update is rate * sign(gradient), whatever the gradient's size."""
    after, _ = step(config, initial, batch())
    for part, rate in (("generator", 1e-4), ("classifier", 1e-4), ("ebm", 2e-5)):
        moves = jax.tree.map(lambda a, b: np.abs(a - b), after.params[part], initial.params[part])
        largest = max(leaf.max() for leaf in jax.tree.leaves(moves))
        np.testing.assert_allclose(largest, rate, rtol=2e-2)


def test_same_state_same_result_and_noise_changes_with_the_step(config, initial):
    first, _ = step(config, initial, batch())
    chex.assert_trees_all_equal(first, step(config, initial, batch())[0])
    later, _ = step(config, initial.replace(step=np.int32(5)), batch())
    assert not np.allclose(first.posterior_chains, later.posterior_chains)


def test_the_first_iterations_have_a_tv_weight_of_their_own(config, initial):
    flat = dataclasses.replace(config, model=dataclasses.replace(config.model, tv_weight=3.0))
    both = dataclasses.replace(config, warm_up_iterations=1, warm_up_tv_weight=3.0)
    expected = [step(flat, initial, batch())]
    expected.append(step(config, expected[0][0], batch()))
    first = step(both, initial, batch())
    found = [first, step(both, first[0], batch())]
    chex.assert_trees_all_equal(found, expected)
    plain = step(config, initial, batch())
    # Of the loss and of the chains alike.
    assert first[1]["generator_loss"] > plain[1]["generator_loss"] + 0.1
    assert not np.array_equal(first[0].posterior_chains, plain[0].posterior_chains)
    assert both.in_force(0).model == flat.model and both.in_force(1) is both


def test_parts_of_a_batch_give_the_step_of_the_whole(config, initial):
    one_by_one = dataclasses.replace(config, images_at_once=1)
    found, metrics = step(one_by_one, initial, batch())
    expected, expected_metrics = step(config, initial, batch())
    assert_same_step(found, expected, initial)
    assert metrics.keys() == expected_metrics.keys()
    chex.assert_trees_all_close(metrics, expected_metrics, rtol=1e-3, atol=1e-4)

    broken = initial.posterior_chains.copy()
    broken[0, 0, 0] = np.nan  # in the second of three parts
    _, metrics = step(one_by_one, initial.replace(posterior_chains=broken), batch())
    assert metrics["latents_finite"] == 0.0


def lowered(config, initial):
    drc, mesh = DRC(), data_mesh(1)
    state, banks = drc.split_chains(initial)
    chains = jax.tree.map(lambda bank: bank[:3, 0], banks)
    image = batch()["image"]
    return steps.step.lower(drc, mesh, drc.step_config(config), state, chains, image, 0).as_text()


def test_a_single_part_makes_the_program_of_the_whole(config, initial):
    one_part = dataclasses.replace(config, images_at_once=3)
    assert lowered(one_part, initial) == lowered(config, initial)


def test_seeds_and_steps_share_one_program(config, initial):
    state, _ = drc_jax.train_step(config, jax.device_put(initial), batch())
    compiled = steps.step._cache_size()
    for seed in (1, 2**32 - 1):
        other = dataclasses.replace(config, seed=seed, iterations=7)
        state, _ = drc_jax.train_step(other, state, batch(index=(1, 2, 3)))
    assert steps.step._cache_size() == compiled


def test_states_and_batches_that_do_not_go_together_are_refused(config, initial):
    on_host = dataclasses.replace(config, chain_bank="host")
    state = drc_jax.init_state(on_host, NUM_IMAGES)
    assert state.posterior_chains is None and state.prior_chains is None
    chex.assert_trees_all_equal(state.params, initial.params)
    with pytest.raises(drc_jax.UserError, match="this state has no chains: chain_bank 'host'"):
        drc_jax.train_step(on_host, state, batch())
    with pytest.raises(drc_jax.UserError, match="batch lacks 'flip'"):
        drc_jax.train_step(config, initial, {"image": 0, "index": [0]})
    in_twos = dataclasses.replace(config, batch_size=2, images_at_once=2)
    with pytest.raises(drc_jax.UserError, match=r"batch of 3 images .* images_at_once 2;"):
        drc_jax.train_step(in_twos, initial, batch())


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"num_devices": 0}, "num_devices must be at least 1"),
        ({"num_devices": 5}, "num_devices must divide batch_size 48, got 5"),
        ({"images_at_once": 7}, "divide the 48 images that each device has of a batch, got 7"),
        ({"num_devices": 4, "images_at_once": 24}, "divide the 12 images"),
        ({"images_at_once": -1}, "images_at_once must be at least 0"),
        ({"chain_bank": "disk"}, "chain_bank must be one of device, host; got 'disk'"),
    ],
)
def test_parts_devices_and_banks_that_cannot_be_are_refused(fields, message):
    with pytest.raises(drc_jax.UserError, match=message):
        drc_jax.TrainConfig(**fields)
    drc_jax.TrainConfig(num_devices=4, images_at_once=6)


def test_clipping_bounds_the_first_moment(config, initial):
    clipped = drc_jax.TrainConfig(
        model=config.model,
        sampler=config.sampler,
        optimizer=drc_jax.OptimizerConfig(clip_norm=1e-3),
        batch_size=3,
    )
    state = jax.device_get(drc_jax.init_state(clipped, NUM_IMAGES))
    state, metrics = step(clipped, state, batch())
    moments = [leaf for leaf in jax.tree.leaves(state.generator_opt_state) if leaf.ndim]
    # The first moment is (1 - beta1) times the clipped gradient; the second is far smaller.
    norm = np.sqrt(sum(np.sum(np.square(leaf)) for leaf in moments))
    np.testing.assert_allclose(norm, 0.5 * 1e-3, rtol=1e-2)
    assert metrics["generator_gradient_norm"] > 1e-2


def test_a_latent_that_is_not_finite_is_told(config, initial):
    broken = initial.posterior_chains.copy()
    broken[4, 1, 0] = np.nan
    _, metrics = step(config, initial.replace(posterior_chains=broken), batch())
    assert metrics["latents_finite"] == 0.0


@pytest.mark.parametrize(
    "change, message",
    [
        ({"index": np.array([0, 1, 6])}, r"\[0, 6\)"),
        ({"index": np.array([0, -1, 2])}, r"\[0, 6\)"),
        ({"index": np.array([0, 1, 1])}, "repeat"),
        ({"image": np.zeros((3, 16, 16, 3), np.uint8)}, r"\(3, 8, 8, 3\)"),
        ({"flip": np.zeros(2, bool)}, r"flip.*\(3,\)"),
        ({"image": np.zeros((3, 8, 8, 3), np.int64)}, r"got int64; use images.astype\('uint8'\)"),
        ({"image": np.full((3, 8, 8, 3), 200.0, np.float32)}, r"must lie in \[-1, 1\]: divide"),
    ],
)
def test_bad_batches_are_refused(config, initial, change, message):
    with pytest.raises(drc_jax.UserError, match=message):
        drc_jax.train_step(config, initial, batch() | change)


def test_a_batch_larger_than_the_data_is_refused(config):
    with pytest.raises(drc_jax.UserError, match=r"batch_size 3 .* 2 images"):
        drc_jax.init_state(config, 2)


def test_own_terms_and_optimizers_take_the_place_of_the_configs(config, initial):
    """What docs/recipes.md shows: an energy, a loss and an optimizer of one's own."""

    def pulled_to_one(model, params, z, image):
        return drc_jax.posterior_energy(model, params, z, image) + 1e4 * jnp.sum((z - 1) ** 2, -1)

    def only_orthogonal(model, params, z, image):
        loss, aux = drc_jax.generator_loss(model, params, z, image)
        return 0.0 * loss, aux

    terms = drc_jax.Terms(
        posterior_energy=pulled_to_one,
        generator_loss=only_orthogonal,
        optimizers=lambda _: (optax.sgd(1.0), optax.sgd(0.0)),
    )
    small_steps = drc_jax.SamplerConfig(posterior_steps=3, prior_steps=2, posterior_step_size=0.01)
    config = dataclasses.replace(config, sampler=small_steps)
    method = drc_jax.DRC(terms)
    state = drc_jax.init_state(config, NUM_IMAGES, method)
    before = jax.device_get(state.params)
    state, _ = drc_jax.train_step(config, state, batch(), method)
    np.testing.assert_allclose(state.posterior_chains[0, 0], 1.0, atol=0.2)
    chex.assert_trees_all_equal(jax.device_get(state.params), before)
