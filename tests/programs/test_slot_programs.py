"""A run of several slots through every program that opens a run."""

import json

import numpy as np
import pytest
from PIL import Image

from drc_jax.data.packed.format import open_split
from tests.helpers.starting import ROOT, output_of

CONFIG = (
    f"--config={ROOT / 'configs' / 'tiny.py'}",
    "--config.model.generator_channels=(4, 4)",
    "--config.model.classifier_channels=(4,)",
    "--config.model.num_slots=3",
    "--config.model.slot_contact_weight=0.1",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder with a run of slots, three objects in some images, and a photograph."""
    folder = tmp_path_factory.mktemp("slots")
    data = (f"--config.data.path={folder / 'data'}", "--config.data.objects=(1, 3)")
    output_of("train", *CONFIG, *data, f"--workdir={folder / 'run'}")
    Image.fromarray(open_split(folder / "data", "test").images[0]).save(folder / "photo.png")
    return folder


def test_training_watches_the_slots(folder):
    text = (folder / "run/metrics.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert all(0 <= line["active_slots"] <= 3 and line["slot_cost"] > 0 for line in lines)


def test_evaluate_scores_any_number_of_slots(folder):
    for slots in (3, 5):
        flags = [] if slots == 3 else [f"--num_slots={slots}"]
        assert "FG-ARI" in output_of("evaluate", f"--workdir={folder / 'run'}", *flags)
        report = json.loads((folder / "run/eval/test.json").read_text())
        assert report["num_regions"] == slots + 1
        assert report["labels"]["objects"] > 1 and report["failures"]["duplicate"] >= 0
    assert (folder / "run/eval/test_removed.png").exists()
    assert (folder / "run/eval/test_failures.png").exists()


def test_sample_draws_every_slot(folder):
    heights = []
    for slots in (1, 3):
        output = folder / f"samples_{slots}.png"
        output_of(
            "sample", f"--workdir={folder / 'run'}", f"--output={output}", f"--num_slots={slots}"
        )
        with Image.open(output) as picture:
            heights.append(picture.height)
    assert heights[1] > heights[0]


def test_extract_cuts_out_every_object(folder):
    output = folder / "cut_outs"
    output_of(
        "extract",
        f"--workdir={folder / 'run'}",
        f"--input={folder / 'photo.png'}",
        f"--output={output}",
    )
    with Image.open(output / "cutouts/photo.png") as picture:
        union = np.asarray(picture)[..., 3].astype(int)
    objects = list((output / "objects").glob("*/photo.png"))
    assert 1 <= len(objects) <= 3  # nothing is learnt: slots hold pixels here and there
    for path in objects:
        with Image.open(path) as picture:
            assert picture.mode == "RGBA" and picture.size == union.shape
            assert (np.asarray(picture)[..., 3].astype(int) <= union + 1).all()


def test_a_model_of_slots_is_compared_and_timed(folder):
    output_of(
        "compare",
        f"--runs={folder / 'run'}",
        f"--data={folder / 'data'}",
        f"--output={folder / 'comparison'}",
    )
    (group,) = json.loads((folder / "comparison/table.json").read_text())["groups"]
    assert "fixed" in group["scores"]
    output = folder / "speed.json"
    output_of("benchmark", *CONFIG, "--repeats=1", f"--json={output}")
    assert all(t["seconds_min"] > 0 for t in json.loads(output.read_text())["timings"])


def test_a_model_of_slots_is_exported(folder):
    output = folder / "slots.stablehlo"
    said = output_of("export", f"--workdir={folder / 'run'}", f"--output={output}", "--num_steps=1")
    assert "1 steps for 1 images" in said and output.stat().st_size > 0
