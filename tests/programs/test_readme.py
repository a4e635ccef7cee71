"""The README's example runs as it stands."""

import pathlib
import re

import drc_jax

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_the_api_example_runs():
    text = (ROOT / "README.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    names: dict = {}
    exec(compile(example, "README.md", "exec"), names)
    assert names["mask"].shape == (2, 16, 16)
    assert set(names["aux"]) >= {"log_likelihood", "total_variation", "orthogonality"}


def test_every_public_name_exists():
    for name in drc_jax.__all__:
        assert hasattr(drc_jax, name), name
