"""The loop around the train step: order, resuming, stopping, and numbers that go wrong."""

import functools
import json
import os
import pathlib
import signal
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drc_jax.config import DataConfig, ModelConfig, TrainConfig
from drc_jax.data.packed.format import PackedSplit, Record, open_split
from drc_jax.data.packed.writing import write_split
from drc_jax.errors import NonFiniteError, UserError
from drc_jax.runs import checkpoint
from drc_jax.runs.recorder import truncate_log
from drc_jax.training import loop, placement
from drc_jax.training import signals as interrupt
from drc_jax.training.signals import StopSignal
from drc_jax.training.state import TrainState

SIZE, IMAGES = 8, 12


def make_config(**fields) -> TrainConfig:
    model = ModelConfig(
        zf_dim=2,
        zb_dim=2,
        zs_dim=2,
        generator_channels=(2, 2),
        classifier_channels=(2,),
        ebm_width=2,
        ebm_reassign_width=2,
        num_fg_categories=2,
        num_bg_categories=2,
    )
    defaults = dict(
        batch_size=4, iterations=8, log_every=1, image_every=4, checkpoint_every=2, seed=3
    )
    return TrainConfig(
        model=model, data=DataConfig(dataset="noise", path="noise"), **{**defaults, **fields}
    )


@pytest.fixture
def split(tmp_path) -> PackedSplit:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (IMAGES, SIZE, SIZE, 3), np.uint8)
    records = [Record(image, None, str(i)) for i, image in enumerate(images)]
    write_split(tmp_path / "data", "train", records, image_size=SIZE, has_masks=False, source={})
    return open_split(tmp_path / "data", "train")


def fake_init(config: TrainConfig, num_images: int) -> TrainState:
    chains = jnp.zeros((num_images, 2, config.model.latent_dim))
    params = {"w": jnp.ones(3), "ebm": {"w": jnp.ones(2)}}
    return TrainState(
        step=jnp.int32(0),
        params=params,
        generator_opt_state=(jnp.zeros(3), ()),
        ebm_opt_state={"count": jnp.int32(0)},
        posterior_chains=chains,
        prior_chains=chains + 1,
    )


@functools.partial(jax.jit, donate_argnums=0)
def fake_update(state: TrainState, batch: dict) -> tuple[TrainState, dict]:
    """Depends on everything that a resumed run has to bring back: state, images, order, flips."""
    mean = jnp.mean(batch["image"].astype(jnp.float32), axis=(1, 2, 3)) / 255.0
    rows, sides = batch["index"], batch["flip"].astype(jnp.int32)
    key = jax.random.fold_in(jax.random.key(0), state.step)
    noise = jax.random.normal(key, (len(rows), state.posterior_chains.shape[-1]))
    z = state.posterior_chains[rows, sides] * 0.5 + mean[:, None] + noise
    new = TrainState(
        step=state.step + 1,
        params=jax.tree.map(lambda w: w * 0.9 + jnp.mean(z), state.params),
        generator_opt_state=(state.generator_opt_state[0] + jnp.mean(z), ()),
        ebm_opt_state={"count": state.ebm_opt_state["count"] + 1},
        posterior_chains=state.posterior_chains.at[rows, sides].set(z),
        prior_chains=state.prior_chains * 1.01,
    )
    metrics = {"generator_loss": jnp.mean(z), "ebm_loss": z[0, 0], "latents_finite": jnp.ones(())}
    return new, metrics


@pytest.fixture
def fakes(monkeypatch) -> dict:
    """Replaces the model by a cheap step; entries step -> function spoil that step's result."""
    spoil: dict = {}

    def fake_step(config, state, batch):
        step = int(state.step) + 1
        result = fake_update(state, batch)
        return spoil.get(step, lambda new, metrics: (new, metrics))(*result)

    monkeypatch.setattr(placement, "init_state", fake_init)
    monkeypatch.setattr(placement, "train_step", fake_step)
    monkeypatch.setattr(loop, "picture", lambda *_: np.zeros((4, 4, 3), np.uint8))
    return spoil


def final_state(workdir: pathlib.Path) -> tuple[int, TrainState]:
    return checkpoint.restore_state(workdir, jax.eval_shape(lambda: fake_init(make_config(), 12)))


def lines(workdir: pathlib.Path) -> list[dict]:
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def without_rates(entries: list[dict]) -> list[dict]:
    return [{k: v for k, v in e.items() if not k.endswith("per_second")} for e in entries]


def send_self(number: int) -> None:
    """Sends a signal and waits until it has been noticed."""
    os.kill(os.getpid(), number)
    time.sleep(0.2)


def assert_same(found, expected) -> None:
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def run_traced(*, start=0, iterations=3, milestones=(), stop_at=None) -> list[str]:
    trace: list[str] = []
    stop = StopSignal()

    def step(state, batch):
        trace.append(f"step {state + 1} on {batch}")
        if state + 1 == stop_at:
            stop.number = signal.SIGTERM
        return state + 1, {}

    if stop_at == start:
        stop.number = signal.SIGTERM
    done, state = loop.run_steps(
        step,
        start,
        iter("abcdefgh"),
        start=start,
        iterations=iterations,
        stop=stop,
        record=lambda step, metrics: trace.append(f"record {step}"),
        is_milestone=lambda step: step in milestones,
        at_milestone=lambda step, state: trace.append(f"milestone {step}"),
    )
    assert done == state
    return trace


def test_metrics_are_read_one_step_late_but_before_a_milestone():
    assert run_traced(milestones=(2,)) == [
        "step 1 on a",
        "step 2 on b",
        "record 1",
        "record 2",
        "milestone 2",
        "step 3 on c",
        "record 3",
        "milestone 3",
    ]


