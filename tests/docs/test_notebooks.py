"""The notebooks run as they stand, with smaller numbers."""

import pathlib
import re

import pytest

from tests.helpers.starting import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # of Jupyter's packages

FOLDER = ROOT / "docs" / "notebooks"
# In this order: the last reads the run of the one before.
SMALLER = {
    "compose": {"STEPS = 200": "STEPS = 4"},
    "own_folder": {
        "NUM_PICTURES = 256": "NUM_PICTURES = 24",
        "ITERATIONS = 100": "ITERATIONS = 4",
        "TEST_STEPS = 100": "TEST_STEPS = 2",
        "posterior_steps=20": "prior_steps=2, posterior_steps=2",
        "size=16, test": "size=8, test",
        "generator_channels=(32, 32, 16)": "generator_channels=(4, 4)",
        "classifier_channels=(16, 32)": "classifier_channels=(4,)",
        "batch_size=16": "batch_size=4",
    },
    "curves": {},
}


def test_the_notebooks_run(tmp_path: pathlib.Path) -> None:
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    assert set(SMALLER) == {path.stem for path in FOLDER.glob("*.ipynb")}
    shown = {}
    for name, smaller in SMALLER.items():
        if name == "compose":
            pytest.importorskip("blackjax")
        notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
        for stands, instead in smaller.items():
            cells = [cell for cell in notebook.cells if stands in cell.source]
            assert len(cells) == 1 and cells[0].source.count(stands) == 1, stands
            cells[0].source = cells[0].source.replace(stands, instead)
        place = {"metadata": {"path": str(tmp_path)}}
        nbclient.NotebookClient(notebook, timeout=600, resources=place).execute()
        outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
        shown[name] = "".join(output.get("text", "") for output in outputs)
        assert sum("image/png" in output.get("data", {}) for output in outputs) >= 2, name
    assert len(re.findall(r"^delta \S+: \d+% accepted", shown["compose"], re.MULTILINE)) == 3
    assert "fixed" in shown["own_folder"] and "1 picture done" in shown["own_folder"]
    assert "heldout_iou" in shown["curves"]
    assert (tmp_path / "cut_outs" / "masks" / "000.png").is_file()
