"""A run's folder: what it holds, whose it is, and whether training may go on in it.

config.json             the method, its whole config and the fingerprint of the training images;
                        where it is lost, the newest checkpoint's copy serves
checkpoints/<step>/     see `saved`; each has a copy of config.json
damaged_checkpoints/    what was found damaged
metrics.jsonl           one JSON object per logged step
metrics.damaged.jsonl   lines of it that could not be read
tensorboard/            the same numbers for TensorBoard
images/step_<step>.png  picture grids
chain_banks/            the chains of a run that has them in files, while it is going on
"""

import contextlib
import json
import pathlib
from collections.abc import Iterator
from typing import Any, TypeVar

from drc_jax import files
from drc_jax.config import differing_fields, from_dict, to_dict
from drc_jax.errors import UserError
from drc_jax.files import write_atomically
from drc_jax.runs import chain_files, saved

T = TypeVar("T")

CONFIG_FILE = saved.CONFIG_FILE
LOG_FILE = "metrics.jsonl"
BOARD_FOLDER = "tensorboard"
_FOLDERS = (
    saved.FOLDER,
    saved.DAMAGED_FOLDER,
    BOARD_FOLDER,
    "images",
    chain_files.FOLDER,
)
_MAY_CHANGE = (
    "iterations",
    "log_every",
    "image_every",
    "checkpoint_every",
    "keep_checkpoints",
    "eval_every",
    "eval_images",
    "eval_steps",
)


