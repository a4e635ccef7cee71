"""Runs and methods without training as entrants of a comparison."""

import json
import sys
import types

import jax
import numpy as np
import pytest

from drc_jax.baselines.grabcut import GrabCutConfig
from drc_jax.data.packed.format import PackedSplit, Record, open_split
from drc_jax.data.packed.writing import write_split
from drc_jax.errors import UserError
from drc_jax.evaluation.compare import compare
from drc_jax.runs import entrants, method
from drc_jax.runs.cost import training_seconds
from drc_jax.runs.trained import load_run
from drc_jax.training import loop
from tests.helpers.methods import Mean, MeanConfig

SIZE, IMAGES = 8, 12


def split_of(root, size=SIZE, seed=0) -> PackedSplit:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (IMAGES, size, size, 3), np.uint8)
    masks = (images.mean(-1) > 128).astype(np.uint8)
    records = [Record(i, m, str(n)) for n, (i, m) in enumerate(zip(images, masks, strict=True))]
    write_split(root, "train", records, image_size=size, has_masks=True, source={})
    return open_split(root, "train")


@pytest.fixture
def split(tmp_path) -> PackedSplit:
    return split_of(tmp_path / "data")


@pytest.fixture(autouse=True)
def mean(monkeypatch) -> None:
    """The small method under its name."""
    monkeypatch.setitem(method.METHODS, "mean", "tests.helpers.methods:Mean")


def trained(folder, split, **fields) -> str:
    """The folder of a run."""
    loop.train(MeanConfig(**fields), folder, split, Mean())
    return str(folder)


def test_runs_are_opened_grouped_and_scored(tmp_path, split):
    paths = [
        trained(tmp_path / "a", split, seed=1),
        trained(tmp_path / "b", split, seed=2, log_every=2, checkpoint_every=4, eval_images=1),
        trained(tmp_path / "c", split, seed=1, rate=0.5),
        trained(tmp_path / "d", split, seed=1, iterations=6),
        trained(tmp_path / "e", split_of(tmp_path / "others", seed=1), seed=3),
    ]
    entered = [entrants.of_run(path, split, seed=5, steps=7, chains=3) for path in paths]
    found = compare(entered, split)
    assert [len(group.results) for group in found.groups] == [2, 1, 1, 1]
    first = found.groups[0].first
    assert (first.entrant.seed, first.entrant.iterations, first.entrant.num_parameters) == (1, 8, 1)
    assert first.entrant.training_seconds is not None and first.entrant.training_seconds > 0
    # The method has no sampler, so steps and chains are not among what its score depends on.
    settings = {"method": "mean", "checkpoint_step": 8, "seed": 5, "trained_on": "noise"}
    assert first.evaluation.report.settings == settings
    run = load_run(paths[0])
    weight = run.segment(None, split.images[:]).foreground_weight
    np.testing.assert_array_equal(first.masks, np.asarray(weight) > 0.5)


def test_what_cannot_take_part_is_named(tmp_path, split):
    path = trained(tmp_path / "a", split)
    other = split_of(tmp_path / "other", size=16)
    with pytest.raises(UserError, match=r"/a: the images of .* are 16x16, the model's 8x8"):
        entrants.of_run(path, other, seed=0, steps=0)
    with pytest.raises(UserError, match="nowhere is not a training folder"):
        entrants.of_run(str(tmp_path / "nowhere"), split, seed=0, steps=0)
    with pytest.raises(UserError, match=r"mean.py: mean is trained; give its run's folder"):
        entrants.of_config(MeanConfig(), "mean.py", seed=0)


@pytest.mark.parametrize("left", [None, types.ModuleType("cv2")], ids=["absent", "emptied"])
def test_a_missing_package_is_named_before_any_work(monkeypatch, left):
    monkeypatch.setitem(sys.modules, "cv2", left)
    with pytest.raises(UserError, match=r"^grabcut.py: GrabCut needs OpenCV"):
        entrants.of_config(GrabCutConfig(), "grabcut.py", seed=0)


def test_grabcut_takes_part(split):
    pytest.importorskip("cv2")
    entrant = entrants.of_config(GrabCutConfig(), "grabcut.py", seed=0)
    found = compare([entrant], split).groups[0].first
    assert (entrant.figure, entrant.seed, entrant.training_seconds) == ("cut-outs", None, None)
    assert found.evaluation.report.num_images == IMAGES


def test_parameters_are_counted_without_what_is_not_learnt():
    weights = {"dense": {"kernel": np.zeros((3, 4)), "bias": np.zeros(4)}}
    assert entrants.num_parameters(weights) == 16
    network = {"params": weights, "spectral": {"u": np.zeros(9)}}
    assert entrants.num_parameters({"generator": network, "mask": network}) == 32
    assert entrants.num_parameters(jax.tree.map(jax.numpy.asarray, (weights, weights))) == 32


@pytest.mark.parametrize(
    ("lines", "seconds"),
    [
        ([(1, None), (10, 2.0), (20, 4.0)], 1 / 3 + 9 / 2 + 10 / 4),
        ([(10, 2.0), (20, None), (30, 4.0)], 5 + 10 / 3),  # killed after the checkpoint of step 20
        ([(10, 2.0), (16, 4.0)], 5 + 6 / 4 + 4 / 3),
        ([(20, 2.0), (20, 5.0)], 4.0),
        ([(1, None)], None),
        ([], None),
    ],
)
def test_training_time_is_that_of_the_iterations(tmp_path, lines, seconds):
    text = []
    for step, speed in lines:
        rate = {} if speed is None else {"iterations_per_second": speed}
        text.append(json.dumps({"step": step, **rate, "loss": 1.0}))
    damaged = ['{"step": 5, "iterations_per', "5", "{}"]
    (tmp_path / "metrics.jsonl").write_text("\n".join(text) + "\n")
    found = training_seconds(tmp_path, 20)
    assert found == (None if seconds is None else pytest.approx(seconds))
    (tmp_path / "metrics.jsonl").write_text("\n".join([*damaged, *text]))
    assert training_seconds(tmp_path, 20) == found
    assert training_seconds(tmp_path / "nowhere", 20) is None
