"""Averages of parameters: what they are, that they change nothing, and who takes them."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import drc_jax
from drc_jax import inference
from drc_jax.config import DataConfig, EncoderConfig, OptimizerConfig
from drc_jax.data.packed.format import Record, open_split
from drc_jax.data.packed.writing import write_split
from drc_jax.model.average import for_inference
from drc_jax.runs import checkpoint
from drc_jax.training import loop
from drc_jax.zoo import models
from tests.helpers.small import ONE_BLOCK

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), np.uint8)
DECAY = 0.3
# Rates at which a few iterations move parameters far.
RATES = {"generator_learning_rate": 1e-2, "ebm_learning_rate": 1e-2}
PLAIN = drc_jax.TrainConfig(
    model=ONE_BLOCK,
    sampler=drc_jax.SamplerConfig(prior_steps=2, posterior_steps=3),
    optimizer=OptimizerConfig(**RATES),
    batch_size=4,
    seed=3,
)
WITH = dataclasses.replace(PLAIN, optimizer=OptimizerConfig(average_decay=DECAY, **RATES))


def trained(config, steps=5):
    """The state after some steps, and the parameters after each."""
    state, seen = drc_jax.init_state(config, 6), []
    for step in range(steps):
        places = (np.arange(4) + 2 * step) % 6
        batch = {"image": IMAGES[places], "index": places, "flip": np.zeros(4, bool)}
        state, _ = drc_jax.train_step(config, state, batch)
        seen.append(jax.tree.map(np.array, state.params))
    return state, seen


@pytest.fixture(scope="module")
def with_average():
    return trained(WITH)


def test_a_run_learns_the_same_bit_for_bit(with_average):
    state, _ = with_average
    plain, _ = trained(PLAIN)
    params = dict(state.params)
    assert set(params.pop("average")) == {"generator", "ebm"}
    chex.assert_trees_all_equal(dataclasses.replace(state, params=params), plain)


def test_it_begins_with_the_first_parameters_and_then_forgets(with_average):
    _, seen = with_average
    expected = {name: seen[0][name] for name in ("generator", "ebm")}
    chex.assert_trees_all_equal(seen[0]["average"], expected)
    for t, params in enumerate(seen[1:], start=2):
        d = min(DECAY, (t - 1) / (t + 9))  # 1/11, 2/12, 3/13, then 0.3
        new = {name: params[name] for name in expected}
        expected = jax.tree.map(lambda a, theta, d=d: d * a + (1 - d) * theta, expected, new)
        chex.assert_trees_all_close(params["average"], expected, rtol=1e-5, atol=1e-7)
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), expected, new)
    assert np.median(jax.tree.leaves(moved)) > 1e-3  # a last bias, which no gradient has, stays


def test_two_devices_have_the_averages_of_one():
    config = dataclasses.replace(WITH, num_devices=2)
    state = drc_jax.init_state(config, 6)
    one = drc_jax.init_state(WITH, 6)
    index = np.array([0, 1, 3, 4])
    batch = {"image": IMAGES[index], "index": index, "flip": np.zeros(4, bool)}
    both = (drc_jax.train_step(config, state, batch), drc_jax.train_step(WITH, one, batch))
    two, one = (jax.device_get(state.params["average"]) for state, _ in both)
    # Adam's first steps are as long where a gradient is nearly nothing.
    chex.assert_trees_all_close(two, one, atol=2e-2)
    difference = jax.tree.map(lambda a, b: np.abs(a - b).mean(), two, one)
    assert max(jax.tree.leaves(difference)) < 1e-4


def test_inference_takes_the_averages(with_average):
    params = with_average[0].params
    taken = for_inference(params)
    chex.assert_trees_all_equal(taken["generator"], params["average"]["generator"])
    chex.assert_trees_all_equal(taken["ebm"], params["average"]["ebm"])
    assert set(taken) == {"generator", "ebm", "classifier"}
    without = {name: value for name, value in params.items() if name != "average"}
    assert for_inference(without) is without

    keys = inference.image_keys(jax.random.key(0), IMAGES)
    options = dict(num_steps=2, mask_from="pi")
    found = drc_jax.DRC().segment(WITH, params, keys, IMAGES, **options)
    expected = drc_jax.infer(ONE_BLOCK, taken, keys, IMAGES, num_steps=2)
    chex.assert_trees_all_equal(found, expected)
    raw = drc_jax.infer(ONE_BLOCK, without, keys, IMAGES, num_steps=2)
    assert jnp.abs(found.pi - raw.pi).max() > 1e-3


def test_a_run_keeps_resumes_and_exports_them(tmp_path):
    records = [Record(image, None, str(n)) for n, image in enumerate(IMAGES)]
    write_split(tmp_path, "train", records, image_size=8, has_masks=False, source={})
    split = open_split(tmp_path, "train")
    config = dataclasses.replace(
        WITH,
        data=DataConfig(dataset="noise", path=str(tmp_path)),
        encoder=EncoderConfig(enabled=True, width=16),
        iterations=4,
        image_every=0,
    )
    loop.train(config, tmp_path / "whole", split)
    loop.train(dataclasses.replace(config, iterations=2), tmp_path / "parts", split)
    loop.train(config, tmp_path / "parts", split)
    whole, parts = (checkpoint.restore_params(tmp_path / name)[1] for name in ("whole", "parts"))
    chex.assert_trees_all_equal(whole, parts)

    run = drc_jax.load_run(tmp_path / "whole")
    chex.assert_trees_all_equal(run.params["generator"], whole["average"]["generator"])
    assert set(run.params) == {"generator", "ebm", "classifier", "encoder"}
    models.export(run, tmp_path / "small.json", dict.fromkeys(models.CARD, "noise"), "float32")
    shipped = drc_jax.load_pretrained(str(tmp_path / "small.json"))
    chex.assert_trees_all_equal(shipped.params["generator"], run.params["generator"])