def test_a_signal_ends_after_the_step_with_a_milestone():
    assert run_traced(start=5, iterations=9, stop_at=6) == [
        "step 6 on a",
        "record 6",
        "milestone 6",
    ]
    assert run_traced(start=5, iterations=9, stop_at=5) == []


def test_run_leaves_checkpoints_pictures_and_one_line_per_step(tmp_path, split, fakes, capfd):
    workdir = tmp_path / "run"
    assert loop.train(make_config(), workdir, split) is None
    assert checkpoint.saved_steps(workdir) == [4, 6, 8]
    assert sorted(p.name for p in (workdir / "images").iterdir()) == [
        "step_0000004.png",
        "step_0000008.png",
    ]
    assert list((workdir / "tensorboard").glob("events*"))
    entries = lines(workdir)
    assert [e["step"] for e in entries] == list(range(1, 9))
    assert "images_per_second" not in entries[0]
    assert entries[1]["images_per_second"] == pytest.approx(4 * entries[1]["iterations_per_second"])
    assert "8/8" in capfd.readouterr().err

    (workdir / "images" / "step_0000008.png").unlink()
    assert loop.train(make_config(), workdir, split) is None
    assert "already been trained for 8 iterations" in capfd.readouterr().out
    assert (workdir / "images" / "step_0000008.png").exists()
    assert lines(workdir) == entries


def test_log_every_keeps_first_and_last(tmp_path, split, fakes):
    config = make_config(log_every=3, image_every=0)
    loop.train(config, tmp_path / "run", split)
    assert [e["step"] for e in lines(tmp_path / "run")] == [1, 3, 6, 8]
    assert [p.name for p in (tmp_path / "run" / "images").iterdir()] == ["step_0000008.png"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_and_resumed_equals_uninterrupted(tmp_path, split, fakes, number, capsys):
    loop.train(make_config(), tmp_path / "whole", split)
    workdir = tmp_path / "stopped"
    fakes[5] = lambda *result: send_self(number) or result
    assert loop.train(make_config(), workdir, split) == number
    assert checkpoint.saved_steps(workdir)[-1] == 5
    assert "saved at step 5; the same command resumes" in capsys.readouterr().out
    fakes.clear()
    assert loop.train(make_config(), workdir, split) is None
    assert_same(final_state(workdir), final_state(tmp_path / "whole"))
    assert without_rates(lines(workdir)) == without_rates(lines(tmp_path / "whole"))


def test_more_iterations_go_on_from_the_end(tmp_path, split, fakes):
    loop.train(make_config(), tmp_path / "whole", split)
    loop.train(make_config(iterations=3), tmp_path / "parts", split)
    loop.train(make_config(), tmp_path / "parts", split)
    assert_same(final_state(tmp_path / "parts"), final_state(tmp_path / "whole"))


def test_a_damaged_checkpoint_costs_only_its_steps(tmp_path, split, fakes):
    loop.train(make_config(), tmp_path / "whole", split)
    workdir = tmp_path / "damaged"
    loop.train(make_config(iterations=7), workdir, split)
    for path in (workdir / checkpoint.FOLDER / "7").rglob("d/*"):
        path.unlink()
    loop.train(make_config(), workdir, split)
    assert_same(final_state(workdir), final_state(tmp_path / "whole"))
    assert [e["step"] for e in lines(workdir)] == list(range(1, 9))


@pytest.mark.parametrize(
    "spoiled, message",
    [
        ({"ebm_loss": np.float32("nan")}, "step 5: ebm_loss = nan; "),
        ({"energy": np.float32("inf")}, "step 5: energy = inf; "),
        ({"latents_finite": np.float32(0)}, "step 5: a latent is not finite; "),
    ],
)
def test_divergence_names_step_term_and_last_good_checkpoint(
    tmp_path, split, fakes, spoiled, message
):
    fakes[5] = lambda new, metrics: (new, metrics | spoiled)
    with pytest.raises(NonFiniteError, match=message) as raised:
        loop.train(make_config(), tmp_path / "run", split)
    assert isinstance(raised.value, UserError)
    assert "the last good checkpoint is that of step 4;" in str(raised.value)
    assert checkpoint.saved_steps(tmp_path / "run") == [2, 4]
    assert [e["step"] for e in lines(tmp_path / "run")] == [1, 2, 3, 4]


def test_a_bad_update_is_never_saved(tmp_path, split, fakes):
    def spoil(new, metrics):
        return new.replace(
            params={**new.params, "ebm": {"w": new.params["ebm"]["w"] * np.nan}}
        ), metrics

    fakes[2] = spoil
    with pytest.raises(NonFiniteError, match="step 2: params/ebm/w is not finite; nothing was"):
        loop.train(make_config(), tmp_path / "run", split)
    assert checkpoint.saved_steps(tmp_path / "run") == []


def test_truncate_log(tmp_path):
    path = tmp_path / "metrics.jsonl"
    truncate_log(path, 3)
    assert not path.exists()
    path.write_text('{"step": 1}\n{"step": 4}\n{"step": 3}\n{"st')
    truncate_log(path, 3)
    assert path.read_text() == '{"step": 1}\n{"step": 3}\n'


def test_stop_signal_gives_handlers_back():
    before = [signal.getsignal(number) for number in interrupt.SIGNALS]
    with StopSignal() as stop:
        assert stop.number is None
        send_self(signal.SIGTERM)
        assert stop.number == signal.SIGTERM
    assert [signal.getsignal(number) for number in interrupt.SIGNALS] == before
