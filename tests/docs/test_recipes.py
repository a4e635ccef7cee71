"""The code of docs/recipes.md runs as it stands."""

import pathlib
import re

import numpy as np

PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "recipes.md"


def test_the_recipes_run():
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    assert len(blocks) == 6
    names: dict = {}
    seen = []
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
        if "metrics" in names:
            values = {name: float(value) for name, value in names.pop("metrics").items()}
            assert np.isfinite(list(values.values())).all()
            seen.append(values)
    assert len(seen) == 4 and seen[1]["misfit"] > 0 and seen[2]["ebm_loss"] == 0
