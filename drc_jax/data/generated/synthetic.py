"""What the generated data sets share: anti-aliased shapes, layouts and worker processes.

Lengths inside a scene are in units of the image side, x to the right and y down, so that a scene
does not depend on the size at which it is drawn.
"""

import collections
import colorsys
import contextlib
import itertools
import multiprocessing
import os
import signal
import threading
import zlib
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Protocol

import numpy as np

from drc_jax.data.packed.format import Record
from drc_jax.errors import UserError

# Signed distance to a shape's outline at points (x, y): negative inside.
Distance = Callable[[np.ndarray, np.ndarray], np.ndarray]

_SUBSAMPLES = 8  # per pixel and axis, on outlines only
_CHUNK = 64  # images per message from a worker process


class Generate(Protocol):
    """Makes the example of one index; the same arguments give the same bytes."""

    def __call__(self, index: int, *, size: int, seed: int, split: str) -> Record: ...


def disc(x0: float, y0: float, radius: float) -> Distance:
    """Signed distance to a disc around (x0, y0)."""
    return lambda x, y: np.hypot(x - x0, y - y0) - radius


def regular_polygon(sides: int, x0: float, y0: float, apothem: float, angle: float) -> Distance:
    """Distance to a regular polygon; below the Euclidean distance beyond corners.

    Args:
      sides: number of sides, at least 3.
      x0, y0: its centre.
      apothem: distance from the centre to each side.
      angle: direction of one side's normal, radians from x towards y.
    """
    normals = angle + 2 * np.pi * np.arange(sides) / sides

    def distance(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        planes = [(x - x0) * np.cos(a) + (y - y0) * np.sin(a) for a in normals]
        return np.maximum.reduce(planes) - apothem

    return distance


def pixel_centres(size: int) -> tuple[np.ndarray, np.ndarray]:
    """x [1, S] and y [S, 1] of the pixel centres of an image of side S."""
    centres = (np.arange(size) + 0.5) / size
    return centres[None, :], centres[:, None]


def coverage(shape: Distance, size: int) -> np.ndarray:
    """The share of every pixel that a shape covers.

    Args:
      shape: the shape.
      size: image side S.

    Returns:
      float64 [S, S] in [0, 1]; on outlines a multiple of 1/64.
    """
    x, y = pixel_centres(size)
    distance = shape(x, y)
    covered = (distance <= 0).astype(np.float64)
    # An outline through a pixel is at most half a diagonal, 0.71 pixels, from its centre.
    rows, columns = np.nonzero(np.abs(distance) < 0.75 / size)
    offsets = ((np.arange(_SUBSAMPLES) + 0.5) / _SUBSAMPLES - 0.5) / size
    inside = (
        shape(
            x[0, columns][:, None, None] + offsets[None, None, :],
            y[rows, 0][:, None, None] + offsets[None, :, None],
        )
        <= 0
    )
    covered[rows, columns] = inside.mean(axis=(1, 2))
    return covered


def paint(image: np.ndarray, covered: np.ndarray, colour: np.ndarray) -> None:
    """Blends a shape into an image, in place.

    Args:
      image: float64 [S, S, 3] in [0, 1].
      covered: the shape's coverage, float64 [S, S] in [0, 1].
      colour: float64 [3] or [S, S, 3] in [0, 1].
    """
    where = covered > 0  # most pixels are background: leave them alone
    colour = colour if colour.ndim == 1 else colour[where]
    image[where] += covered[where][:, None] * (colour - image[where])


def labels(covered: list[np.ndarray], mask: np.ndarray) -> np.ndarray:
    """Which object each foreground pixel belongs to.

    Args:
      covered: the visible part of every object in every pixel, N times float64 [S, S] in [0, 1].
      mask: uint8 [S, S] of 0 and 1, the union of the objects.

    Returns:
      uint8 [S, S], 0 for the background, else the number, from 1, of the object that covers most.
    """
    return mask * (np.argmax(covered, axis=0) + 1).astype(np.uint8)


def place_apart(rng: np.random.Generator, radii: np.ndarray, gap: float) -> np.ndarray | None:
    """Centres of circles that lie inside the unit square and do not overlap.

    Args:
      rng: source of the positions.
      radii: float [N], each below 1/2.
      gap: smallest distance between two circles.

    Returns:
      float [N, 2], uniform among the layouts allowed; None if none was met in 256 tries.
    """
    low = radii[None, :, None]
    centres = low + (1 - 2 * low) * rng.random((256, len(radii), 2))
    good = np.ones(len(centres), bool)
    for i, j in itertools.combinations(range(len(radii)), 2):
        apart = np.linalg.norm(centres[:, i] - centres[:, j], axis=-1)
        good &= apart >= radii[i] + radii[j] + gap
    return centres[np.argmax(good)] if good.any() else None


def rgb(hue: float, saturation: float = 1.0, value: float = 1.0) -> np.ndarray:
    """float64 [3] in [0, 1] from a colour's hue, saturation and value, each in [0, 1]."""
    return np.array(colorsys.hsv_to_rgb(hue, saturation, value))


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Rounds an image in [0, 1] to uint8."""
    return np.rint(255 * image.clip(0, 1)).astype(np.uint8)


def example_rng(seed: int, split: str, index: int) -> np.random.Generator:
    """The generator of one example; splits and indices have unrelated streams."""
    return np.random.default_rng([seed, zlib.crc32(split.encode()), index])


def records(
    generate: Generate, count: int, *, size: int, seed: int, split: str, workers: int
) -> Iterator[Record]:
    """The first ``count`` examples in order, whatever the number of processes.

    Args:
      generate: a module's function (it is sent to the processes by name).
      count: number of examples.
      size: image side in pixels, at least 8.
      seed: seed of the data set, at least 0.
      split: name of the split.
      workers: processes; 1 works in this one.

    Returns:
      An iterator over the examples, which holds only a few at a time.

    Raises:
      UserError: if a number is out of range.
    """
    for name, value, smallest in (
        ("count", count, 1),
        ("size", size, 8),
        ("seed", seed, 0),
        ("workers", workers, 1),
    ):
        if value < smallest:
            raise UserError(f"{name} must be at least {smallest}, got {value}")
    workers = min(workers, -(-count // _CHUNK))
    if workers == 1:
        return (generate(i, size=size, seed=seed, split=split) for i in range(count))
    return _parallel(generate, count, size, seed, split, workers)


def _parallel(
    generate: Generate, count: int, size: int, seed: int, split: str, workers: int
) -> Iterator[Record]:
    # Fresh processes: forking one in which JAX has started threads can deadlock.
    context = multiprocessing.get_context("spawn")
    pool = futures.ProcessPoolExecutor(workers, context, initializer=_end_with_parent)
    waiting: collections.deque[futures.Future[list[Record]]] = collections.deque()
    try:
        for start in range(0, count, _CHUNK):
            indices = range(start, min(start + _CHUNK, count))
            with _deaf_to_ctrl_c():
                waiting.append(pool.submit(_chunk, generate, indices, size, seed, split))
            if len(waiting) > 2 * workers:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _chunk(generate: Generate, indices: range, size: int, seed: int, split: str) -> list[Record]:
    return [generate(i, size=size, seed=seed, split=split) for i in indices]


@contextlib.contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """Processes that its block starts take no SIGINT: they end with their parent, without a word.

    A terminal signals all of them, and one that has not yet imported its modules would show where.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with_parent() -> None:
    """Ends this worker when its parent is gone, even if that was killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
