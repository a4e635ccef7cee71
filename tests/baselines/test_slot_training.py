"""Training of the slot methods: the optimizer, sharing by devices, resuming, refusals."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from drc_jax.baselines.slot_training import SlotOptimizerConfig, learning_rate, make_optimizer
from drc_jax.config import DataConfig, TrainConfig
from drc_jax.data.packed.format import Record, open_split
from drc_jax.data.packed.writing import write_split
from drc_jax.errors import NonFiniteError, UserError
from drc_jax.evaluation.regions import infer_on_host
from drc_jax.runs import checkpoint
from drc_jax.runs.method import find
from drc_jax.runs.trained import load_run
from drc_jax.runtime import devices
from drc_jax.training import loop
from drc_jax.training import step as steps
from tests.helpers.slot_methods import BATCH, METHODS, SIZE, run_config, squares
from tests.helpers.small import ONE_BLOCK

both_methods = pytest.mark.parametrize("name", METHODS)


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    records = [Record(image, None, str(i)) for i, image in enumerate(squares(12))]
    write_split(folder, "train", records, image_size=SIZE, has_masks=False, source={})
    return open_split(folder, "train")


@pytest.mark.parametrize(
    ("step", "rate"),
    [
        (0, 0.0),
        (5_000, 2e-4 * 2**-0.05),
        (10_000, 4e-4 * 2**-0.1),
        (100_000, 2e-4),
        (500_000, 1.25e-5),
    ],
)
def test_learning_rate(step, rate):
    assert float(learning_rate(SlotOptimizerConfig(), step)) == pytest.approx(rate, rel=1e-5)


def test_the_first_step_of_a_warm_up_moves_nothing_and_the_next_moves_by_the_rate():
    config = SlotOptimizerConfig(learning_rate=0.1, warmup_steps=4, decay_steps=10**9)
    optimizer, at = make_optimizer(config), jnp.ones(3)
    state = optimizer.init(at)
    for expected in (0.0, -0.025, -0.05):
        with jax.numpy_dtype_promotion("standard"):
            change, state = optimizer.update(jnp.full(3, 7.0), state, at)
        np.testing.assert_allclose(change, expected, rtol=1e-4)


def test_clipping_and_beta1_reach_adam():
    """Adam's first moment after a gradient of norm 10: (1 - beta1) times the clipped one."""
    config = SlotOptimizerConfig(warmup_steps=0, clip_norm=5.0, beta1=0.75)
    optimizer = make_optimizer(config)
    with jax.numpy_dtype_promotion("standard"):
        _, state = optimizer.update(jnp.array([6.0, 8.0]), optimizer.init(jnp.ones(2)))
    np.testing.assert_allclose(optax.tree.get(state, "mu"), [0.75, 1.0], rtol=1e-5)


def step_on(name, num_devices, images):
    method, _ = METHODS[name]
    config, mesh = run_config(name), devices.data_mesh(num_devices)
    state = steps.fresh_state(method, config, mesh)
    placed = devices.place_rows(mesh, images)
    state, chains, metrics = steps.step(
        method, mesh, method.step_config(config), state, (), placed, np.uint32(config.seed)
    )
    assert chains == ()
    return devices.to_host(state), jax.device_get(metrics)


@both_methods
def test_eight_devices_take_the_step_of_one(name):
    (one, metrics), (eight, others) = (step_on(name, n, squares(BATCH)) for n in (1, 8))
    assert metrics.keys() == others.keys() and metrics["loss"] > 0
    for key in metrics:
        np.testing.assert_allclose(metrics[key], others[key], rtol=1e-4, err_msg=key)
    assert 1 / 3 <= metrics["largest_area"] < 1
    assert 0 < metrics.get("attention_entropy", 1) <= 1
    for moment in ("mu", "nu"):
        a, b = (
            np.concatenate(
                [x.ravel() for x in jax.tree.leaves(optax.tree.get(s.opt_state, moment))]
            )
            for s in (one, eight)
        )
        assert np.linalg.norm(a) > 0
        np.testing.assert_array_less(np.linalg.norm(a - b), 1e-3 * np.linalg.norm(a))


