"""Fields of frozen dataclasses: checked types and ranges, to and from nested mappings."""

import dataclasses
import math
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from drc_jax.errors import UserError

T = TypeVar("T")


def _coerced(name: str, value: Any, kind: Any) -> Any:
    """Returns ``value`` as ``kind`` or raises UserError naming the field."""
    if dataclasses.is_dataclass(kind):
        if isinstance(value, typing.cast(type, kind)):
            return value
    elif kind is bool:
        if isinstance(value, bool):
            return value
    elif kind is int:
        if not isinstance(value, bool) and hasattr(value, "__index__"):
            return int(value)
    elif kind is float:
        if not isinstance(value, (bool, str)) and hasattr(value, "__float__"):
            if math.isfinite(float(value)):
                return float(value)
            raise UserError(f"{name} must be finite, got {value!r}")
    elif kind is str:
        if isinstance(value, str):
            return value
    elif kind == tuple[int, ...]:
        if isinstance(value, (tuple, list)):
            return tuple(_coerced(f"{name}[{i}]", v, int) for i, v in enumerate(value))
    else:
        raise TypeError(f"config field {name} has a type this module does not check: {kind}")
    wanted = getattr(kind, "__name__", str(kind)) if not hasattr(kind, "__args__") else str(kind)
    raise UserError(f"{name} must be of type {wanted}, got {value!r} ({type(value).__name__})")


def check_types(config: Any) -> None:
    """Checks and normalises every field of a frozen dataclass in place.

    Raises:
      UserError: naming the first field that is not of its annotated type.
    """
    hints = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        value = _coerced(field.name, getattr(config, field.name), hints[field.name])
        object.__setattr__(config, field.name, value)


def check_at_least(config: Any, smallest: float, *names: str) -> None:
    """Raises UserError where a field, or an entry of a tuple, is below ``smallest``."""
    for name in names:
        value = getattr(config, name)
        for item in value if isinstance(value, tuple) else (value,):
            if item < smallest:
                raise UserError(f"{name} must be at least {smallest:g}, got {value!r}")


def check_positive(config: Any, *names: str) -> None:
    """Raises UserError where a field is not greater than 0."""
    for name in names:
        if getattr(config, name) <= 0:
            raise UserError(f"{name} must be greater than 0, got {getattr(config, name)!r}")


def check_choice(config: Any, name: str, choices: tuple[str, ...]) -> None:
    """Raises UserError where a field is none of ``choices``."""
    value = getattr(config, name)
    if value not in choices:
        raise UserError(f"{name} must be one of {', '.join(choices)}; got {value!r}")


def from_dict(cls: type[T], values: Mapping[str, Any], prefix: str = "") -> T:
    """Builds a config dataclass from nested mappings.

    Args:
      cls: a config dataclass.
      values: field names to values; nested mappings for nested dataclasses. Absent fields keep
        their defaults.
      prefix: path of ``values`` inside the whole config, for messages.

    Returns:
      An instance of ``cls``.

    Raises:
      UserError: on an unknown field, a wrong type or a value out of range; the message starts
        with the field's full name.
    """
    hints = typing.get_type_hints(cls)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise UserError(
            f"unknown config field {prefix}{unknown[0]}; {prefix or 'the config '}has "
            f"{', '.join(sorted(hints))}"
        )
    fields = {}
    for name, value in values.items():
        if dataclasses.is_dataclass(hints[name]) and isinstance(value, Mapping):
            fields[name] = from_dict(hints[name], value, f"{prefix}{name}.")
        else:
            fields[name] = value
    try:
        return cls(**fields)
    except UserError as error:
        if prefix and not str(error).startswith(prefix):
            raise UserError(f"{prefix}{error}") from None
        raise


def to_dict(config: Any) -> dict[str, Any]:
    """The nested plain dict of a config; tuples stay tuples."""
    return dataclasses.asdict(config)


def differing_fields(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Lines ``name: old -> new`` for every leaf in which two config dicts differ."""
    lines = []
    for name in sorted(set(old) | set(new)):
        a, b = old.get(name), new.get(name)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            lines += differing_fields(a, b, f"{prefix}{name}.")
        elif (list(a) if isinstance(a, tuple) else a) != (list(b) if isinstance(b, tuple) else b):
            lines.append(f"{prefix}{name}: {a!r} -> {b!r}")
    return lines
