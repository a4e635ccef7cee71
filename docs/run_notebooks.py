"""Runs the notebooks and keeps what they show in them, for the site and for readers on GitHub.

    python docs/run_notebooks.py

A test says when it is to be done again: a notebook's code is no longer that which was run.
"""

import hashlib
import pathlib
import tempfile
from typing import Any

FOLDER = pathlib.Path(__file__).resolve().parent / "notebooks"
NAMES = ("compose", "own_folder", "curves")
"""In the order in which they run: the last reads the run of the one before."""


def digest(notebook: Any) -> str:
    """Of the code of all cells."""
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    return hashlib.sha256(code.encode()).hexdigest()


def main() -> None:
    """Runs them in an empty folder."""
    import nbclient
    import nbformat

    with tempfile.TemporaryDirectory() as place:
        for name in NAMES:
            path = FOLDER / f"{name}.ipynb"
            notebook = nbformat.read(path, as_version=4)
            resources = {"metadata": {"path": place}}
            nbclient.NotebookClient(
                notebook, timeout=3600, resources=resources, record_timing=False
            ).execute()
            for cell in notebook.cells:
                if cell.cell_type == "code":  # without progress bars and this folder's name
                    cell.outputs = [out for out in cell.outputs if out.get("name") != "stderr"]
                    for out in cell.outputs:
                        if "text" in out:
                            out["text"] = out["text"].replace(f"{place}/", "")
            notebook.metadata["language_info"] = {"name": "python"}
            notebook.metadata["code_sha256"] = digest(notebook)
            nbformat.write(notebook, path)
            print(f"{path}: {path.stat().st_size:,} bytes", flush=True)


if __name__ == "__main__":
    main()
