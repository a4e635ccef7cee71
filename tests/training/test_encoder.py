"""The encoder: it learns where chains are, changes nothing of the model, and starts new chains."""

import dataclasses
import functools
import os
import signal

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import drc_jax
from drc_jax import inference
from drc_jax.config import DataConfig, EncoderConfig
from drc_jax.data.packed.format import Record, open_split
from drc_jax.data.packed.writing import write_split
from drc_jax.errors import UserError
from drc_jax.model import encoder as encoders
from drc_jax.runs import checkpoint
from drc_jax.training import loop
from drc_jax.zoo import models
from tests.helpers.small import ONE_BLOCK

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), np.uint8)
PLAIN = drc_jax.TrainConfig(
    model=ONE_BLOCK,
    sampler=drc_jax.SamplerConfig(prior_steps=2, posterior_steps=3),
    batch_size=4,
    seed=3,
)
WITH = dataclasses.replace(PLAIN, encoder=EncoderConfig(enabled=True, width=16))


def batch(step):
    places = (np.arange(4) + 2 * step) % 6
    return {"image": IMAGES[places], "index": places, "flip": np.zeros(4, bool)}


def trained(config, steps=3):
    state, seen = drc_jax.init_state(config, 6), []
    for step in range(steps):
        state, metrics = drc_jax.train_step(config, state, batch(step))
        seen.append(metrics)
    return state, seen


@pytest.fixture(scope="module")
def with_encoder():
    return trained(WITH)


def test_the_model_learns_the_same_bit_for_bit(with_encoder):
    state, metrics = with_encoder
    plain, plain_metrics = trained(PLAIN)
    params = dict(state.params)
    fresh = drc_jax.init_state(WITH, 6).params["encoder"]
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), params.pop("encoder"), fresh)
    assert min(jax.tree.leaves(moved)) > 1e-4  # the encoder has learned
    kept = dataclasses.replace(state, params=params, encoder_opt_state=None)
    chex.assert_trees_all_equal(kept, plain)
    for ours, theirs in zip(metrics, plain_metrics, strict=True):
        assert set(ours) - set(theirs) == {"encoder_loss", "encoder_error"}
        chex.assert_trees_all_equal({name: ours[name] for name in theirs}, theirs)


def test_the_loss_is_that_of_the_chains_after_the_step(with_encoder):
    state, _ = with_encoder
    now = batch(3)
    before = state.params["encoder"]
    before = jax.tree.map(jnp.copy, before)
    state, metrics = drc_jax.train_step(WITH, jax.tree.map(jnp.copy, state), now)
    z = state.posterior_chains[now["index"], 0]
    x = jnp.asarray(now["image"], jnp.float32) / 127.5 - 1.0
    q = encoders.guess(ONE_BLOCK, before, x)
    expected = -jax.scipy.stats.norm.logpdf(z, q.mean, jnp.exp(q.log_scale)).mean()
    constant = 0.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(metrics["encoder_loss"], expected - constant, rtol=1e-4)
    np.testing.assert_allclose(
        metrics["encoder_error"], jnp.mean(jnp.square(z - q.mean)), rtol=1e-4
    )


def test_it_learns_mean_and_spread():
    """Latents that the image says, with known noise: the loss comes near their entropy."""
    x = jax.random.uniform(jax.random.key(0), (64, 8, 8, 3), minval=-1.0)
    centre = 4.0 * jnp.mean(x, axis=(1, 2))[:, jnp.arange(ONE_BLOCK.latent_dim) % 3]
    params = encoders.init_encoder(ONE_BLOCK, 32, jax.random.key(1))
    optimizer = optax.adam(3e-3)

    @jax.jit
    def step(params, state, key):
        z = centre + 0.5 * jax.random.normal(key, centre.shape)
        loss = functools.partial(encoders.encoder_loss, ONE_BLOCK, x=x, z=z)
        gradient = jax.grad(lambda p: loss(p)[0])(params)
        with jax.numpy_dtype_promotion("standard"):
            updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, updates), state

    state = optimizer.init(params)
    for key in jax.random.split(jax.random.key(2), 400):
        params, state = step(params, state, key)
    q = encoders.guess(ONE_BLOCK, params, x)
    assert jnp.mean(jnp.square(q.mean - centre)) < 0.1 * jnp.var(centre)
    np.testing.assert_allclose(jnp.exp(q.log_scale).mean(), 0.5, atol=0.15)


