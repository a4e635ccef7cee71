"""The notebooks run as they stand, with smaller numbers, and show what their code has shown."""

import pathlib
import re

import pytest

from docs.run_notebooks import FOLDER, NAMES, digest

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # of Jupyter's packages

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
    assert set(SMALLER) == set(NAMES) == {path.stem for path in FOLDER.glob("*.ipynb")}
    shown = {}
    for name in NAMES:
        if name == "compose":
            pytest.importorskip("blackjax")
        notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
        for stands, instead in SMALLER[name].items():
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


@pytest.mark.parametrize("name", NAMES)
def test_the_outputs_are_those_of_the_code(name: str) -> None:
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    told = "python docs/run_notebooks.py runs the notebooks again"
    assert notebook.metadata.get("code_sha256") == digest(notebook), told
    kinds = [
        kind
        for cell in notebook.cells
        for out in cell.get("outputs", ())
        for kind in out.get("data", ())
    ]
    assert kinds.count("image/png") >= 2
