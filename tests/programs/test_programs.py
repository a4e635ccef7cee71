"""A run through the programs as their user starts them: evaluate, sample and benchmark."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from drc_jax.data.packed.format import Record, open_split
from drc_jax.data.packed.writing import write_split
from tests.helpers.starting import ROOT, start

CONFIG = (
    f"--config={ROOT / 'configs' / 'tiny.py'}",
    "--config.model.generator_channels=(4, 4)",
    "--config.model.classifier_channels=(4,)",
)


def width(path):
    with Image.open(path) as picture:
        return picture.width


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder with the tiny config's data and its run of eight steps."""
    folder = tmp_path_factory.mktemp("tiny")
    done = start(
        "train",
        *CONFIG,
        f"--workdir={folder / 'run'}",
        f"--config.data.path={folder / 'data'}",
        is_optimised=True,
    )
    assert done.returncode == 0, done.stderr
    (folder / "said.txt").write_text(done.stdout)
    return folder


def test_training_leaves_what_the_readme_says(run):
    text = (run / "run" / "metrics.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 9))
    assert np.isfinite(lines[-1]["generator_loss"])
    assert list((run / "run" / "tensorboard").iterdir())
    assert width(run / "run" / "images" / "step_0000008.png") > 500


def test_training_says_what_differs_and_where_to_look(run):
    before, _, after = (run / "said.txt").read_text().partition("training in ")
    assert "drc with its defaults, except data.dataset='scenes'" in before
    assert "model.generator_channels=(4, 4)" in before and "learning_rate" not in before
    assert f"all fields are in {run / 'run' / 'config.json'}" in before
    for text in (before, after):
        assert f"tensorboard --logdir={run / 'run' / 'tensorboard'}" in text
        assert str(run / "run" / "images") in text and "metrics.jsonl" in text
    assert f"python -m experiments.evaluate --workdir={run / 'run'}" in after


def test_evaluate_writes_consistent_scores(run):
    files = []
    for batch_size in (3, 64):
        flag = f"--batch_size={batch_size}"
        done = start("evaluate", f"--workdir={run / 'run'}", flag, is_optimised=True)
        assert done.returncode == 0, done.stderr
        files.append(
            [(run / f"run/eval/test{ending}").read_bytes() for ending in (".json", ".csv")]
        )
    assert files[0] == files[1]
    assert "fixed" in done.stdout and "all foreground" in done.stdout
    report = json.loads((run / "run/eval/test.json").read_text())
    assert report["num_images"] == 8
    assert report["settings"]["langevin_steps"] == 5
    assert report["floors"]["mean_train_mask"] is not None
    rows = list(csv.DictReader((run / "run/eval/test.csv").read_text().splitlines()))
    fixed = np.mean([float(row["fixed_iou"]) for row in rows])
    np.testing.assert_allclose(fixed, report["scores"]["fixed"]["iou"], atol=1e-5)
    for name in ("grid", "best", "worst"):
        assert width(run / f"run/eval/test_{name}.png") > 500

    # Images of twice the size, of which the model sees as much as before.
    small, large = open_split(run / "data", "test"), run / "large"
    twice = [
        Record(*(np.repeat(np.repeat(a, 2, 0), 2, 1) for a in (image, mask)), name)
        for image, mask, name in zip(small.images, small.masks, small.names, strict=True)
    ]
    write_split(large, "test", twice, image_size=16, has_masks=True, source={})
    options = (f"--workdir={run / 'run'}", f"--data={large}", "--chains=2")
    refused = start("evaluate", *options)
    assert refused.returncode == 2 and "are 16x16, the model's 8x8" in refused.stderr
    done = start("evaluate", *options, "--refine=edges")
    assert done.returncode == 0, done.stderr
    (of_two,) = (run / "run/eval/large").glob("test_iteration*_steps5_chains2_edges_seed0.json")
    report = json.loads(of_two.read_text())
    assert report["settings"]["chains"] == 2 and report["settings"]["refine"] == "edges"
    assert width(run / "run/eval/large/test_grid.png") > 500
    assert (run / "run/eval/test.csv").read_bytes() == files[0][1]

    missing = start("evaluate", f"--workdir={run / 'run'}", "--split=val")
    assert missing.returncode == 2
    assert missing.stderr.startswith("error: ") and "Traceback" not in missing.stderr


def test_sample_draws_from_the_prior(run):
    output = run / "new" / "samples.png"
    done = start("sample", f"--workdir={run / 'run'}", f"--output={output}", "--number=3")
    assert done.returncode == 0, done.stderr
    assert width(output) > 300
    nowhere = start("sample", f"--workdir={run}", f"--output={output}")
    assert nowhere.returncode == 2
    assert nowhere.stderr.startswith("error: ") and "Traceback" not in nowhere.stderr


def test_benchmark_reports_every_part_and_compares(run):
    output = run / "speed.json"
    done = start("benchmark", *CONFIG, "--repeats=2", "--layers", f"--json={output}")
    assert done.returncode == 0, done.stderr
    assert "sum of the layers" in done.stdout
    report = json.loads(output.read_text())
    assert [timing["what"] for timing in report["timings"]] == ["posterior", "prior", "train"]
    for timing in report["timings"]:
        assert 0 < timing["seconds_min"] <= timing["seconds_median"]
        assert timing["gflops_per_second"] > 0
    assert all(layer["seconds"] > 0 for layer in report["breakdown"]["layers"])

    same = start("benchmark", f"--compare={output},{output}")
    assert same.returncode == 0, same.stderr
    assert "same device" in same.stdout and "whole" not in same.stdout
    for wrong in (["--compare=one.json"], []):
        refused = start("benchmark", *wrong)
        assert refused.returncode == 2
        assert refused.stderr.startswith("error: ") and "Traceback" not in refused.stderr


def test_benchmark_tells_memory_without_running(run):
    done = start("benchmark", *CONFIG, "--memory", "--what=prior")
    assert done.returncode == 0, done.stderr
    assert "temporaries" in done.stdout and "prior" in done.stdout
