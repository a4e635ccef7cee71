"""Scores of held-out images during training: what they are, and that nothing depends on them."""

import json
import os
import signal
from typing import Any, NamedTuple

import chex
import jax
import numpy as np
import pytest

from drc_jax.config import DataConfig
from drc_jax.data.packed.format import Record, open_split
from drc_jax.data.packed.writing import write_split
from drc_jax.errors import UserError
from drc_jax.evaluation import metrics
from drc_jax.runs import checkpoint
from drc_jax.training import loop
from tests.helpers.methods import Mean, MeanConfig

SIZE = 8
RATES = ("iterations_per_second", "images_per_second", "heldout_seconds", "unix_time")


def write(folder, name, count, *, size=SIZE, has_masks=True):
    rng = np.random.default_rng(len(name))
    images = rng.integers(0, 256, (count, size, size, 3), np.uint8)
    masks = (images.mean(-1) > 128).astype(np.uint8)
    masks[::2] = 0  # every second image is scored 0, and the ends are of both kinds
    records = [
        Record(i, m if has_masks else None, str(n))
        for n, (i, m) in enumerate(zip(images, masks, strict=True))
    ]
    write_split(folder, name, records, image_size=size, has_masks=has_masks, source={})


@pytest.fixture
def data(tmp_path):
    write(tmp_path / "data", "train", 12)
    write(tmp_path / "data", "test", 10)
    return tmp_path / "data"


def train(workdir, data, **fields):
    config = MeanConfig(data=DataConfig(dataset="noise", path=str(data)), **fields)
    return loop.train(config, workdir, open_split(data, "train"), Mean())


def lines(workdir):
    entries = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in entry.items() if k not in RATES} for entry in entries]


def scored(workdir):
    return [entry for entry in lines(workdir) if "heldout_iou" in entry]


def test_the_scores_are_those_of_evenly_spaced_test_images(tmp_path, data, capsys):
    train(tmp_path / "run", data, eval_every=4, eval_images=6)
    first, last = scored(tmp_path / "run")
    assert (first["step"], last["step"]) == (4, 8)
    _, params = checkpoint.restore_params(tmp_path / "run")
    split = open_split(data, "test")
    places = [0, 2, 4, 5, 7, 9]
    images, true = split.images[places], split.masks[places] != 0
    bright = images.astype(np.float32) / 127.5 - 1.0
    overlap = metrics.overlap(bright.mean(-1) > params["mean"], true)
    assert 0.1 < overlap.iou.mean() < 0.9
    np.testing.assert_allclose(last["heldout_iou"], overlap.iou.mean())
    np.testing.assert_allclose(last["heldout_dice"], overlap.dice.mean())
    assert last["heldout_foreground"] > 0.2
    assert any(
        b"heldout_iou" in path.read_bytes()
        for path in (tmp_path / "run" / "tensorboard").glob("events*")
    )


def test_nothing_of_the_run_depends_on_them(tmp_path, data):
    train(tmp_path / "without", data)
    train(tmp_path / "with", data, eval_every=1, eval_images=3)
    others = [entry for entry in lines(tmp_path / "with") if "heldout_iou" not in entry]
    assert others == lines(tmp_path / "without")
    states = [
        {
            str(path.relative_to(tmp_path / name)): digest
            for path in (tmp_path / name / "checkpoints").glob("*/digests.json")
            for digest in [checkpoint.restore_params(tmp_path / name)[1]]
        }
        for name in ("with", "without")
    ]
    chex.assert_trees_all_equal(*states)


def test_a_stopped_run_goes_on_as_if_it_had_not_been(tmp_path, data, monkeypatch):
    """The scoring may change on the way; a stop does not wait for it."""
    train(tmp_path / "whole", data, eval_every=2)
    step, calls = loop.steps.step, []

    def signalling(*args):
        calls.append(0)
        if len(calls) == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(*args)

    monkeypatch.setattr(loop.steps, "step", signalling)
    assert train(tmp_path / "parts", data, eval_every=2) == signal.SIGTERM
    stopped = checkpoint.saved_steps(tmp_path / "parts")[-1]
    assert stopped < 8
    monkeypatch.setattr(loop.steps, "step", step)
    train(tmp_path / "parts", data, eval_every=2, eval_images=7)
    plain = [
        [entry for entry in lines(tmp_path / name) if "heldout_iou" not in entry]
        for name in ("whole", "parts")
    ]
    assert plain[0] == plain[1]
    assert [entry["step"] for entry in scored(tmp_path / "whole")] == [2, 4, 6, 8]
    steps = [entry["step"] for entry in scored(tmp_path / "parts")]
    assert steps == [s for s in (2, 4, 6, 8) if s != stopped]


def test_data_that_cannot_be_scored_are_refused_before_the_first_step(tmp_path, data):
    for name, arrange in (
        ("none", lambda folder: None),
        ("bare", lambda folder: write(folder, "test", 3, has_masks=False)),
    ):
        folder = tmp_path / name
        write(folder, "train", 12)
        arrange(folder)
        with pytest.raises(
            UserError, match=r"eval_every needs held-out images with masks: .*has no"
        ):
            train(tmp_path / f"run_{name}", folder, eval_every=2)
        assert not checkpoint.saved_steps(tmp_path / f"run_{name}")
        train(tmp_path / f"run_{name}", folder)  # the same folder, without scores


def test_exchangeable_slots_are_scored_by_the_better_of_their_two_ways(tmp_path, data, monkeypatch):
    """The second slot holds what is dark in the test images, so it is the background."""
    segment = Mean.segment

    class Slots(NamedTuple):
        images: Any
        pi: Any
        reconstruction: Any
        foreground_weight: None = None

    def as_slots(self, config, params, keys, images, **options):
        found = segment(self, config, params, keys, images)
        return Slots(found.images, found.pi, found.reconstruction)

    train(tmp_path / "regions", data, eval_every=8)
    monkeypatch.setattr(Mean, "segment", as_slots)
    train(tmp_path / "slots", data, eval_every=8)
    (with_foreground,), (slots,) = scored(tmp_path / "regions"), scored(tmp_path / "slots")
    assert "heldout_foreground" not in slots
    assert slots["heldout_iou"] >= with_foreground["heldout_iou"] > 0.1


def test_images_that_cannot_be_scored_end_no_run(tmp_path, data, capsys, monkeypatch):
    def without_foreground(self, config, params, keys, images, **options):
        raise UserError("these regions have no foreground")

    monkeypatch.setattr(Mean, "segment", without_foreground)
    assert train(tmp_path / "run", data, eval_every=4) is None
    assert "warning: step 4 was not scored: these regions have no" in capsys.readouterr().out
    assert checkpoint.saved_steps(tmp_path / "run")[-1] == 8
    assert jax.tree.leaves(checkpoint.restore_params(tmp_path / "run")[1])
