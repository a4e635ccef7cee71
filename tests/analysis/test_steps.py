"""Scores against the steps of fresh chains: the numbers, the table, the picture, the program."""

import io

import jax
import numpy as np
import pytest
from PIL import Image

import drc_jax
from drc_jax.analysis import steps
from drc_jax.analysis.steps import Point
from drc_jax.config import TrainConfig
from drc_jax.data.packed.format import Record, open_split
from drc_jax.data.packed.writing import write_split
from drc_jax.evaluation.evaluate import evaluate
from drc_jax.runs.trained import Run
from tests.helpers.small import ONE_BLOCK, small_card
from tests.helpers.starting import start

POINTS = [
    Point("prior", 1, 0.2, 0.3),
    Point("prior", 50, 0.625, 0.7),
    Point("encoder", 1, 0.5, 0.6),
]


def test_a_score_is_that_of_the_evaluation(tmp_path):
    rng = np.random.default_rng(0)
    records = [
        Record(rng.integers(0, 256, (8, 8, 3), np.uint8), np.eye(8, dtype=np.uint8), str(n))
        for n in range(3)
    ]
    write_split(tmp_path, "test", records, image_size=8, has_masks=True, source={})
    split = open_split(tmp_path, "test")
    params = drc_jax.init_params(ONE_BLOCK, jax.random.key(0))
    run = Run(drc_jax.DRC(), TrainConfig(model=ONE_BLOCK), params, 0)
    found = steps.score(run, split, "prior", 2, seed=3)
    fixed = evaluate(run.infer_batch(3, num_steps=2), split).report.scores["fixed"]
    assert found == Point("prior", 2, fixed.iou, fixed.dice) and fixed.iou > 0
    assert found != steps.score(run, split, "prior", 3, seed=3)._replace(num_steps=2)
    mean = steps.score(run, split, "prior", 2, seed=3, num_chains=2, mask_from="gamma")
    assert mean.num_chains == 2 and mean.iou != fixed.iou


def test_chains_are_lines_of_their_own():
    points = [Point("prior", 5, 0.2, 0.3), Point("prior", 5, 0.4, 0.5, num_chains=8)]
    _, one, eight = steps.table(points).splitlines()
    assert one.split() == ["prior", "20.0"] and eight.split() == ["prior,", "8", "chains", "40.0"]
    image = np.asarray(Image.open(io.BytesIO(steps.curves(points))).convert("RGB"))
    assert (image.reshape(-1, 3) == (198, 40, 40)).all(1).any()


def test_the_table_has_a_line_per_start_and_a_column_per_number():
    head, prior, encoder = steps.table(POINTS).splitlines()
    assert head.split() == ["steps", "1", "50"]
    assert prior.split() == ["prior", "20.0", "62.5"]
    assert encoder.split() == ["encoder", "50.0"]


def test_the_picture_shows_every_start():
    def colours(points):
        image = np.asarray(Image.open(io.BytesIO(steps.curves(points))).convert("RGB"))
        return {tuple(colour) for colour in image.reshape(-1, 3)}

    blue, red = (21, 101, 192), (198, 40, 40)
    assert {blue, red} <= colours(POINTS)
    assert blue in colours(POINTS[:2]) and red not in colours(POINTS[:2])


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--steps=1,many", "error: --steps must be numbers with commas between"),
        ("--steps=0,5", "error: --steps must be numbers of at least 1, got"),
        ("--chains=0", "error: --chains must be numbers of at least 1, got"),
        ("--starts=encoder", "error: start 'encoder' needs a model trained with"),
    ],
)
def test_mistakes_are_refused_in_one_line(flag, message, tmp_path):
    output = f"--output={tmp_path / 'a.png'}"
    found = start("steps", f"--model={small_card(tmp_path)}", flag, output)
    assert found.returncode == 2 and found.stderr.startswith(message)
    assert found.stderr.count("\n") == 1
