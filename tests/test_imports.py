"""Imports point one way: the order of the rooms in which each file may know those before it."""

import ast
import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "drc_jax"

# Each room may import from itself and from those above it in this list.
LAYERS = [
    {"errors", "config", "files"},
    {"ops", "langevin", "data", "runtime"},
    {"evaluation"},
    {"model"},
    {"inference", "interop", "baselines"},
    {"runs"},
    {"training"},
    {"benchmark", "analysis", "zoo"},
    {"app"},
]
# A room that is for any method knows none of them.
APART = {
    # Of data one module: GrabCut of a picture, with which evaluation refines masks too.
    "baselines": {"baselines", "errors", "config", "files", "ops", "data"},
    "data": {"data", "errors", "config", "files"},
    "evaluation": {"evaluation", "data", "errors", "files"},
    "runtime": {"runtime", "errors"},
}
EDGE_ONLY = {"absl", "ml_collections"}
LATE_ONLY = {
    "tensorflow",
    "tensorflow_datasets",
    "cv2",
    "torchvision",
    "torch",
    "gradio",
    "jax2onnx",
}


def imports(path, *, top_level_only=False):
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def layer_of(room):
    (found,) = [i for i, rooms in enumerate(LAYERS) if room in rooms] or [None]
    assert found is not None, f"drc_jax/{room} has no place in LAYERS"
    return found


def test_data_flows_one_way():
    for path in PACKAGE.rglob("*.py"):
        room = path.relative_to(PACKAGE).with_suffix("").parts[0]
        if room == "__init__":
            continue
        for name in imports(path):
            parts = name.split(".")
            if parts[0] != "drc_jax" or len(parts) < 2:
                continue
            assert layer_of(parts[1]) <= layer_of(room), f"{path} imports {name}"
            assert parts[1] in APART.get(room, {parts[1]}), f"{path} imports {name}"


def test_absl_and_ml_collections_stay_at_the_edge():
    for path in PACKAGE.rglob("*.py"):
        found = {name.split(".")[0] for name in imports(path)} & EDGE_ONLY
        assert not found, f"{path} imports {found}"


def test_heavy_packages_are_imported_where_used():
    for path in PACKAGE.rglob("*.py"):
        found = {name.split(".")[0] for name in imports(path, top_level_only=True)} & LATE_ONLY
        assert not found, f"{path} imports {found} at its top"
