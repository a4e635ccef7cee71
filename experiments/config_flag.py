"""The ``--config`` flag: a config file and overrides in, a frozen dataclass out.

A file whose ConfigDict has an entry ``method`` configures that method, any other file DRC.
"""

import dataclasses
import importlib.util
import pathlib
import re
import typing
from collections.abc import Sequence

from absl import flags
from ml_collections import ConfigDict, config_flags

from drc_jax.config import RunConfig, TrainConfig, from_dict
from drc_jax.errors import UserError
from drc_jax.training import method as methods

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


def frozen(config: ConfigDict) -> typing.Any:
    """The frozen form of a config file's ConfigDict, of its method's type.

    Raises:
      UserError: on a value of the wrong type or out of range, naming the field, and on a method
        that does not exist.
    """
    return from_dict(_type_of(config), {k: v for k, v in config.to_dict().items() if k != "method"})


def run_config(config: ConfigDict) -> RunConfig:
    """``frozen``, for programs that train; UserError where the method is not trained."""
    found = frozen(config)
    if not isinstance(found, RunConfig):
        raise UserError(f"{found.method} is not trained; --config must be of a method that is")
    return found


def train_config(config: ConfigDict) -> TrainConfig:
    """``frozen``, for programs that know DRC alone; UserError where the method is another."""
    found = frozen(config)
    if not isinstance(found, TrainConfig):
        raise UserError(f"this program is for drc, and this config is for {found.method}")
    return found


def _type_of(config: ConfigDict) -> type:
    return methods.find(config.get("method", "drc")).config_type


def check_arguments(argv: Sequence[str]) -> None:
    """Finds a missing config file or a misspelt field before ml_collections trips over it.

    Args:
      argv: the command line.

    Raises:
      UserError: naming the file or the field.
    """
    path: str | None = None
    kind: type = TrainConfig
    for position, argument in enumerate(argv):
        match = re.fullmatch(r"--?(?:no)?config(?P<field>\.[^=]*)?(?:=(?P<value>.*))?", argument)
        if match is None:
            continue
        if match["field"] is None:
            path = match["value"] or "".join(argv[position + 1 : position + 2])
            kind = _config_type(pathlib.Path(path))
        elif path is None:
            raise UserError(f"give --config=configs/NAME.py before {argument}")
        else:
            _check_field(match["field"][1:], kind)


def _config_type(path: pathlib.Path) -> type:
    """The dataclass that a config file is for; UserError where there is no such file."""
    if path.is_file() and path.suffix == ".py":
        spec = importlib.util.spec_from_file_location("_config_file", path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return _type_of(module.get_config())
    known = ", ".join(sorted(str(p) for p in CONFIGS.rglob("*.py")))
    raise UserError(
        f"--config={path} is not a Python file; there are {known or 'none in ./configs'}"
    )


def _check_field(name: str, kind: typing.Any) -> None:
    """Walks a dotted name through the fields of a config dataclass."""
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
