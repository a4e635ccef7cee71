"""Tries an installed wheel: it has all of the library, and the README's example runs.

`make wheel-check` starts it with the clean environment's Python, which sees no file of the clone.
"""

import pathlib
import re
import sys

import drc_jax

CLONE = pathlib.Path(__file__).resolve().parents[1]

installed = pathlib.Path(drc_jax.__file__).resolve().parent
assert installed.is_relative_to(pathlib.Path(sys.prefix).resolve()), installed
kinds = (".py", ".typed", ".json", ".npz")
sources = [
    path.relative_to(CLONE / "drc_jax")
    for path in (CLONE / "drc_jax").rglob("*")
    if path.suffix in kinds or path.name == "py.typed"
]
missing = [str(path) for path in sources if not (installed / path).is_file()]
assert sources and not missing, f"the wheel lacks {missing}"

(example,) = re.findall(r"```python\n(.*?)```", (CLONE / "README.md").read_text(), re.DOTALL)
names: dict = {}
exec(compile(example, "README.md", "exec"), names)
assert names["mask"].shape == (2, 16, 16)
run = drc_jax.load_pretrained("flowers17")
assert run.config.image_size == 32
print(f"drc_jax {drc_jax.__version__}: {len(sources)} files, and the README's example runs")