def _stored(workdir: pathlib.Path) -> dict[str, Any]:
    """What config.json holds."""
    path = workdir / CONFIG_FILE
    try:
        exists = path.is_file()
    except OSError as error:
        raise UserError(
            f"cannot use --workdir {files.shown(workdir)}: {files.reason(error)}"
        ) from None
    copy = None if exists else _newest_copy(workdir)
    if not exists and copy is None:
        raise UserError(
            f"{workdir} is not a training folder: it has no {CONFIG_FILE}; give the --workdir of "
            "an `experiments.train` run"
        )
    try:
        stored = copy or json.loads(path.read_bytes())
        return {
            "method": str(stored.get("method", "drc")),  # runs of before have no such entry
            "config": dict(stored["config"]),
            "data_fingerprint": str(stored["data_fingerprint"]),
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is not a config this version can read: {error}") from None


def _newest_copy(workdir: pathlib.Path) -> dict[str, Any] | None:
    """The config.json that the newest checkpoint has a copy of; None without one."""
    copies = (saved.saved_config(workdir, step) for step in reversed(saved.saved_steps(workdir)))
    return next((copy for copy in copies if copy is not None), None)


def method_name(workdir: pathlib.Path) -> str:
    """Which method the run in ``workdir`` trains.

    Raises:
      UserError: if the folder is not a run's, or its config cannot be read.
    """
    return _stored(workdir)["method"]


def load_config(workdir: pathlib.Path, config_type: type[T]) -> T:
    """The config of the run in ``workdir``, of the given dataclass.

    Raises:
      UserError: if the folder is not a run's, its config cannot be read, or it is not the one with
        which the checkpoints were trained. How long to train and how often to log, draw and save
        may differ, and where the data lie.
    """
    stored = _stored(workdir)
    config = _parsed(workdir / CONFIG_FILE, stored, config_type)
    _check_checkpoints(workdir, config, stored["data_fingerprint"])
    return config


def _parsed(path: pathlib.Path, stored: dict[str, Any], config_type: type[T]) -> T:
    """The config in what a config.json holds."""
    try:
        return from_dict(config_type, stored["config"])
    except UserError as error:
        raise UserError(f"{path} is not a config this version can read: {error}") from None


def _check_checkpoints(workdir: pathlib.Path, config: Any, fingerprint: str) -> None:
    """Refuses a config that is not the one with which the run's checkpoints were trained.

    Checkpoints of older versions, which do not say how they were trained, are let pass.
    """
    for step in saved.saved_steps(workdir):
        stored = saved.saved_config(workdir, step)
        if stored is None:
            continue
        path = workdir / saved.FOLDER / str(step) / CONFIG_FILE
        trained = _parsed(path, stored, type(config))
        different = differing_fields(
            _identity(trained, stored["data_fingerprint"]), _identity(config, fingerprint)
        )
        if different:
            raise UserError(
                f"{workdir / CONFIG_FILE} is not the config that the checkpoint of step {step} was "
                f"trained with; undo: {'; '.join(different)}"
            )


def _check_kinds(workdir: pathlib.Path) -> None:
    """Refuses a file where a run has a folder, and a folder where it has a file."""
    for name in _FOLDERS:
        if (workdir / name).exists() and not (workdir / name).is_dir():
            raise UserError(f"{workdir / name} is a file, and a run has a folder of that name")
    for name in (CONFIG_FILE, LOG_FILE):
        if (workdir / name).exists() and not (workdir / name).is_file():
            raise UserError(f"{workdir / name} is not a file, and a run has a file of that name")


def _identity(config: Any, fingerprint: str) -> dict[str, Any]:
    """The part of a config that a run keeps for life.

    The place of the data is no part of it: the fingerprint says whether they are the same.
    """
    fields = {name: value for name, value in to_dict(config).items() if name not in _MAY_CHANGE}
    fields["data"] = {**fields["data"], "fingerprint": fingerprint}
    del fields["data"]["path"]
    return fields


def identity(workdir: pathlib.Path, config: Any) -> dict[str, Any]:
    """What makes the run in ``workdir`` this run: its config without what may change, its images.

    Raises:
      UserError: if the folder is not a run's.
    """
    return _identity(config, _stored(workdir)["data_fingerprint"])


@contextlib.contextmanager
def claimed(workdir: pathlib.Path, config: Any, fingerprint: str) -> Iterator[None]:
    """Makes ``workdir`` this run's, or checks that it is, and holds it until the block ends.

    A new or empty folder gets a ``config.json``. In the folder of an earlier run, the model,
    data, sampler, optimizer, batch size and seed must be the same; the number of iterations and
    how often to log, draw, score and save may change, and are stored anew.

    Args:
      workdir: the folder; made where missing.
      config: the run's config.
      fingerprint: digest of the training images.

    Raises:
      UserError: if the folder holds other files, or a run with another config or other images,
        or if another process is training in it. Nothing is written then.
    """
    try:
        if workdir.exists() and not workdir.is_dir():
            raise UserError(f"--workdir {workdir} is a file; give a folder")
        _check_kinds(workdir)
    except OSError as error:
        raise UserError(
            f"cannot use --workdir {files.shown(workdir)}: {files.reason(error)}"
        ) from None
    # A run killed while it wrote its config leaves a partial file alone.
    leftover = f".{CONFIG_FILE}."
    if workdir.is_dir() and any(not p.name.startswith(leftover) for p in workdir.iterdir()):
        if not (workdir / CONFIG_FILE).is_file() and _newest_copy(workdir) is None:
            raise UserError(
                f"{workdir} holds files but no {CONFIG_FILE}, so it is not a training folder; "
                "give an empty or a new one"
            )
        stored = _stored(workdir)
        if stored["method"] != config.method:
            raise UserError(
                f"{workdir} is a run of {stored['method']}, and this config is for "
                f"{config.method}; choose another --workdir"
            )
        old = _parsed(workdir / CONFIG_FILE, stored, type(config))
        different = differing_fields(
            _identity(old, stored["data_fingerprint"]), _identity(config, fingerprint)
        )
        if different:
            raise UserError(
                f"{workdir} was trained with another config, so it cannot go on with this one; "
                f"choose another --workdir or undo: {'; '.join(different)}"
            )
        _check_checkpoints(workdir, config, fingerprint)
    busy = f"another process is training in {workdir}; wait for it or choose another --workdir"
    with files.locked(workdir, "the run", busy):
        stored = {
            "method": config.method,
            "config": to_dict(config),
            "data_fingerprint": fingerprint,
        }
        text = json.dumps(stored, indent=2)
        write_atomically(workdir / CONFIG_FILE, f"{text}\n".encode())
        yield
