"""The loop, with a method that is not DRC: what it leaves, resuming, stopping, divergence."""

import json
import os
import pathlib
import signal
import time

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drc_jax.data.packed.format import PackedSplit, Record, open_split
from drc_jax.data.packed.writing import write_split
from drc_jax.errors import NonFiniteError, UserError
from drc_jax.evaluation import evaluate
from drc_jax.runs import checkpoint, method
from drc_jax.runs.recorder import truncate_log
from drc_jax.runs.trained import load_run
from drc_jax.runtime import signals
from drc_jax.runtime.signals import StopSignal
from drc_jax.training import loop
from tests.helpers.methods import Mean, MeanConfig, Spoiled

SIZE, IMAGES = 8, 12


@pytest.fixture
def split(tmp_path) -> PackedSplit:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (IMAGES, SIZE, SIZE, 3), np.uint8)
    masks = (images.mean(-1) > 128).astype(np.uint8)
    records = [Record(i, m, str(n)) for n, (i, m) in enumerate(zip(images, masks, strict=True))]
    write_split(tmp_path / "data", "train", records, image_size=SIZE, has_masks=True, source={})
    return open_split(tmp_path / "data", "train")


MEAN = Mean()


def train(workdir, split, how=MEAN, **fields):
    return loop.train(MeanConfig(**fields), workdir, split, how)


def final_state(workdir: pathlib.Path):
    def fresh():
        mean, config = Mean(), MeanConfig()
        chains = mean.fresh_chains(config, 0, jnp.arange(IMAGES))
        return mean.join_chains(mean.fresh_state(config), chains)

    return checkpoint.restore_state(workdir, jax.eval_shape(fresh))


def lines(workdir: pathlib.Path) -> list[dict]:
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def without_rates(entries: list[dict]) -> list[dict]:
    return [{k: v for k, v in e.items() if not k.endswith("per_second")} for e in entries]


def assert_same(found, expected) -> None:
    chex.assert_trees_all_equal_structs(found, expected)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_a_run_leaves_checkpoints_pictures_and_one_line_per_step(tmp_path, split, capfd):
    workdir = tmp_path / "run"
    assert train(workdir, split) is None
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
    out, err = capfd.readouterr()
    assert out.index("training in") < out.index("trained 8 iterations") and "8/8" in err
    step, state = final_state(workdir)
    # Every image has been seen with one of its two sides, and no other chain has moved.
    begun = float(Mean().fresh_chains(MeanConfig(), MeanConfig().seed, jnp.arange(1))[0, 0, 0])
    assert step == state.step == 8 and state.params["mean"] != 0
    np.testing.assert_allclose((state.visits - begun).sum(), 8 * 4, rtol=1e-4)

    (workdir / "images" / "step_0000008.png").unlink()
    assert train(workdir, split) is None
    assert "already been trained for 8 iterations" in capfd.readouterr().out
    assert (workdir / "images" / "step_0000008.png").exists()
    assert lines(workdir) == entries


def test_another_method_is_loaded_and_scored_like_drc(tmp_path, split, monkeypatch):
    monkeypatch.setitem(method.METHODS, "mean", "tests.helpers.methods:Mean")
    loop.train(MeanConfig(), tmp_path / "run", split)  # found by its config
    run = load_run(str(tmp_path / "run"))
    assert run.method == Mean() and run.config == MeanConfig() and run.step == 8
    keys = jax.random.split(jax.random.key(0), IMAGES)
    found = evaluate.evaluate(lambda images: run.segment(keys, images), split)
    assert found.report.scores["fixed"].iou > 0.7
    with pytest.raises(UserError, match=r"there is no method 'median'; there are drc, .*mean"):
        method.find("median")


