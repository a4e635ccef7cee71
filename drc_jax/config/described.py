"""What can be set: every field of a config with its meaning, type, default and bounds.

The meaning stands once, in the docstring of the field's dataclass; bounds and choices stand beside
the field.
"""

import dataclasses
import inspect
import re
import textwrap
from collections.abc import Sequence
from typing import Any, NamedTuple

from drc_jax.config.fields import bound_text, field_types

_ENTRY = re.compile(r"  (?P<names>\w+(?:, \w+)*): (?P<text>.*)")
_WIDTH = 88  # of the text on a terminal, without its indent


class Described(NamedTuple):
    """One field.

    Attributes:
      name: with those of the groups around it, as on the command line: ``model.zf_dim``.
      value: what this config has.
      default: what a config has that does not set it.
      allowed: its type, and its bounds or choices, in words.
      meaning: from the docstring.
    """

    name: str
    value: Any
    default: Any
    allowed: str
    meaning: str


def describe(config: Any) -> list[Described]:
    """Every field of a frozen config, in the order of its dataclasses, groups taken apart."""
    return _describe(config, type(config)(), "")


def _describe(config: Any, default: Any, prefix: str) -> list[Described]:
    kinds, texts = field_types(type(config)), _meanings(type(config))
    found = []
    for f in dataclasses.fields(config):
        name, value, usual = f"{prefix}{f.name}", getattr(config, f.name), getattr(default, f.name)
        if dataclasses.is_dataclass(value):
            found += _describe(value, usual, f"{name}.")
        else:
            allowed = _allowed(kinds[f.name], f.metadata)
            found.append(Described(name, value, usual, allowed, texts.get(f.name, "")))
    return found


def _meanings(cls: type) -> dict[str, str]:
    """What the docstrings of a dataclass and of its bases say of its fields.

    An entry may name several fields; each gets its text.
    """
    texts: dict[str, list[str]] = {}
    for each in reversed(cls.__mro__):
        if not dataclasses.is_dataclass(each):
            continue
        _, _, section = inspect.cleandoc(each.__doc__ or "").partition("\nAttributes:\n")
        names: list[str] = []
        for line in section.splitlines():
            entry = _ENTRY.fullmatch(line)
            if entry:
                names = entry["names"].split(", ")
                texts |= {name: [entry["text"]] for name in names}
            elif line.startswith("    "):
                for name in names:
                    texts[name].append(line.strip())
    return {name: " ".join(lines) for name, lines in texts.items()}


def _allowed(kind: Any, metadata: Any) -> str:
    """A field's type and bounds in words: ``int from 1 to 65536``."""
    if metadata.get("choices"):
        return f"{' or '.join(metadata['choices'])}"
    name = "tuple of int" if kind == tuple[int, ...] else kind.__name__
    least, most = metadata.get("least"), metadata.get("most")
    if kind is str:
        return f"{name} of at most {most} letters" if most is not None else name
    if least is not None and most is not None:
        return f"{name} from {bound_text(least)} to {bound_text(most)}"
    if least is not None:
        return f"{name} of at least {bound_text(least)}"
    return f"{name} of at most {bound_text(most)}" if most is not None else name


def listing(config: Any) -> str:
    """Every field for a terminal: a line with value and bounds, and its meaning below."""
    parts = []
    for field in describe(config):
        usual = f"; default {field.default!r}" if field.value != field.default else ""
        parts.append(f"{field.name} = {field.value!r}   ({field.allowed}{usual})")
        parts.append(textwrap.indent(textwrap.fill(field.meaning, _WIDTH), "    "))
    return "\n".join(parts)


def table(config: Any) -> str:
    """Every field as a Markdown table."""
    rows = ["| field | default | may be | meaning |", "|---|---|---|---|"]
    for field in describe(config):
        meaning = field.meaning.replace("``", "`").replace("|", "\\|")
        rows.append(f"| `{field.name}` | `{field.default!r}` | {field.allowed} | {meaning} |")
    return "\n".join(rows)


def differences(config: Any) -> Sequence[str]:
    """``name=value`` for every field that is not at its default."""
    return [f"{f.name}={f.value!r}" for f in describe(config) if f.value != f.default]