def test_new_chains_start_at_its_mean_and_restarts_at_draws(with_encoder, monkeypatch):
    params = with_encoder[0].params
    x = jnp.asarray(IMAGES, jnp.float32) / 127.5 - 1.0
    q = encoders.guess(ONE_BLOCK, params["encoder"], x)
    keys = inference.image_keys(jax.random.key(0), IMAGES)
    # So short a step that chains stay where they start.
    options = dict(num_steps=1, step_size=1e-6)
    infer = functools.partial(drc_jax.infer, ONE_BLOCK, params, keys, IMAGES, **options)
    found = infer(start="encoder")
    np.testing.assert_allclose(found.pi, drc_jax.render(ONE_BLOCK, params, q.mean).pi, atol=1e-3)
    assert jnp.abs(found.pi - infer(start="prior").pi).max() > 0.01

    restart_keys = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, 1)
    start_keys = jax.vmap(jax.random.split)(restart_keys)[:, 0]
    noise = jax.vmap(lambda key: jax.random.normal(key, (ONE_BLOCK.latent_dim,)))(start_keys)
    draw = q.mean + jnp.exp(q.log_scale) * noise
    monkeypatch.setattr(inference, "_lower", lambda energy, z, other, new: (other, new))
    last = infer(start="encoder", num_restarts=2)
    np.testing.assert_allclose(last.pi, drc_jax.render(ONE_BLOCK, params, draw).pi, atol=1e-3)


def test_a_start_that_there_is_not_is_refused(with_encoder):
    params = dict(with_encoder[0].params)
    infer = functools.partial(drc_jax.infer, ONE_BLOCK, images=IMAGES, num_steps=1)
    with pytest.raises(UserError, match="start must be one of prior, encoder; got 'middle'"):
        infer(params, jax.random.key(0), start="middle")
    del params["encoder"]
    with pytest.raises(UserError, match=r"needs a model trained with encoder\.enabled=True"):
        infer(params, jax.random.key(0), start="encoder")


def test_every_iteration_makes_as_many_updates_as_the_config_says():
    def count(updates):
        encoder = EncoderConfig(enabled=True, width=16, updates=updates)
        state, _ = trained(dataclasses.replace(PLAIN, encoder=encoder), steps=2)
        return int(optax.tree.get(state.encoder_opt_state, "count"))

    assert (count(1), count(3)) == (2, 6)


def test_two_devices_give_one_devices_encoder():
    def once(config):
        state = drc_jax.init_state(config, 6)
        both = {"image": IMAGES[[0, 1, 3, 4]], "index": np.array([0, 1, 3, 4])}
        state, _ = drc_jax.train_step(config, state, both | {"flip": np.zeros(4, bool)})
        return jax.device_get(state.params["encoder"])

    two = once(dataclasses.replace(WITH, num_devices=2))
    chex.assert_trees_all_close(two, once(WITH), atol=1e-5)


def test_a_run_saves_resumes_and_loads_its_encoder(tmp_path, monkeypatch):
    masks = (IMAGES.mean(-1) > 128).astype(np.uint8)
    records = [Record(i, m, str(n)) for n, (i, m) in enumerate(zip(IMAGES, masks, strict=True))]
    write_split(tmp_path, "train", records, image_size=8, has_masks=True, source={})
    split = open_split(tmp_path, "train")
    config = dataclasses.replace(
        WITH, data=DataConfig(dataset="noise", path=str(tmp_path)), iterations=4, image_every=0
    )
    loop.train(config, tmp_path / "whole", split)
    step, calls = loop.steps.step, []

    def signalling(*args):
        calls.append(0)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(*args)

    monkeypatch.setattr(loop.steps, "step", signalling)
    assert loop.train(config, tmp_path / "parts", split) == signal.SIGTERM
    assert checkpoint.saved_steps(tmp_path / "parts")[-1] < 4
    monkeypatch.setattr(loop.steps, "step", step)
    loop.train(config, tmp_path / "parts", split)

    like = jax.eval_shape(lambda: drc_jax.DRC().fresh_state(config))
    chains = jnp.zeros((6, 2, ONE_BLOCK.latent_dim))
    like = dataclasses.replace(like, posterior_chains=chains, prior_chains=chains)
    states = [checkpoint.restore_state(tmp_path / name, like)[1] for name in ("whole", "parts")]
    assert jax.tree.leaves(states[0].encoder_opt_state)
    chex.assert_trees_all_equal(*states)

    run = drc_jax.load_run(tmp_path / "whole")
    keys = inference.image_keys(jax.random.key(0), IMAGES)
    found = run.segment(keys, IMAGES, num_steps=2, start="encoder")
    assert np.abs(found.pi - run.segment(keys, IMAGES, num_steps=2).pi).max() > 1e-3
    card = dict.fromkeys(models.CARD, "noise")
    models.export(run, tmp_path / "small.json", card, "float32")
    shipped = drc_jax.load_pretrained(str(tmp_path / "small.json"))
    again = shipped.segment(keys, IMAGES, num_steps=2, start="encoder")
    np.testing.assert_array_equal(again.pi, found.pi)

    with pytest.raises(UserError, match=r"undo: encoder\.enabled: True -> False"):
        loop.train(dataclasses.replace(config, encoder=EncoderConfig(width=16)),
                   tmp_path / "whole", split)  # fmt: skip
