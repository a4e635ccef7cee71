"""Runs with several slots: resumed, with chains in files, on several devices, used with other n."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import drc_jax
from drc_jax import langevin
from drc_jax.benchmark import flops
from drc_jax.config import DataConfig, SamplerConfig, TrainConfig
from drc_jax.data.packed.format import open_split
from drc_jax.data.prepare import prepare_synthetic
from drc_jax.model.latents import split_latents
from drc_jax.runs import chain_files, checkpoint
from drc_jax.runs.trained import Run
from drc_jax.runtime import devices
from drc_jax.training import loop
from drc_jax.training import step as steps
from tests.helpers.methods import Mean, MeanConfig
from tests.helpers.rounding import assert_same_step
from tests.helpers.small import ONE_BLOCK

IMAGES, N = 8, 3
MODEL = dataclasses.replace(ONE_BLOCK, num_slots=N, slot_offset=1.0, responsibility="pixel")
CONFIG = TrainConfig(
    model=MODEL,
    data=DataConfig(dataset="scenes", path="scenes", objects=(1, 3), shading="flat"),
    sampler=SamplerConfig(prior_steps=3, posterior_steps=2),
    batch_size=4,
    iterations=4,
    log_every=1,
    checkpoint_every=2,
    image_every=2,
    seed=3,
)


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    options = dict(objects=(1, 3), shading="flat")
    prepare_synthetic("scenes", folder, size=8, num_train=IMAGES, num_test=2, **options)
    return open_split(folder, "train")


@pytest.fixture(scope="module")
def whole(tmp_path_factory, split):
    """The folder of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    compiled = steps.step._cache_size()
    loop.train(CONFIG, folder, split)
    assert steps.step._cache_size() == compiled + 1
    return folder


def restored(folder, config=CONFIG):
    like = jax.eval_shape(lambda: drc_jax.init_state(config, IMAGES))
    return checkpoint.restore_state(folder, like)


def batch(count=8):
    rng = np.random.default_rng(0)
    return {
        "image": rng.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8),
        "index": np.arange(count, dtype=np.int32),
        "flip": np.arange(count) % 2 == 1,
    }


def test_a_run_goes_on_where_it_stopped(tmp_path, split, whole):
    loop.train(dataclasses.replace(CONFIG, iterations=2), tmp_path / "run", split)
    loop.train(CONFIG, tmp_path / "run", split)
    chex.assert_trees_all_equal(restored(tmp_path / "run"), restored(whole))
    step, state = restored(whole)
    assert step == 4 and state.posterior_chains.shape == (IMAGES, 2, MODEL.latent_dim)
    names = ["step_0000002.png", "step_0000004.png"]
    assert sorted(path.name for path in (whole / "images").iterdir()) == names


def test_chains_in_files_are_the_same(tmp_path, split, whole):
    config = dataclasses.replace(CONFIG, chain_bank="host")
    loop.train(config, tmp_path / "run", split)
    step, state = restored(tmp_path / "run", config)
    expected, banks = drc_jax.DRC().split_chains(restored(whole)[1])
    chex.assert_trees_all_equal(state, expected)
    folder = checkpoint.saved_files(tmp_path / "run", step)
    found = [np.load(folder / f"{name}.npy") for name in chain_files.NAMES]
    chex.assert_trees_all_equal(found, list(banks))


def test_several_devices_do_what_one_does():
    config = dataclasses.replace(CONFIG, batch_size=8)
    shared = dataclasses.replace(config, num_devices=2)
    before = drc_jax.init_state(config, IMAGES)
    before = devices.to_host(before)
    # Each device has its own half of the images.
    expected, metrics = drc_jax.train_step(config, before, batch())
    expected = devices.to_host(expected)
    found, found_metrics = drc_jax.train_step(shared, before, batch())
    chex.assert_trees_all_close(found_metrics, metrics, rtol=1e-3, atol=1e-4)
    assert_same_step(devices.to_host(found), expected, before)


def test_parts_of_a_batch_in_turn_give_the_whole():
    config = dataclasses.replace(CONFIG, batch_size=8)
    before = devices.to_host(drc_jax.init_state(config, IMAGES))
    expected, _ = drc_jax.train_step(config, before, batch())
    found, _ = drc_jax.train_step(dataclasses.replace(config, images_at_once=2), before, batch())
    assert_same_step(devices.to_host(found), devices.to_host(expected), before)


def test_one_slot_is_the_model_that_has_no_slots():
    """A config that names one slot, and one from before there were slots: a step to the bit."""
    old = dataclasses.replace(CONFIG, model=ONE_BLOCK)
    stored = {k: v for k, v in dataclasses.asdict(ONE_BLOCK).items() if "slot" not in k}
    new = dataclasses.replace(CONFIG, model=drc_jax.ModelConfig(**stored, num_slots=1))
    assert new == old and old.model.responsibility == "channel"
    state = drc_jax.init_state(old, IMAGES)
    assert state.posterior_chains.shape == (IMAGES, 2, 3 + 2 + 4)


def test_slots_with_equal_latents_part_at_once():
    """Each has its own noise."""
    params = drc_jax.init_params(MODEL, jax.random.key(0))
    z = jnp.zeros((2, MODEL.latent_dim))
    keys = jax.random.split(jax.random.key(1), 2)
    moved = langevin.sample(
        keys, lambda z: drc_jax.prior_energy(MODEL, params, z), z, num_steps=1, step_size=0.1
    )
    slots = np.asarray(split_latents(MODEL, moved).foreground).reshape(2, N, -1)
    assert np.abs(slots[:, 0] - slots[:, 1]).min() > 1e-4
    assert np.abs(slots[:, 1] - slots[:, 2]).min() > 1e-4


@pytest.mark.parametrize("n", [1, 2, 5])
def test_a_trained_model_is_used_with_another_number_of_slots(whole, split, n):
    run = drc_jax.load_run(whole).with_slots(n)
    model = run.config.model
    images = np.asarray(split.images[:2])
    regions = drc_jax.infer(model, run.params, jax.random.key(0), images, num_steps=2)
    assert regions.images.shape == (2, n + 1, 8, 8, 3)
    np.testing.assert_allclose(regions.pi.sum(1), 1, rtol=1e-5)
    drawn = drc_jax.sample_prior(model, run.params, jax.random.key(0), num_samples=2, num_steps=2)
    assert drawn.pi.shape == (2, n + 1, 8, 8)


def test_the_number_of_slots_is_drcs_alone(whole):
    run = drc_jax.load_run(whole)
    assert run.with_slots(0) is run
    with_encoder = run._replace(params={**run.params, "encoder": {}})
    assert "encoder" in with_encoder.with_slots(N).params
    assert "encoder" not in with_encoder.with_slots(N + 1).params
    with pytest.raises(drc_jax.UserError, match="for runs of drc, and this one is of mean"):
        Run(Mean(), MeanConfig(), {}, 1).with_slots(2)


def test_every_slot_costs_a_generator():
    one, three = (dataclasses.replace(ONE_BLOCK, num_slots=n) for n in (1, 3))
    two = dataclasses.replace(ONE_BLOCK, num_slots=2)
    for cost in (flops.posterior_step, flops.prior_step, flops.classifiers_forward):
        assert cost(three) - cost(two) == cost(two) - cost(one) > 0
