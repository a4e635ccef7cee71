"""experiments.compare as its user starts it: the page, and one line where something is wrong."""

import json

import numpy as np
import pytest

from drc_jax.data.packed.format import Record
from drc_jax.data.packed.writing import write_split
from tests.helpers.starting import ROOT, start

GRABCUT = "configs/baselines/grabcut.py"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder whose name, as the images', is markup: bright squares on noise."""
    root = tmp_path_factory.mktemp("data") / "<b>data"
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        records = []
        for i in range(6):
            image = rng.integers(0, 60, (32, 32, 3), np.uint8)
            mask = np.zeros((32, 32), np.uint8)
            mask[6 + i : 22, 8:20] = 1
            image[mask == 1] = (250, 200 - 20 * i, 10)
            records.append(Record(image, mask, "<img src=x onerror=alert(1)>"))
        write_split(root, split, records, image_size=32, has_masks=True, source={"kind": "made up"})
    return root


def test_a_comparison_is_a_page(tmp_path, data):
    pytest.importorskip("cv2")
    # A config of one's own, in a file whose name is markup too.
    other = tmp_path / "<i>few.py"
    other.write_text(
        (ROOT / GRABCUT).read_text().replace("GrabCutConfig()", "GrabCutConfig(rounds=1)")
    )
    output = tmp_path / "out"
    done = start("compare", f"--configs={GRABCUT},{other}", f"--data={data}", f"--output={output}")
    assert done.returncode == 0, done.stderr
    assert "grabcut 1" in done.stdout and "mean mask (floor)" in done.stdout
    assert "Traceback" not in done.stderr
    values = json.loads((output / "table.json").read_text())
    assert [group["name"] for group in values["groups"]] == ["grabcut 1", "grabcut 2"]
    assert values["groups"][0]["scores"]["fixed"]["iou"]["mean"] > 0.9
    page = (output / "index.html").read_text()
    assert "<i>few" not in page and "&lt;i&gt;few.py" in page and "<b>data" not in page
    assert page.count("data:image/png;base64,") == 5


def test_what_is_wrong_is_one_line(tmp_path, data, monkeypatch):
    (tmp_path / "cv2.py").write_text("raise ImportError('not here')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    output = f"--output={tmp_path / 'out'}"
    for arguments, words in (
        ((f"--configs={GRABCUT}",), "GrabCut needs OpenCV, which is not installed"),
        ((), "give --runs=FOLDER,..., --configs=FILE,... or both"),
    ):
        done = start("compare", *arguments, f"--data={data}", output)
        assert done.returncode == 2
        (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert words in line and "Traceback" not in done.stderr
        assert not (tmp_path / "out").exists()