def test_log_every_keeps_first_and_last(tmp_path, split):
    train(tmp_path / "run", split, log_every=3, image_every=0)
    assert [e["step"] for e in lines(tmp_path / "run")] == [1, 3, 6, 8]
    assert [p.name for p in (tmp_path / "run" / "images").iterdir()] == ["step_0000008.png"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_and_resumed_equals_uninterrupted(tmp_path, split, number, capsys, monkeypatch):
    train(tmp_path / "whole", split)
    workdir = tmp_path / "stopped"
    step, calls = loop.steps.step, []

    def signalling(*args):
        calls.append(0)
        if len(calls) == 5:
            os.kill(os.getpid(), number)
            time.sleep(0.3)
        return step(*args)

    monkeypatch.setattr(loop.steps, "step", signalling)
    assert train(workdir, split) == number
    assert checkpoint.saved_steps(workdir)[-1] == 5
    assert "saved at step 5; the same command resumes" in capsys.readouterr().out
    monkeypatch.setattr(loop.steps, "step", step)
    assert train(workdir, split) is None
    assert_same(final_state(workdir), final_state(tmp_path / "whole"))
    assert without_rates(lines(workdir)) == without_rates(lines(tmp_path / "whole"))


def test_more_iterations_go_on_from_the_end(tmp_path, split):
    train(tmp_path / "whole", split)
    train(tmp_path / "parts", split, iterations=3)
    train(tmp_path / "parts", split)
    assert_same(final_state(tmp_path / "parts"), final_state(tmp_path / "whole"))


def test_an_iteration_knows_how_many_there_were(tmp_path, split, monkeypatch):
    runner, begun = loop.steps.runner, []

    def noting(*args):
        run = runner(*args)

        def noted(done, state, *others):
            begun.append((done, int(state.step)))
            return run(done, state, *others)

        return noted

    monkeypatch.setattr(loop.steps, "runner", noting)
    train(tmp_path / "run", split, iterations=2)
    train(tmp_path / "run", split, iterations=5)
    assert begun == [(n, n) for n in range(5)]


def test_a_damaged_checkpoint_costs_only_its_steps(tmp_path, split):
    train(tmp_path / "whole", split)
    workdir = tmp_path / "damaged"
    train(workdir, split, iterations=7)
    for path in (workdir / checkpoint.FOLDER / "7").rglob("d/*"):
        path.unlink()
    train(workdir, split)
    assert_same(final_state(workdir), final_state(tmp_path / "whole"))
    assert [e["step"] for e in lines(workdir)] == list(range(1, 9))


@pytest.mark.parametrize(
    "spoiled, message",
    [
        ((5, "generator_loss", np.nan), "step 5: generator_loss = nan; "),
        ((5, "energy", np.inf), "step 5: energy = inf; "),
        ((5, "latents_finite", 0), "step 5: a latent is not finite; "),
    ],
)
def test_divergence_names_step_term_and_last_good_checkpoint(tmp_path, split, spoiled, message):
    with pytest.raises(NonFiniteError, match=message) as raised:
        train(tmp_path / "run", split, Spoiled(metrics=(spoiled,)))
    assert isinstance(raised.value, UserError)
    assert "checkpoint is that of step 4; try a smaller rate, in a new" in str(raised.value)
    assert checkpoint.saved_steps(tmp_path / "run") == [2, 4]
    assert [e["step"] for e in lines(tmp_path / "run")] == [1, 2, 3, 4]


def test_a_bad_update_is_never_saved(tmp_path, split):
    with pytest.raises(NonFiniteError, match="step 2: params/mean is not finite; nothing was"):
        train(tmp_path / "run", split, Spoiled(mean=(2, np.nan)))
    assert checkpoint.saved_steps(tmp_path / "run") == []


def test_parameters_that_explode_are_told_once(tmp_path, split, capsys):
    train(tmp_path / "run", split, Spoiled(mean=(4, 1e7)), rate=0.01)
    out = capsys.readouterr().out
    assert out.count("warning: a parameter has grown to 1e+07 by step 4; try a smaller rate") == 1


def test_a_folder_of_another_method_is_refused(tmp_path, split, monkeypatch):
    train(tmp_path / "run", split)
    stored = json.loads((tmp_path / "run" / "config.json").read_text())
    assert stored["method"] == "mean"
    stored["method"] = "drc"
    (tmp_path / "run" / "config.json").write_text(json.dumps(stored))
    with pytest.raises(UserError, match="is a run of drc, and this config is for mean"):
        train(tmp_path / "run", split)


def test_truncate_log(tmp_path):
    path = tmp_path / "metrics.jsonl"
    truncate_log(path, 3)
    assert not path.exists()
    path.write_text('{"step": 1}\n{"step": 4}\n{"step": 3}\n{"st')
    truncate_log(path, 3)
    assert path.read_text() == '{"step": 1}\n{"step": 3}\n'


def test_stop_signal_gives_handlers_back():
    before = [signal.getsignal(number) for number in signals.SIGNALS]
    with StopSignal() as stop:
        assert stop.number is None
        os.kill(os.getpid(), signal.SIGTERM)
        while stop.number is None:
            pass
        assert stop.number == signal.SIGTERM
    assert [signal.getsignal(number) for number in signals.SIGNALS] == before


def test_a_signal_before_the_first_step_ends_without_one(tmp_path, split, monkeypatch, capsys):
    class Signalled(StopSignal):
        def __enter__(self):
            super().__enter__()
            self.number = signal.SIGTERM
            return self

    monkeypatch.setattr(loop, "StopSignal", Signalled)
    assert train(tmp_path / "run", split) == signal.SIGTERM
    assert checkpoint.saved_steps(tmp_path / "run") == []
    assert "SIGTERM: nothing was trained" in capsys.readouterr().out