@both_methods
def test_the_error_falls(name):
    method, model = METHODS[name]
    if name == "slot_attention":
        model = dataclasses.replace(model, initial_slots="learned", gradient="bi_level")
    config, mesh, images = run_config(name, model=model), devices.data_mesh(1), squares(BATCH)
    state, seen = steps.fresh_state(method, config, mesh), []
    for _ in range(30):
        state, _, metrics = steps.step(
            method, mesh, method.step_config(config), state, (), images, np.uint32(0)
        )
        seen.append(float(metrics["loss"]))
    assert seen[-1] < 0.5 * seen[0]
    assert int(state.step) == 30
    assert metrics.get("nll_gain", 1.0) > 0  # IODINE's refinements help


@both_methods
def test_a_stopped_run_goes_on_bit_for_bit(name, tmp_path, split):
    method, config = METHODS[name][0], run_config(name, image_every=4)
    loop.train(config, tmp_path / "whole", split)
    programs = steps.step._cache_size()
    loop.train(dataclasses.replace(config, iterations=2), tmp_path / "parts", split)
    loop.train(config, tmp_path / "parts", split)
    assert steps.step._cache_size() == programs  # nothing is traced again
    like = jax.eval_shape(lambda: method.fresh_state(config))
    (step, whole), (other, parts) = (
        checkpoint.restore_state(tmp_path / part, like) for part in ("whole", "parts")
    )
    assert step == other == 4
    jax.tree.map(np.testing.assert_array_equal, whole, parts)
    assert (tmp_path / "whole" / "images" / "step_0000004.png").is_file()

    run = load_run(tmp_path / "whole")
    assert run.config == config and run.method == method == find(name)
    keys, observed = jax.random.split(jax.random.key(0), 3), np.asarray(split.images[:3])
    together = run.segment(keys, observed)
    alone = run.segment(keys[1:2], observed[1:2])
    np.testing.assert_allclose(together.pi[1:2], alone.pi, atol=1e-5)
    np.testing.assert_allclose(together.images[1:2], alone.images, atol=1e-4)
    on_host = infer_on_host(run.infer_batch(0), observed)
    assert on_host.foreground_weight is None  # which slots are the foreground is not known
    assert run.sampler_steps(10) == 0
    with pytest.raises(UserError, match=f"'encoder' is for runs of drc, and this one is of {name}"):
        run.infer_batch(0, start="encoder")


@both_methods
def test_numbers_that_overflow_end_a_run(name, tmp_path, split):
    method = METHODS[name][0]

    class Huge(type(method)):
        def init_params(self, config, key):
            return jax.tree.map(lambda x: 1e20 * x, super().init_params(config, key))

    with pytest.raises(NonFiniteError, match=r"step 1: .*; nothing was saved; try a smaller opt"):
        loop.train(run_config(name), tmp_path, split, Huge())


def test_a_folder_of_another_method_is_refused(tmp_path, split):
    drc = TrainConfig(model=ONE_BLOCK, batch_size=BATCH, data=DataConfig("squares", "squares"))
    slots = run_config("slot_attention", iterations=1)
    loop.train(slots, tmp_path / "slots", split)
    with pytest.raises(UserError, match=r"is a run of slot_attention, and this config is for drc"):
        loop.train(drc, tmp_path / "slots", split)
    with pytest.raises(
        UserError, match=r"is a run of slot_attention, and this config is for iodine"
    ):
        loop.train(run_config("iodine"), tmp_path / "slots", split)
    (tmp_path / "drc").mkdir()
    text = (tmp_path / "slots" / "config.json").read_text()
    (tmp_path / "drc" / "config.json").write_text(text.replace('"slot_attention"', '"drc"', 1))
    with pytest.raises(UserError, match=r"is a run of drc, and this config is for slot_attention"):
        loop.train(slots, tmp_path / "drc", split)
