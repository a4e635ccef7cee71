"""What went wrong where slots and objects do not fit, by kind, from label maps alone."""

from typing import NamedTuple

import numpy as np

from drc_jax.evaluation.label_metrics import ACTIVE_SHARE, MERGE_SHARE, MISSED_SHARE, SPLIT_SHARE

_SAME_COLOUR = 0.1  # mean difference of two parts' channels, pixels in [-1, 1]

KINDS = {
    "colour split": "objects of which two slots hold parts of different colours, as shading makes",
    "duplicate": "objects of which two slots hold parts of one colour",
    "merge": "slots that hold half or more of several objects",
    "theft": "active slots with more than half of their pixels on the true background",
    "missed": "objects with more than half of their pixels in the predicted background",
}
"""The kinds of failures, and what is counted."""


class Failure(NamedTuple):
    """One failure.

    Attributes:
      kind: one of `KINDS`.
      image: place of the image.
      pixels: how many pixels are in the wrong place.
    """

    kind: str
    image: int
    pixels: int


def find(
    observed: np.ndarray, pred_labels: np.ndarray, true_labels: np.ndarray, *, background: int = 0
) -> list[Failure]:
    """All failures, image by image; the shares that decide are those of `label_metrics`.

    Args:
      observed: uint8 [N, H, W, 3].
      pred_labels: int [N, H, W].
      true_labels: int [N, H, W], 0 the background.
      background: the predicted label of the background.

    Returns:
      The failures.
    """
    found: list[Failure] = []
    for i, (image, pred, true) in enumerate(zip(observed, pred_labels, true_labels, strict=True)):
        objects = [true == label for label in np.unique(true[true != 0])]
        slots = [pred == label for label in np.unique(pred[pred != background])]
        one = [
            *(failure for o in objects for failure in _of_object(image, o, slots)),
            *(failure for s in slots for failure in _of_slot(s, objects)),
        ]
        found += [Failure(kind, i, pixels) for kind, pixels in one]
    return found


def count(failures: list[Failure]) -> dict[str, int]:
    """How many failures there are of each of `KINDS`."""
    return {kind: sum(failure.kind == kind for failure in failures) for kind in KINDS}


def _of_object(
    image: np.ndarray, is_object: np.ndarray, slots: list[np.ndarray]
) -> list[tuple[str, int]]:
    """Kinds and pixels of the failures at one object."""
    failures = []
    parts = sorted((slot & is_object for slot in slots), key=np.count_nonzero, reverse=True)
    sizes = [int(part.sum()) for part in parts]
    size, held = int(is_object.sum()), sum(sizes)
    if size - held > MISSED_SHARE * size:
        failures.append(("missed", size - held))
    if len(sizes) > 1 and sizes[1] > 0 and sizes[1] >= SPLIT_SHARE * held:
        first, second = (image[part].mean(0) / 127.5 for part in parts[:2])
        is_same = np.abs(first - second).mean() < _SAME_COLOUR
        failures.append(("duplicate" if is_same else "colour split", held - sizes[0]))
    return failures


def _of_slot(is_slot: np.ndarray, objects: list[np.ndarray]) -> list[tuple[str, int]]:
    """Kinds and pixels of the failures of one slot."""
    failures = []
    size = int(is_slot.sum())
    held = [int((is_slot & o).sum()) for o in objects]
    large = [h for h, o in zip(held, objects, strict=True) if h >= MERGE_SHARE * o.sum() and h]
    if len(large) > 1:
        failures.append(("merge", sum(large) - max(large)))
    outside = size - sum(held)
    if size >= ACTIVE_SHARE * is_slot.size and outside > size / 2:
        failures.append(("theft", outside))
    return failures
