"""Fields of frozen dataclasses: bounds and choices beside each field, checked in one place."""

import dataclasses
import difflib
import math
import typing
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from drc_jax.errors import UserError

T = TypeVar("T")

# The smallest and largest size of a float32 that is held with full precision.
_FLOAT32 = (1.2e-38, 3.4e38)


def field(
    default: Any,
    *,
    least: float | None = None,
    most: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    """A dataclass field with what its values may be; `check` holds them to it.

    Args:
      default: the field's default; hashable.
      least, most: bounds of a number, of each entry of a tuple, or of a string's length.
      choices: the strings that a field of text may be; empty for any.
    """
    return dataclasses.field(
        default=default, metadata={"least": least, "most": most, "choices": choices}
    )


def nearest(name: str, known: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` for the most similar name, or nothing where none is similar."""
    found = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {found[0]!r}?" if found else ""


def check(config: Any) -> None:
    """Checks and normalises every field of a frozen dataclass in place.

    Raises:
      UserError: naming the first field that is not of its annotated type, out of its bounds or
        none of its choices.
    """
    hints = typing.get_type_hints(type(config))
    for f in dataclasses.fields(config):
        value = _coerced(f.name, getattr(config, f.name), hints[f.name])
        _check_bounds(f.name, value, f.metadata.get("least"), f.metadata.get("most"))
        choices = f.metadata.get("choices")
        if choices and value not in choices:
            raise UserError(
                f"{f.name} must be one of {', '.join(choices)}; got {value!r}"
                f"{nearest(value, choices)}"
            )
        object.__setattr__(config, f.name, value)


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
            return _as_float32(name, value)
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


def _as_float32(name: str, value: Any) -> float:
    """``value`` as a Python float; UserError where it is nothing that float32 can hold."""
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise UserError(f"{name} must be finite, got {value!r}")
    smallest, largest = _FLOAT32
    if number and not smallest <= abs(number) <= largest:
        raise UserError(
            f"{name} must be 0 or of a size from {smallest:g} to {largest:g}, which float32 holds; "
            f"got {value!r}"
        )
    return number


def _check_bounds(name: str, value: Any, least: float | None, most: float | None) -> None:
    """Raises UserError where a number, an entry of a tuple or a text's length is out of bounds."""
    if isinstance(value, str):
        if most is not None and len(value) > most:
            raise UserError(f"{name} must have at most {most} letters, got {len(value)}")
        return
    for item in value if isinstance(value, tuple) else (value,):
        if least is not None and item < least:
            raise UserError(f"{name} must be at least {bound_text(least)}, got {value!r}")
        if most is not None and item > most:
            raise UserError(f"{name} must be at most {bound_text(most)}, got {value!r}")


def bound_text(bound: float) -> str:
    """A bound as people write it."""
    return str(bound) if isinstance(bound, int) else f"{bound:g}"


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
    kinds = field_types(cls)
    for name in values:
        check_known(name, kinds, prefix)
    fields = {}
    for name, value in values.items():
        if dataclasses.is_dataclass(kinds[name]) and isinstance(value, Mapping):
            fields[name] = from_dict(kinds[name], value, f"{prefix}{name}.")
        else:
            fields[name] = value
    try:
        return cls(**fields)
    except UserError as error:
        if prefix and not str(error).startswith(prefix):
            raise UserError(f"{prefix}{error}") from None
        raise


def field_types(cls: type) -> dict[str, Any]:
    """The fields of a dataclass, by name, with their types."""
    hints = typing.get_type_hints(cls)
    return {f.name: hints[f.name] for f in dataclasses.fields(cls)}


def check_known(name: str, known: Iterable[str], prefix: str = "", rest: str = "") -> None:
    """Raises UserError where a config has no field ``name``.

    The message names the fields that there are, and the one most like it.

    Args:
      name: the field.
      known: the fields that there are.
      prefix, rest: what stands before and after ``name`` in its full name, dots included.
    """
    if name not in known:
        raise UserError(
            f"unknown config field {prefix}{name}{rest}; {prefix[:-1] or 'the config'} has "
            f"{', '.join(sorted(known))}{nearest(name, known)}"
        )


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
