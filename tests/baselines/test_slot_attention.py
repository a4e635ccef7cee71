"""Slot Attention: the paper's sizes and equations, and its options."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drc_jax.baselines import slot_attention_model as model
from drc_jax.baselines import slots
from drc_jax.baselines.slot_attention_model import SlotModelConfig
from drc_jax.errors import UserError
from tests.helpers.slot_methods import SIZE, squares
from tests.helpers.slot_methods import SLOTS as TINY

LEARNED = dataclasses.replace(TINY, initial_slots="learned")


@pytest.fixture(scope="module")
def params():
    return model.init_params(TINY, jax.random.key(1))


@pytest.fixture(scope="module")
def images():
    return slots.to_floats(jnp.asarray(squares(2)))


def draws(config, count=2, seed=2):
    return model.test_draws(config, jax.random.split(jax.random.key(seed), count))


def num_params(config) -> int:
    shapes = jax.eval_shape(lambda: model.init_params(config, jax.random.key(0)))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


def test_the_papers_sizes():
    shapes = jax.eval_shape(lambda: model.init_params(SlotModelConfig(), jax.random.key(0)))
    count = {k: sum(x.size for x in jax.tree.leaves(v)) for k, v in shapes.items()}
    convolutions = {k: v for k, v in shapes["encoder"].items() if k.startswith("Conv")}
    assert sum(x.size for x in jax.tree.leaves(convolutions)) == 312_256
    assert count["decoder"] - 5 * 64 == 514_628  # without the position embedding
    assert sum(count.values()) == 890_180
    small_images = SlotModelConfig(
        image_size=64,
        num_slots=6,
        encoder_channels=(32,) * 4,
        encoder_mlp=(32, 32),
        decoder_size=64,
        decoder_channels=(32,) * 3,
        decoder_strides=(1,) * 3,
    )
    assert num_params(small_images) == 235_684


def test_initial_parameters_lie_within_their_limits():
    start = model.init_params(dataclasses.replace(TINY, slot_size=64), jax.random.key(0))
    for name in ("mean", "log_scale"):
        values = np.abs(start["slot_attention"][name])
        limit = np.sqrt(6 / 65)
        assert values.shape == (1, 1, 64) and 0.8 * limit < values.max() <= limit


def test_attention_sums_to_one_over_slots_and_weights_over_features():
    rng = np.random.default_rng(0)
    keys, queries = jnp.asarray(rng.normal(size=(2, 9, 4)), "float32"), jnp.ones((2, 3, 4))
    queries = queries * jnp.arange(3.0)[None, :, None]
    attention = model.attention_weights(keys, queries)
    assert attention.shape == (2, 9, 3) and np.ptp(attention) > 0.2
    np.testing.assert_allclose(attention.sum(-1), 1.0, rtol=1e-5)
    ones = jnp.ones((2, 9, 1))
    np.testing.assert_allclose(model.weighted_mean(attention, ones, 1e-8, "attention"), 1.0, 1e-5)
    total = attention.sum(1)[..., None]
    found = model.weighted_mean(attention, ones, 1.0, "sum")
    np.testing.assert_allclose(found, total / (total + 1), rtol=1e-5)


def test_masks_sum_to_one_and_mix_the_slots(params, images):
    regions = model.apply(TINY, params, images, draws(TINY)).regions
    assert regions.images.shape == (2, 3, SIZE, SIZE, 3)
    np.testing.assert_allclose(regions.pi.sum(1), 1.0, rtol=1e-5)
    mixed = np.einsum("bkhw,bkhwc->bhwc", regions.pi, regions.images)
    np.testing.assert_allclose(regions.reconstruction, mixed, rtol=1e-4, atol=1e-6)
    assert regions.foreground_weight is None


def test_permuting_the_initial_slots_permutes_the_output(params, images):
    given, order = draws(TINY), np.array([2, 0, 1])
    shuffled = given._replace(noise=given.noise[:, order])
    (loss, a), (other, b) = (model.loss(TINY, params, images, d) for d in (given, shuffled))
    assert np.abs(a.slots - b.slots).max() > 0.01
    np.testing.assert_allclose(a.slots[:, order], b.slots, atol=1e-5)
    np.testing.assert_allclose(a.attention[..., order], b.attention, atol=1e-5)
    np.testing.assert_allclose(a.regions.pi[:, order], b.regions.pi, atol=1e-5)
    np.testing.assert_allclose(a.regions.images[:, order], b.regions.images, atol=1e-5)
    assert float(loss) == pytest.approx(float(other), rel=1e-5)


def test_slot_attention_is_the_papers_algorithm():
    """The whole module again, in NumPy and float64."""
    inputs = np.random.default_rng(1).normal(size=(2, 5, 8))
    module, given = model.SlotAttention(TINY), draws(TINY)
    start = module.init(jax.random.key(3), jnp.asarray(inputs, "float32"), given)["params"]
    found, attention = module.apply({"params": start}, jnp.asarray(inputs, "float32"), given)
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), start)

    def norm(x, name):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-3)
        return x * p[name]["scale"] + p[name]["bias"]

    def dense(x, layer):
        return x @ layer["kernel"] + layer.get("bias", 0.0)

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    inputs = norm(inputs, "norm_inputs")
    keys, values = dense(inputs, p["to_keys"]), dense(inputs, p["to_values"])
    state = p["mean"] + np.exp(p["log_scale"]) * np.asarray(given.noise, np.float64)
    gru = p["gru"]
    for _ in range(3):
        queries = dense(norm(state, "norm_slots"), p["to_queries"]) / np.sqrt(10)
        weights = np.exp(keys @ queries.transpose(0, 2, 1))
        weights /= weights.sum(-1, keepdims=True)
        shares = weights / weights.sum(1, keepdims=True)
        update = shares.transpose(0, 2, 1) @ values
        reset = sigmoid(dense(update, gru["ir"]) + dense(state, gru["hr"]))
        keep = sigmoid(dense(update, gru["iz"]) + dense(state, gru["hz"]))
        new = np.tanh(dense(update, gru["in"]) + reset * dense(state, gru["hn"]))
        state = keep * state + (1 - keep) * new
        hidden = np.maximum(dense(norm(state, "norm_mlp"), p["mlp_hidden"]), 0)
        state = state + dense(hidden, p["mlp_out"])
    np.testing.assert_allclose(found, state, atol=1e-4)
    np.testing.assert_allclose(attention, weights, atol=1e-4)


@pytest.mark.parametrize("initial", ["gaussian", "learned"])
def test_gradients_differ_where_the_option_says_and_values_never(initial, images):
    """Values are equal; bi-level alone reaches queries past the last round, implicit nothing."""
    values, reached = {}, {}
    for gradient in ("unrolled", "implicit", "bi_level"):
        config = dataclasses.replace(TINY, initial_slots=initial, gradient=gradient)
        start = model.init_params(config, jax.random.key(1))
        function = jax.value_and_grad(lambda p, c=config: model.loss(c, p, images, draws(c))[0])
        value, found = function(start)
        values[gradient] = float(value)
        assert np.abs(found["slot_attention"]["to_values"]["kernel"]).max() > 0
        name = "mean" if initial == "gaussian" else "queries"
        reached[gradient] = np.asarray(found["slot_attention"][name])
    assert values["unrolled"] == pytest.approx(values["implicit"], rel=1e-6)
    assert values["unrolled"] == pytest.approx(values["bi_level"], rel=1e-6)
    assert not reached["implicit"].any()
    assert reached["unrolled"].any() and reached["bi_level"].any()
    assert np.abs(reached["unrolled"] - reached["bi_level"]).max() > 1e-7


def test_noise_of_learned_queries_falls_to_nothing_and_is_absent_in_tests():
    config = dataclasses.replace(LEARNED, noise_steps=100)
    scale = [float(model.noise_scale(config, jnp.int32(t))) for t in (0, 50, 100, 1000)]
    np.testing.assert_allclose(scale, [1.0, 0.5, 0.0, 0.0], atol=1e-6)
    assert not draws(config).noise.any() and draws(TINY).noise.any()
    keys = jax.random.split(jax.random.key(0), 2)
    early, late = (model.training_draws(config, keys, jnp.int32(t)) for t in (0, 100))
    assert early.noise.std() > 0.5 and np.abs(late.noise).max() < 1e-6


def test_drop_rate_skips_the_mlp_of_some_images_and_keeps_the_mean():
    config = dataclasses.replace(TINY, drop_rate=0.2)
    keys = jax.random.split(jax.random.key(0), 2000)
    weight = model.training_draws(config, keys, jnp.int32(0)).mlp_weight
    assert weight.shape == (2000, 3)
    np.testing.assert_allclose(np.unique(weight), [0.0, 1.25])
    assert float(weight.mean()) == pytest.approx(1.0, abs=0.03)
    assert (draws(config).mlp_weight == 1).all()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_slots": 1}, "num_slots must be at least 2, got 1"),
        ({"decoder_size": 5}, "must be image_size 8, got 10"),
        (
            {"pixelwise_decoder": True},
            r"must all be 1 where pixelwise_decoder is set, got \(2, 1\)",
        ),
        ({"encoder_strides": (3, 1)}, "must divide image_size 8"),
        ({"encoder_strides": (2,)}, "encoder_channels and encoder_strides"),
        ({"noise_steps": 3}, "noise_steps is for initial_slots 'learned'"),
        ({"gradient": "bilevel"}, "did you mean 'bi_level'"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(fields, message):
    with pytest.raises(UserError, match=message):
        dataclasses.replace(TINY, **fields)
