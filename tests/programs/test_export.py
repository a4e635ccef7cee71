"""An exported model runs where drc_jax cannot be imported, and finds the same masks."""

import subprocess
import sys

import jax
import numpy as np

from drc_jax.evaluation.pictures import to_uint8
from drc_jax.inference import infer, sample_prior
from drc_jax.zoo.models import load_pretrained
from tests.helpers.small import small_card
from tests.helpers.starting import start

STEPS = 2  # chains amplify rounding, so that long ones differ between any two programs

# In a process of its own, isolated from this folder's packages.
ELSEWHERE = """
import sys
sys.modules["drc_jax"] = None  # so that importing it fails
import numpy as np
from jax import export
try:
    import drc_jax
except ImportError:
    pass
else:
    raise SystemExit("drc_jax was found")
program = export.deserialize(open("model.stablehlo", "rb").read())
regions = program.call(np.load("images.npy"), np.uint32(3))
np.savez("found.npz", **regions)
"""


def test_it_finds_the_same_masks_without_the_package(tmp_path):
    done = start(
        "export",
        "--model=flowers17",
        f"--output={tmp_path / 'model.stablehlo'}",
        "--batch_size=2",
        f"--num_steps={STEPS}",
        "--platform=cpu",
        "--platform=cuda",
    )
    assert done.returncode == 0, done.stderr
    assert f"{STEPS} steps for 2 images of 32x32 on cpu, cuda" in done.stdout
    run = load_pretrained("flowers17")
    model, params = run.config.model, run.params
    drawn = sample_prior(model, params, jax.random.key(7), num_samples=2, num_steps=5)
    images = to_uint8(np.asarray(drawn.reconstruction))
    np.save(tmp_path / "images.npy", images)
    command = [sys.executable, "-I", "-c", ELSEWHERE]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

    sampler = run.config.sampler
    options = dict(num_steps=STEPS, step_size=sampler.posterior_step_size)
    options |= dict(mask_from=sampler.test_mask_from, drift_limit=sampler.drift_limit)
    with np.load(tmp_path / "found.npz") as found:
        expected = infer(run.config.test_model, params, jax.random.key(3), images, **options)
        for name in ("foreground_weight", "reconstruction", "pi"):
            np.testing.assert_allclose(found[name], getattr(expected, name), atol=2e-3)
        masks, others = found["foreground_weight"] > 0.5, expected.foreground_weight > 0.5
        assert np.mean(masks != others) < 0.002 and 0.05 < masks.mean() < 0.95


def test_a_start_that_the_model_lacks_is_refused_before_anything_is_written(tmp_path):
    model = f"--model={small_card(tmp_path)}"
    wrong = start("export", model, f"--output={tmp_path / 'x'}", "--start=encoder")
    assert wrong.returncode == 2 and "has no encoder" in wrong.stderr
    assert not (tmp_path / "x").exists()
