"""The ``--config`` flag: a config file and overrides in, a frozen dataclass out.

A file whose ConfigDict has an entry ``method`` configures that method, any other file DRC.
"""

import dataclasses
import importlib.util
import pathlib
import re
import traceback
import typing
from collections.abc import Sequence

from absl import flags
from ml_collections import ConfigDict, config_flags

from drc_jax.config import RunConfig, TrainConfig, described, from_dict
from drc_jax.config.fields import check_known, field_types, nearest
from drc_jax.errors import UserError
from drc_jax.files import shown
from drc_jax.runs import method as methods

# So that a program's --help lists the flag as its own.
flags.disclaim_key_flags()

CONFIGS = pathlib.Path("configs")


def define(*, required: bool = True) -> flags.FlagHolder:
    """Defines the flag ``--config``; call it once, at a program's top level."""
    holder = config_flags.DEFINE_config_file(
        "config",
        None,
        "The config, a file such as configs/tiny.py. Set a field of it with a flag after this one, "
        "as in --config.model.zf_dim=64; --config.help lists all fields.",
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


def from_file(path: str) -> typing.Any:
    """The frozen config of a file, for programs that take several of them.

    Raises:
      UserError: where the file is broken; see also `frozen`.
    """
    return frozen(_load(pathlib.Path(path)))


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


def field_help(argv: Sequence[str]) -> str | None:
    """What ``--config.help`` shows: every field of the config file before it, or of DRC's config.

    Args:
      argv: the command line.

    Returns:
      The text; None where the command line does not ask for it.

    Raises:
      UserError: where the config file is missing or broken.
    """
    if not any(re.fullmatch(r"--?config\.help", argument) for argument in argv):
        return None
    paths = [
        match["path"] or "".join(argv[position + 1 : position + 2])
        for position, argument in enumerate(argv)
        if (match := re.fullmatch(r"--?config(?:=(?P<path>.*))?", argument))
    ]
    config = from_file(paths[-1]) if paths else TrainConfig()
    title = f"Fields of {paths[-1] if paths else 'the config of drc'}"
    return f"{title}; set one as in --config.seed=1\n\n{described.listing(config)}"


def _type_of(config: ConfigDict) -> type:
    return methods.find(config.get("method", "drc")).config_type


def check_arguments(argv: Sequence[str]) -> list[str]:
    """Finds a missing or broken config file or a misspelt field before ml_collections does.

    Args:
      argv: the command line.

    Returns:
      The command line in which no tuple is set twice: the last one counts, as for any flag, where
      ml_collections would join them.

    Raises:
      UserError: naming the file and line, or the field.
    """
    path: str | None = None
    kind: type = TrainConfig
    given: dict[str, range] = {}
    superseded: set[int] = set()
    for position, argument in enumerate(argv):
        match = re.fullmatch(r"--?(?:no)?config(?P<field>\.[^=]*)?(?:=(?P<value>.*))?", argument)
        if match is None:
            continue
        if match["field"] is None:
            path = match["value"] or "".join(argv[position + 1 : position + 2])
            kind = _type_of(_load(pathlib.Path(path)))
        elif path is None:
            raise UserError(f"give --config=configs/NAME.py before {argument}")
        else:
            name = match["field"][1:]
            if typing.get_origin(_field_type(name, kind)) is tuple:
                superseded.update(given.get(name, ()))
                length = 2 if match["value"] is None else 1
                given[name] = range(position, position + length)
    return [argument for i, argument in enumerate(argv) if i not in superseded]


def _load(path: pathlib.Path) -> ConfigDict:
    """What a config file returns; UserError naming file and line where it is broken."""
    try:
        is_config = path.suffix == ".py" and path.is_file()
    except OSError:  # a name that is too long
        is_config = False
    if not is_config:
        known = sorted(str(p) for p in CONFIGS.rglob("*.py"))
        raise UserError(
            f"--config={shown(path)} is not a Python file; there are "
            f"{', '.join(known) or 'none in ./configs'}{nearest(shown(path), known)}"
        )
    spec = importlib.util.spec_from_file_location("_config_file", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        get_config = getattr(module, "get_config", None)
        config = get_config() if callable(get_config) else None
    except Exception as error:
        raise UserError(_mistake(path, error)) from None
    if not callable(get_config):
        raise UserError(
            f"{path} has no function get_config; write one that returns a ConfigDict, as "
            "configs/tiny.py has"
        )
    if not isinstance(config, ConfigDict):
        raise UserError(
            f"get_config of {path} must return a ConfigDict, got {type(config).__name__}"
        )
    return config


def _mistake(path: pathlib.Path, error: Exception) -> str:
    """One line that says where in a config file an error arose, and what it is."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}: {error.msg}"
    frames = traceback.extract_tb(error.__traceback__)
    here = [frame for frame in frames if pathlib.Path(frame.filename) == path]
    place = f"{path}:{here[-1].lineno}" if here else str(path)
    text = error.args[0] if error.args and isinstance(error.args[0], str) else str(error)
    unknown = re.search(r'Key "(.*?)" does not exist', text)
    if unknown is not None:
        meant = re.search(r'Did you mean "(.*?)"', text)
        return (
            f"{place}: there is no config field {unknown[1]}"
            f"{f'; did you mean {meant[1]!r}?' if meant else ''}"
        )
    return f"{place}: {type(error).__name__}: {(text.splitlines() or [''])[0][:300]}"


def _field_type(name: str, kind: typing.Any) -> typing.Any:
    """The type of a dotted name among the fields of a config dataclass.

    Raises:
      UserError: if there is no such field, or it is a group of fields.
    """
    parts = name.split(".")
    for i, part in enumerate(parts):
        prefix = "".join(f"{parent}." for parent in parts[:i])
        if not dataclasses.is_dataclass(kind):
            raise UserError(f"unknown config field {name}: {prefix[:-1]} has no fields of its own")
        known = field_types(typing.cast(type, kind))
        check_known(part, known, prefix, "".join(f".{later}" for later in parts[i + 1 :]))
        kind = known[part]
    if dataclasses.is_dataclass(kind):
        raise UserError(f"--config.{name} is a group of fields; set one of them, not all at once")
    return kind
