"""Extraction with DRC: chains that diverge, and the program."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image

from drc_jax.config import DataConfig, ModelConfig, SamplerConfig, TrainConfig
from drc_jax.evaluation.extract import extract
from drc_jax.inference import image_keys, infer
from drc_jax.model.render import init_params
from drc_jax.runs import checkpoint
from drc_jax.runs.workdir import claimed
from tests.helpers.halves import half_red, opened
from tests.helpers.starting import run_code, start

SIDE = 8

CONFIG = TrainConfig(
    model=ModelConfig(
        zf_dim=4,
        zb_dim=4,
        zs_dim=4,
        generator_channels=(4, 4),
        classifier_channels=(4,),
        ebm_width=4,
        ebm_reassign_width=4,
        num_fg_categories=2,
        num_bg_categories=2,
    ),
    sampler=SamplerConfig(prior_steps=1, posterior_steps=1, test_steps=3),
    data=DataConfig(dataset="noise", path="unused"),
    batch_size=2,
)


@pytest.fixture(scope="module")
def params():
    """Noise in the place of trained parameters; initialising would be one more compile."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: init_params(CONFIG.model, jax.random.key(0)))
    return jax.tree.map(lambda x: rng.normal(size=x.shape, scale=0.3).astype(np.float32), shapes)


@pytest.mark.parametrize("count", [3, 11])
def test_pictures_whose_chains_diverge_spare_the_others(tmp_path, params, count):
    """Nine white pictures diverge: a whole block and one of the next where there are eleven."""
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    white = max(count - 2, 1)
    for i in range(count):
        photo = np.full((16, 20, 3), 255, np.uint8) if i < white else half_red(20, 16)
        Image.fromarray(photo).save(photos / f"{i:02d}.png")

    def infer_batch(images):
        keys, bad = image_keys(jax.random.key(0), images), (images == 255).all((1, 2, 3))
        spoiled = jax.tree.map(lambda x: x * np.float32(np.nan), params)
        regions = infer(CONFIG.model, spoiled if bad.all() else params, keys, images, num_steps=3)
        return regions._replace(pi=regions.pi.at[bad].set(np.nan))

    result = extract(infer_batch, photos, out, image_size=SIDE)
    assert result.num_done == count - white == len(list((out / "masks").iterdir()))
    assert [problem.name for problem in result.failed] == [f"{i:02d}.png" for i in range(white)]
    assert all("not finite" in problem.reason for problem in result.failed)


@dataclasses.dataclass
class Trained:
    """As much of a training state as extraction reads."""

    params: Any
    step: np.ndarray


# In a process of its own: programs' flags share names. Tells how often inference was compiled.
PROGRAM = """if True:
    import atexit
    from drc_jax.model import posterior
    from experiments import cli, extract

    atexit.register(lambda: print("compiled", posterior._advance._cache_size()))
    cli.run(extract.main)
"""


def test_the_program(tmp_path, params):
    workdir, photos, out = tmp_path / "run", tmp_path / "photos", tmp_path / "out"
    with claimed(workdir, CONFIG, "0"), checkpoint.CheckpointWriter(workdir, keep=1) as writer:
        writer.save(1, Trained(params, np.int32(1)))
    photos.mkdir()
    for i in range(9):
        Image.fromarray(half_red(20 + i, 16)).save(photos / f"{i}.jpg")
    (photos / "bad.jpg").write_text("words")

    def run(*arguments):
        return run_code(PROGRAM, f"--workdir={workdir}", f"--output={out}", *arguments)

    done = run(f"--input={photos}", "--restarts=2", "--batch_size=4", "--crop=letterbox")
    assert done.returncode == 0, done.stderr
    assert "failed: bad.jpg is no readable JPEG" in done.stdout
    assert "9 pictures done" in done.stdout
    assert "compiled 1\n" in done.stdout  # nine pictures are a block and a part of one
    assert opened(out / "masks/2.png")[1].shape == (16, 22)
    assert run(f"--input={photos / 'bad.jpg'}").returncode == 1
    averaged = run(f"--input={photos / '2.jpg'}", "--chains=2", "--soft")
    assert averaged.returncode == 0, averaged.stderr
    both = run(f"--input={photos}", "--chains=2", "--restarts=2")
    assert both.returncode == 2 and "num_chains (2), to average" in both.stderr


def test_a_method_that_is_not_trained(tmp_path):
    pytest.importorskip("cv2")
    picture = np.full((40, 60, 3), 40, np.uint8)
    picture[10:30, 20:40] = (220, 30, 20)
    Image.fromarray(picture).save(tmp_path / "square.png")
    done = start(
        "extract",
        "--config=configs/baselines/grabcut.py",
        f"--input={tmp_path / 'square.png'}",
        f"--output={tmp_path / 'out'}",
    )
    assert done.returncode == 0, done.stderr
    assert "GrabCut: 1 images, of which OpenCV refused 0" in done.stdout
    _, mask = opened(tmp_path / "out/masks/square.png")
    assert np.mean((mask > 0) == (picture[..., 0] > 100)) > 0.97
