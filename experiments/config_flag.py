"""The ``--config`` flag: a config file and overrides in, a frozen ``TrainConfig`` out."""

import dataclasses
import pathlib
import re
import typing
from collections.abc import Sequence

from absl import flags
from ml_collections import ConfigDict, config_flags

from drc_jax.config import TrainConfig, from_dict
from drc_jax.errors import UserError

# So that a program's --help lists the flag as its own.
flags.disclaim_key_flags()

CONFIGS = pathlib.Path("configs")


def define(*, required: bool = True) -> flags.FlagHolder:
    """Defines the flag ``--config``; call it once, at a program's top level."""
    holder = config_flags.DEFINE_config_file(
        "config",
        None,
        "The config, a file such as configs/tiny.py. Set a field of it with a flag after this one, "
        "as in --config.model.zf_dim=64; drc_jax/config.py documents the fields.",
    )
    if required:
        flags.mark_flag_as_required("config")
    return holder


def train_config(config: ConfigDict) -> TrainConfig:
    """The frozen form of a config file's ConfigDict.

    Raises:
      UserError: on a value of the wrong type or out of range, naming the field.
    """
    return from_dict(TrainConfig, config.to_dict())


def check_arguments(argv: Sequence[str]) -> None:
    """Finds a missing config file or a misspelt field before ml_collections trips over it.

    Args:
      argv: the command line.

    Raises:
      UserError: naming the file or the field.
    """
    path = None
    for position, argument in enumerate(argv):
        match = re.fullmatch(r"--?(?:no)?config(?P<field>\.[^=]*)?(?:=(?P<value>.*))?", argument)
        if match is None:
            continue
        if match["field"] is None:
            path = match["value"] or "".join(argv[position + 1 : position + 2])
            _check_file(pathlib.Path(path))
        elif path is None:
            raise UserError(f"give --config=configs/NAME.py before {argument}")
        else:
            _check_field(match["field"][1:])


def _check_file(path: pathlib.Path) -> None:
    if path.is_file() and path.suffix == ".py":
        return
    known = ", ".join(sorted(str(p) for p in CONFIGS.rglob("*.py")))
    raise UserError(
        f"--config={path} is not a Python file; there are {known or 'none in ./configs'}"
    )


def _check_field(name: str) -> None:
    """Walks a dotted name through the fields of ``TrainConfig``."""
    kind: typing.Any = TrainConfig
    parts = name.split(".")
    for i, part in enumerate(parts):
        prefix = ".".join(parts[:i])
        if not dataclasses.is_dataclass(kind):
            raise UserError(f"unknown config field {name}: {prefix} has no fields of its own")
        hints = typing.get_type_hints(kind)
        if part not in hints:
            raise UserError(
                f"unknown config field {name}; {prefix or 'the config'} has "
                f"{', '.join(sorted(hints))}"
            )
        kind = hints[part]
    if dataclasses.is_dataclass(kind):
        raise UserError(f"--config.{name} is a group of fields; set one of them, not all at once")
