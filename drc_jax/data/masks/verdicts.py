"""Verdicts on detected masks, kept in a file: detecting takes hours and may be interrupted."""

import base64
import json
import pathlib
import zlib
from typing import Any

import numpy as np

from drc_jax.data.masks.filters import Verdict
from drc_jax.errors import UserError


class Verdicts:
    """The verdicts on a split's pictures.

    The file's first line holds the settings, every other a picture's name and verdict. A line that
    a kill has cut short is dropped.
    """

    def __init__(self, path: pathlib.Path, settings: dict[str, Any], size: int) -> None:
        """Opens the file, or starts it.

        Args:
          path: the file.
          settings: everything the verdicts depend on beside the picture, JSON only.
          size: side S of the masks in pixels.

        Raises:
          UserError: if the file was made with other settings.
        """
        self._size = size
        self._known: dict[str, dict[str, Any]] = {}
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        lines = [line for line in lines if line.endswith(b"\n")]
        if lines and json.loads(lines[0]) != settings:
            raise UserError(
                f"{path} was made with other settings or weights; delete {path.parent} to detect "
                "again, or choose another output folder"
            )
        for line in lines[1:]:
            entry = json.loads(line)
            self._known[entry["name"]] = entry
        self._file = open(path, "ab")
        self._file.truncate(sum(map(len, lines)))
        if not lines:
            self._write(settings)

    def __enter__(self) -> "Verdicts":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def get(self, name: str) -> Verdict | None:
        """The verdict on a picture; None if it has not been judged yet."""
        entry = self._known.get(name)
        if entry is None:
            return None
        mask = None
        if entry["mask"] is not None:
            bits = np.frombuffer(zlib.decompress(base64.b64decode(entry["mask"])), np.uint8)
            pixels = self._size**2
            mask = np.unpackbits(bits, count=pixels).reshape(self._size, self._size)
        return Verdict(entry["reason"], entry["detail"], mask)

    def add(self, name: str, verdict: Verdict) -> None:
        """Keeps the verdict on a picture."""
        mask = None
        if verdict.mask is not None:
            mask = base64.b64encode(zlib.compress(np.packbits(verdict.mask).tobytes())).decode()
        entry = {"name": name, "reason": verdict.reason, "detail": verdict.detail, "mask": mask}
        self._write(entry)

    def _write(self, value: dict[str, Any]) -> None:
        self._file.write(json.dumps(value).encode() + b"\n")
        self._file.flush()
