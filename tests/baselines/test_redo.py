"""ReDO's training iteration, restarts, resuming and refusals."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from drc_jax.baselines import redo_model as model
from drc_jax.baselines import redo_state as states
from drc_jax.baselines.redo import ReDO, ReDOConfig
from drc_jax.baselines.redo_state import ReDOOptimizerConfig, ReDORestartConfig
from drc_jax.baselines.slots import to_floats
from drc_jax.config import DataConfig
from drc_jax.data.packed.format import Record, open_split
from drc_jax.data.packed.writing import write_split
from drc_jax.errors import NonFiniteError, UserError
from drc_jax.evaluation.evaluate import evaluate
from drc_jax.runs import checkpoint, recorder
from drc_jax.runs.trained import load_run
from drc_jax.runtime import devices
from drc_jax.training import loop
from drc_jax.training import step as steps
from tests.helpers.redo import SIZE, TINY, squares

BATCH = 16
QUICK = ReDOOptimizerConfig(learning_rate=5e-3, mask_learning_rate=2e-3)
# Anew after every second iteration of the first four, whatever the masks are.
RESTARTS = ReDORestartConfig(below=0.5, every=2, until=4, most=1)
METHOD = ReDO()

# Compiled whole: op by op takes much longer.
redraw_loss = jax.jit(model.redraw_loss, static_argnums=0)
discriminator_loss = jax.jit(model.discriminator_loss, static_argnums=0)
masks = jax.jit(model.masks, static_argnums=0)
paint = jax.jit(model.paint, static_argnums=0)


def run_config(**fields) -> ReDOConfig:
    defaults = {
        "data": DataConfig(dataset="squares", path="squares", flip=False),
        "model": TINY,
        "optimizer": QUICK,
        "restart": RESTARTS,
        "batch_size": BATCH,
        "iterations": 4,
        "log_every": 1,
        "image_every": 0,
        "checkpoint_every": 3,
    }
    return ReDOConfig(**{**defaults, **fields})


@pytest.fixture
def split(tmp_path):
    images = squares(20)
    records = [Record(x, (x.max(-1) > 30).astype(np.uint8), str(i)) for i, x in enumerate(images)]
    write_split(tmp_path / "data", "train", records, image_size=SIZE, has_masks=True, source={})
    return open_split(tmp_path / "data", "train")


def step_on(num_devices, config, images, state=None):
    mesh = devices.data_mesh(num_devices)
    state = steps.fresh_state(METHOD, config, mesh) if state is None else state
    state, chains, metrics = steps.step(
        METHOD,
        mesh,
        METHOD.step_config(config),
        devices.place(state, devices.on_all(mesh)),
        (),
        devices.place_rows(mesh, images),
        np.uint32(config.seed),
    )
    assert chains == ()
    return devices.to_host(state), jax.device_get(metrics)


@pytest.fixture(scope="module")
def first_step():
    config = run_config()
    fresh = devices.to_host(steps.fresh_state(METHOD, config, devices.data_mesh(1)))
    return fresh, *step_on(1, config, squares(BATCH))


def test_an_iteration_is_a_step_of_the_painters_and_then_one_of_the_discriminator(first_step):
    """D sees what the painters paint after their step, from the same noise."""
    before, after, metrics = first_step
    old, new = ({**s.params, **s.critics} for s in (before, after))
    floats = to_floats(jnp.asarray(squares(BATCH)))
    keys = steps.step_keys(0, jnp.int32(0), BATCH)[::2]
    noise = model.draw_noise(TINY, keys)
    loss, aux = redraw_loss(TINY, old, floats[::2], noise, 5.0)
    np.testing.assert_allclose(metrics["generator_loss"], loss, rtol=5e-4)

    painters = {n: {**new[n], "spectral": aux.advanced[n]["spectral"]} for n in new if "_" in n}
    pi = masks(TINY, new["mask"], floats[::2])
    painted, _ = paint(TINY, painters, noise, pi)
    redrawn = model.redraw(floats[::2], pi, painted)
    discriminator = aux.advanced["discriminator"]
    hinge, seen = discriminator_loss(TINY, discriminator, floats[1::2], redrawn)
    np.testing.assert_allclose(metrics["discriminator_loss"], hinge, rtol=5e-4)
    np.testing.assert_allclose(metrics["fake_logit"], seen.fake_logit, rtol=5e-4)
    np.testing.assert_allclose(metrics["real_logit"], seen.real_logit, rtol=5e-4)
    _, early = discriminator_loss(TINY, discriminator, floats[1::2], aux.redrawn)
    assert abs(early.fake_logit - seen.fake_logit) > 5e-3 * abs(early.fake_logit)

    # Adam's first step is the rate, against the sign of the gradient.
    for name, rate in (("mask", 2e-3), ("generator_1", 5e-3), ("discriminator", 5e-3)):
        a, b = old[name]["params"], new[name]["params"]
        moved = jax.tree.map(lambda x, y: np.abs(x - y).max(), a, b)
        assert max(jax.tree.leaves(moved)) == pytest.approx(rate, rel=0.01)
    assert (int(after.step), int(after.age), int(after.restarts)) == (1, 1, 0)


def test_eight_devices_take_the_step_of_one(first_step):
    _, one, metrics = first_step
    eight, others = step_on(8, run_config(num_devices=8), squares(BATCH))
    assert metrics.keys() == others.keys()
    for name in metrics:
        np.testing.assert_allclose(metrics[name], others[name], rtol=2e-3, atol=1e-5)
    # Of the moments, for Adam's first step has the gradient's sign alone.
    for name in one.opt_state:
        a, b = (
            np.concatenate([x.ravel() for x in jax.tree.leaves(optax.tree.get(s, "nu"))])
            for s in (one.opt_state[name], eight.opt_state[name])
        )
        assert np.linalg.norm(a) > 0
        np.testing.assert_array_less(np.linalg.norm(a - b), 1e-2 * np.linalg.norm(a))


def test_the_restart_rule_at_stated_steps():
    """Of six iterations between checks the last three are looked at."""
    config = ReDORestartConfig(below=0.1, every=6, until=12, most=2)
    empty = states.ReDOState(
        step=jnp.int32(0), params={}, critics={}, opt_state={}, seed=jnp.uint32(0),
        age=jnp.int32(0), restarts=jnp.int32(0), area=jnp.zeros(()),
    )  # fmt: skip

    def restarts_at(areas, config=config, state=empty):
        found = []
        for i, area in enumerate(areas):
            state, is_due = states.with_area(config, state, jnp.float32(area))
            if is_due:
                found.append(i + 1)
        assert int(state.age) == len(areas)
        return found

    low, high = [0.05] * 6, [0.95] * 6
    assert restarts_at([*low, *high, *low]) == [6, 12]
    assert restarts_at([0.01, 0.01, 0.01, 0.3, 0.3, 0.3]) == []
    assert restarts_at([0.5, 0.5, 0.5, 0.05, 0.05, 0.19]) == [6]
    assert restarts_at([0.5, 0.5, 0.5, 0.05, 0.05, 0.21]) == []
    assert restarts_at(high, state=dataclasses.replace(empty, restarts=jnp.int32(1))) == [6]
    assert restarts_at(high, state=dataclasses.replace(empty, restarts=jnp.int32(2))) == []
    assert restarts_at([0.0] * 12, dataclasses.replace(config, below=0.0)) == []
    assert restarts_at([0.0] * 3, dataclasses.replace(config, every=1)) == [1, 2, 3]


def test_a_restart_begins_everything_anew(first_step):
    first, state, _ = first_step
    config = run_config()
    restarted, metrics = step_on(1, config, squares(BATCH), state)
    assert (int(restarted.step), int(restarted.age), int(restarted.restarts)) == (2, 0, 1)
    assert metrics["restarts"] == 1 and np.isfinite(metrics["generator_loss"])
    begin = jax.jit(states.start, static_argnums=0)
    fresh = begin(METHOD.step_config(config), jnp.int32(2), jnp.uint32(0), jnp.int32(1))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), restarted, fresh)
    for name, parts in {**first.params, **first.critics}.items():
        kernels = jax.tree.leaves(parts["params"])
        others = jax.tree.leaves({**fresh.params, **fresh.critics}[name]["params"])
        assert max(np.abs(a - b).max() for a, b in zip(kernels, others, strict=True)) > 0.05
    # The last that is allowed: the next check finds the same and goes on.
    for _ in range(2):
        restarted, _ = step_on(1, config, squares(BATCH), restarted)
    assert (int(restarted.age), int(restarted.restarts)) == (2, 1)


def test_the_noise_is_found_again(first_step):
    """With as many restarts behind it as there may be."""
    state, _, _ = first_step
    state, errors = dataclasses.replace(state, restarts=np.int32(1)), []
    for _ in range(8):
        state, metrics = step_on(1, run_config(), squares(BATCH), state)
        errors.append(metrics["noise_error"])
    assert errors[-1] < 0.7 * errors[0]
    assert (int(state.age), int(state.restarts)) == (8, 1)


def test_a_state_that_is_not_finite_ends_the_run(first_step):
    _, state, _ = first_step
    damaged = jax.tree.map(np.copy, state)
    damaged.critics["estimator"]["params"]["head"]["dense"]["bias"][0] = np.inf
    _, metrics = step_on(1, run_config(), squares(BATCH), damaged)
    with pytest.raises(NonFiniteError, match=r"step 2: .*noise_error = inf"):
        recorder.finite_values(2, metrics)


def test_a_stopped_run_goes_on_bit_for_bit(tmp_path, split):
    """Past a restart, which only the state knows of."""
    config = run_config()
    loop.train(config, tmp_path / "whole", split)
    programs = steps.step._cache_size()
    loop.train(dataclasses.replace(config, iterations=3), tmp_path / "parts", split)
    loop.train(config, tmp_path / "parts", split)
    assert steps.step._cache_size() == programs  # nothing is traced again
    like = jax.eval_shape(lambda: METHOD.fresh_state(config))
    (step, whole), (other, parts) = (
        checkpoint.restore_state(tmp_path / name, like) for name in ("whole", "parts")
    )
    assert step == other == 4 and int(whole.restarts) == 1 and int(whole.age) == 2
    jax.tree.map(np.testing.assert_array_equal, whole, parts)
    assert (tmp_path / "whole" / "images" / "step_0000004.png").is_file()

    run = load_run(tmp_path / "whole")
    assert run.config == config and run.method == METHOD
    keys, observed = jax.random.split(jax.random.key(0), 8), np.asarray(split.images[:8])
    together = run.segment(keys, observed)
    alone = run.segment(keys[1:2], observed[1:2])
    np.testing.assert_allclose(together.pi[1:2], alone.pi, atol=1e-5)
    np.testing.assert_allclose(together.images[1:2], alone.images, atol=1e-5)
    np.testing.assert_array_equal(together.foreground_weight, together.pi[:, 0])
    y = np.einsum("bkhw,bkhwc->bhwc", together.pi, together.images)
    np.testing.assert_allclose(together.reconstruction, y, atol=1e-5)

    scores = evaluate(run.infer_batch(0), split).report.scores
    assert scores["oracle"].iou >= scores["dataset_flip"].iou >= scores["fixed"].iou


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image_size": 48}, "image_size must be a power of two, from 16 on, got 48"),
        ({"image_size": 8}, "image_size must be at least 16, got 8"),
        ({"mask_width": 6}, "mask_width must be a multiple of 4, got 6"),
        ({"start": "papers"}, "did you mean 'paper'"),
    ],
)
def test_networks_that_do_not_fit_are_refused(fields, message):
    with pytest.raises(UserError, match=message):
        dataclasses.replace(TINY, **fields)


def test_batches_that_cannot_be_halved_are_refused(tmp_path, split):
    with pytest.raises(UserError, match=r"batch_size must be a multiple of 2, .* got 7"):
        run_config(batch_size=7)
    with pytest.raises(UserError, match=r"batch_size must be a multiple of 8, .* got 12"):
        run_config(batch_size=12, num_devices=4)
    with pytest.raises(UserError, match="batch_size 24"):
        loop.train(run_config(batch_size=24), tmp_path / "run", split)
    with pytest.raises(UserError, match=r"below must be at most 0\.5"):
        ReDORestartConfig(below=0.6)
