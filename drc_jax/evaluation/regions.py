"""What evaluation asks of a method: the regions of a batch of images, checked on the host."""

import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np


class Regions(Protocol):
    """The regions that a method finds in B images; the arrays may be NumPy's or JAX's.

    Attributes:
      images: [B, K, H, W, 3] in [-1, 1], each region's image; foregrounds first, the background
        last.
      pi: [B, K, H, W], mixing weights, summing to 1 over K.
      reconstruction: [B, H, W, 3] in [-1, 1].
      foreground_weight: [B, H, W] in [0, 1], the weight of all foregrounds together; None where
        regions are exchangeable, so that only true masks can say which are the foreground.
    """

    @property
    def images(self) -> Any: ...
    @property
    def pi(self) -> Any: ...
    @property
    def reconstruction(self) -> Any: ...
    @property
    def foreground_weight(self) -> Any: ...


InferBatch = Callable[[np.ndarray], Regions]
"""Maps images uint8 [B, S, S, 3] to their regions.

B is `block_size` in every call. The regions of an image must depend on that image alone, not on its
place or its neighbours: scores are then the same for every selection and order of images.
"""


def block_size() -> int:
    """How many images a method is given at once: 8 on a CPU, 32 on any other device.

    XLA compiles a program for every number of images, and each rounds in its own way, which long
    chains amplify. So this number depends on no setting and on no data, and a last block is filled
    up. Some processors round the last place of a block otherwise than the others (docs/method.md,
    6).
    """
    return 8 if jax.default_backend() == "cpu" else 32


class Watched:
    """An inference that keeps what it cost and the ``outcomes`` of its images, where it has any."""

    def __init__(self, infer_batch: InferBatch) -> None:
        self._infer_batch = infer_batch
        self._seconds: list[float] = []  # per image, of each block
        self._outcomes: list[int] = []

    def __call__(self, images: np.ndarray) -> Regions:
        begin = time.perf_counter()
        regions = self._infer_batch(images)
        np.asarray(regions.pi)  # waits for it
        self._seconds.append((time.perf_counter() - begin) / len(images))
        self._outcomes.extend(getattr(regions, "outcomes", ()))
        return regions

    @property
    def seconds_per_image(self) -> float | None:
        """Without the first block, which may compile; None where there is no other."""
        return statistics.mean(self._seconds[1:]) if len(self._seconds) > 1 else None

    def outcomes(self, count: int) -> np.ndarray:
        """Of the first ``count`` images; those after them fill up the last block."""
        return np.array(self._outcomes[:count], int)


class HostRegions(NamedTuple):
    """`Regions` as float32 NumPy arrays of checked shapes."""

    images: np.ndarray
    pi: np.ndarray
    reconstruction: np.ndarray
    foreground_weight: np.ndarray | None

    def take(self, which: slice | np.ndarray) -> "HostRegions":
        """The regions of some of the images."""
        return jax.tree.map(lambda array: array[which], self)

    def is_finite(self) -> np.ndarray:
        """Whether an image's arrays hold numbers only, bool [B]."""
        batch = len(self.pi)
        arrays = [array for array in self if array is not None]
        return np.all([np.isfinite(x).reshape(batch, -1).all(1) for x in arrays], axis=0)

    def labels(self) -> np.ndarray:
        """The region that weighs most at each pixel, uint16 [B, H, W]; K - 1 is the background."""
        return self.pi.argmax(axis=1).astype(np.uint16)


def infer_on_host(infer_batch: InferBatch, images: np.ndarray) -> HostRegions:
    """Infers the regions of images and brings them to the host.

    Args:
      infer_batch: the inference.
      images: uint8 [n, S, S, 3], n at most `block_size`; fewer are filled up for the inference, so
        that it compiles once and an image has the same bits whatever the others are.

    Returns:
      The regions of the n images. Some may have values that are not finite.

    Raises:
      NonFiniteError: if a sampler has no finite values for any of the images.
      ValueError: if ``infer_batch`` returns wrong shapes.
    """
    places = np.minimum(np.arange(block_size()), len(images) - 1)
    filled = images[places]
    with warnings.catch_warnings():
        # Of values that are not finite; whoever calls looks for these.
        warnings.simplefilter("ignore", RuntimeWarning)
        found = infer_batch(filled)
    weight = found.foreground_weight
    regions = HostRegions(
        images=np.asarray(found.images, np.float32),
        pi=np.asarray(found.pi, np.float32),
        reconstruction=np.asarray(found.reconstruction, np.float32),
        foreground_weight=None if weight is None else np.asarray(weight, np.float32),
    )
    count = regions.pi.shape[1] if regions.pi.ndim == 4 else 0
    mixed = (len(filled), count, *filled.shape[1:3])
    expected = ((*mixed, 3), mixed, filled.shape, filled.shape[:3])
    shapes = tuple(filled.shape[:3] if array is None else array.shape for array in regions)
    if count < 2 or shapes != expected:
        raise ValueError(
            f"infer_batch must return images [B, K, S, S, 3], pi [B, K, S, S], reconstruction "
            f"[B, S, S, 3] and foreground_weight [B, S, S] or None with K >= 2 for images "
            f"{list(filled.shape)}, got {', '.join(map(str, shapes))}"
        )
    return regions.take(slice(len(images)))
