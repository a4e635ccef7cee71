"""Trained models as two small files: NAME.npz with the parameters, NAME.json with their card.

The npz holds one array per parameter, named by its path (``generator/foreground/...``), in half or
single precision, and under ``about`` the method, its config and the iteration as JSON in bytes.
Nothing in it is pickled. The card has the npz's SHA-256, and says in plain text what the model was
trained on, by which command, how it scores and where it fails.
"""

import hashlib
import io
import json
import pathlib
import zipfile
from typing import Any

import jax
import numpy as np

from drc_jax import files
from drc_jax.config import from_dict, to_dict
from drc_jax.config.fields import nearest
from drc_jax.errors import UserError
from drc_jax.runs.method import find
from drc_jax.runs.trained import Run

CARD = ("data", "licence", "command", "seed", "scores", "limits")
"""What every card says, in this order."""

_FOLDER = pathlib.Path(__file__).parent
_ABOUT = "about"
_LEFT_OUT = "classifier"  # serves the loss of training only
_DAMAGED = "; take the files from where you have them once more"


def names() -> list[str]:
    """The models that come with the package, sorted."""
    return sorted(path.stem for path in _FOLDER.glob("*.json"))


def load_pretrained(name: str) -> Run:
    """A trained model, ready for ``run.segment`` or ``drc_jax.infer(run.config.test_model, ...)``.

    Its parameters are those of inference: it cannot be trained further.

    Args:
      name: one of ``drc_jax.zoo.models.names()``, or the path of a card, ``*.json``, that
        `experiments.weights` has written.

    Returns:
      The run: method, config, float32 parameters on the device, and training iterations.

    Raises:
      UserError: if there is no such model, or its files are damaged.
    """
    path = _card_path(name)
    card = read_card(name)
    arrays = _arrays(path.with_suffix(".npz"), card["sha256"])
    try:
        about = json.loads(arrays.pop(_ABOUT).tobytes())
        method = find(about["method"])
        config: Any = from_dict(method.config_type, about["config"])
        step = int(about["step"])
    except (KeyError, ValueError, TypeError, UserError) as error:
        raise UserError(f"{path.stem} is not a model this version can read: {error}") from None
    params = _nested({name: array.astype(np.float32) for name, array in arrays.items()})
    _check_shapes(path.stem, params, jax.eval_shape(lambda: method.fresh_state(config)).params)
    return Run(method, config, jax.device_put(params), step)


def read_card(name: str) -> dict[str, Any]:
    """What is known of a model: the entries of ``CARD`` and ``sha256``.

    Args:
      name: as for ``load_pretrained``.

    Raises:
      UserError: if there is no such model, or its card is damaged.
    """
    path = _card_path(name)
    try:
        card = json.loads(path.read_bytes())
        missing = [key for key in (*CARD, "sha256") if key not in card]
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise UserError(f"the card {path} cannot be read: {error}{_DAMAGED}") from None
    if missing:
        raise UserError(f"the card {path} says nothing of {', '.join(missing)}{_DAMAGED}")
    return card


def export(
    run: Run, output: str | pathlib.Path, card: dict[str, Any], precision: str = "float16"
) -> pathlib.Path:
    """Writes a run's parameters and card, to be read by ``load_pretrained``.

    Args:
      run: from ``load_run``.
      output: the card's file, ``*.json``; the parameters go beside it.
      card: the entries of ``CARD`` but ``seed``, which is the run's; JSON.
      precision: of the parameters on disk, ``float16`` or ``float32``.

    Returns:
      The parameters' file.

    Raises:
      UserError: if the card lacks an entry, a parameter is too large for the precision, or the
        files cannot be written.
    """
    card = {**card, "seed": run.config.seed}
    missing = [key for key in CARD if key not in card]
    if missing:
        raise UserError(f"a card also needs {', '.join(missing)}")
    kept = {name: value for name, value in run.params.items() if name != _LEFT_OUT}
    arrays = {}
    for place, value in jax.tree_util.tree_leaves_with_path(kept):
        name = jax.tree_util.keystr(place, simple=True, separator="/")
        leaf = np.asarray(value)
        if np.abs(leaf).max(initial=0.0) > np.finfo(precision).max:
            raise UserError(f"{name} has values too large for {precision}; take float32")
        arrays[name] = leaf.astype(precision)
    about = {"method": run.method.name, "config": to_dict(run.config), "step": run.step}
    text = json.dumps(about).encode()
    arrays[_ABOUT] = np.frombuffer(text, np.uint8)
    content = io.BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]
    path = files.check_writable_file(output, ".json")
    files.write_atomically(path.with_suffix(".npz"), content.getvalue())
    card = {key: card[key] for key in CARD}
    card["sha256"] = hashlib.sha256(content.getvalue()).hexdigest()
    files.write_atomically(path, f"{json.dumps(card, indent=2)}\n".encode())
    return path.with_suffix(".npz")


def _card_path(name: str) -> pathlib.Path:
    if name.endswith(".json"):
        path = pathlib.Path(name)
        if not path.is_file():
            raise UserError(f"no card {files.shown(name)}; `experiments.weights` writes them")
        return path
    if name not in names():
        raise UserError(
            f"there is no model {files.shown(name)!r}; there are {', '.join(names())}"
            f"{nearest(name, names())}"
        )
    return _FOLDER / f"{name}.json"


def _arrays(path: pathlib.Path, sha256: str) -> dict[str, np.ndarray]:
    """The arrays of an npz whose digest is as the card says."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"the parameters {path} cannot be read: {files.reason(error)}{_DAMAGED}"
        ) from None
    if hashlib.sha256(content).hexdigest() != sha256:
        raise UserError(f"{path} is damaged: its digest is not the card's{_DAMAGED}")
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (ValueError, OSError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is no npz of plain arrays: {error}{_DAMAGED}") from None


def _nested(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, array in arrays.items():
        *folders, last = name.split("/")
        place = tree
        for folder in folders:
            place = place.setdefault(folder, {})
        place[last] = array
    return tree


def _check_shapes(model: str, params: Any, expected: Any) -> None:
    """Refuses parameters that are not those of the model's config."""

    def shapes(tree: Any) -> dict[str, tuple[int, ...]]:
        pairs = jax.tree_util.tree_leaves_with_path(tree)
        return {jax.tree_util.keystr(path): leaf.shape for path, leaf in pairs}

    wanted = shapes({name: tree for name, tree in expected.items() if name != _LEFT_OUT})
    found = shapes(params)
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            raise UserError(
                f"{model} is not a model this version can read: {name} is {found.get(name)} in "
                f"place of {wanted.get(name)}"
            )
