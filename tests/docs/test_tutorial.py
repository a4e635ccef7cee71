"""The tutorial's blocks run as they stand, with smaller numbers."""

import pathlib
import re

import numpy as np
import pytest

TUTORIAL = pathlib.Path(__file__).resolve().parents[2] / "docs" / "tutorial.md"
SMALLER = {
    "NUM_IMAGES = 300": "NUM_IMAGES = 16",
    "ITERATIONS = 300": "ITERATIONS = 2",
    "TEST_STEPS = 200": "TEST_STEPS = 2",
    "posterior_steps=20": "prior_steps=2, posterior_steps=2",
    "size=16, num_train": "size=8, num_train",
    "generator_channels=(32, 32, 16)": "generator_channels=(4, 4)",
    "classifier_channels=(16, 32)": "classifier_channels=(4,)",
}


def test_the_tutorial_runs(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", TUTORIAL.read_text(), flags=re.DOTALL)
    source = "\n".join(blocks)
    for stands, smaller in SMALLER.items():
        assert source.count(stands) == 1, stands
        source = source.replace(stands, smaller)
    names: dict = {}
    exec(compile(source, "tutorial.md", "exec"), names)

    assert names["predicted"].shape == (32, 8, 8)
    assert int(names["state"].step) == 1
    assert np.isfinite(float(names["metrics"]["mean_pi_foreground"]))
    assert "fixed IoU" in capsys.readouterr().out
    assert (tmp_path / "tutorial.png").stat().st_size > 1000
