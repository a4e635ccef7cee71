"""What a run asks of where it keeps what belongs to images, as DRC's chains.

A store holds a pytree of arrays [N, 2, ...], one entry per (image, mirrored or not). A method that
keeps nothing per image has the empty pytree ``()``, and the same code.
"""

import abc
import pathlib
from collections.abc import Callable, Iterator, Mapping
from concurrent import futures
from typing import Any

import numpy as np

from drc_jax.runs.method import PerImage

Batch = Mapping[str, np.ndarray]
"""``image``, ``index`` and ``flip``, as ``train_batches`` gives them."""
Placed = Mapping[str, Any]
"""A batch whose images lie on the devices."""
CopyFiles = Callable[[pathlib.Path], futures.Future[None]]
"""Starts to copy files into a folder to make; the future raises OSError as on a full disk."""


class ChainStore(abc.ABC):
    """Whole once it is opened.

    For every batch ``feed`` gives it with its chains, and ``put`` takes the chains after its step,
    before the next batch is asked for.
    """

    @abc.abstractmethod
    def feed(self, batches: Iterator[Batch]) -> Iterator[tuple[Placed, PerImage]]:
        """Puts batches on the devices and adds their images' chains, [B, ...] each."""

    @abc.abstractmethod
    def put(self, batch: Placed, chains: PerImage) -> None:
        """Takes the chains of a batch after its step."""

    @abc.abstractmethod
    def first(self, count: int) -> PerImage:
        """The chains [count, ...] of the first images, not mirrored, on one own device."""

    def on_host(self) -> PerImage | None:
        """All chains as NumPy arrays, to be saved with the state; None where files have them."""
        return None

    def file_copier(self) -> CopyFiles | None:
        """Copies the files that a checkpoint needs, as they are after the last ``put``."""
        return None

    def close(self) -> None:
        """Gives back what the store holds; called once."""
        return None
