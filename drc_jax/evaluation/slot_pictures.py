"""Pictures of images that are divided into several objects and one background.

Regions are as in `drc_jax.evaluation.regions`: slots first, the background last. A slot's number
means nothing, so slots stand in the order of their area, image by image, the largest first.
"""

import numpy as np

from drc_jax.data.packed.reading import FileArray
from drc_jax.evaluation.pictures import cut_out, image_grid, label_colours
from drc_jax.evaluation.regions import Regions
from drc_jax.evaluation.slot_failures import KINDS, Failure

_FAILURES_OF_A_KIND = 3


def are_objects(regions: Regions) -> bool:
    """Whether there are several foregrounds and one background."""
    return regions.foreground_weight is not None and regions.pi.shape[1] > 2


def objects_grid(
    observed: np.ndarray | None, regions: Regions, true_labels: np.ndarray | None = None
) -> np.ndarray:
    """Images and their regions as in the supplement's Fig. 18 and 19, one column per image.

    Rows: the image, its reconstruction, every slot cut out by its mixing weight, the background
    alone, the region that weighs most at each pixel, and the true objects.

    Args:
      observed: [N, H, W, 3], the images given; None for samples of the prior leaves the row out.
      regions: of these images, the background last.
      true_labels: uint8 [N, H, W], 0 the background and 1.. the objects; None leaves the row out.

    Returns:
      uint8 [rows, columns, 3], a picture to show or save.
    """
    images, pi = by_area(np.asarray(regions.images), np.asarray(regions.pi))
    num_slots = pi.shape[1] - 1
    rows = {
        "observed": observed,
        "generated" if observed is not None else "sample": np.asarray(regions.reconstruction),
        **{f"slot {s + 1}": cut_out(images[:, s], pi[:, s]) for s in range(num_slots)},
        "background": images[:, -1],
        "regions": label_colours(region_labels(pi)),
        "true objects": None if true_labels is None else label_colours(true_labels),
    }
    present = {label: row for label, row in rows.items() if row is not None}
    return image_grid(list(present.values()), list(present))


def failures_grid(
    failures: list[Failure],
    observed: FileArray | np.ndarray,
    pred_labels: np.ndarray,
    true_labels: FileArray | np.ndarray,
) -> np.ndarray | None:
    """The three largest failures of each kind, a column each.

    Args:
      failures: of `slot_failures.find`.
      observed: uint8 [N, H, W, 3], all images.
      pred_labels: int [N, H, W], 0 the background.
      true_labels: int [N, H, W], 0 the background.

    Returns:
      uint8 [rows, columns, 3]; None without failures.
    """
    chosen: list[Failure] = []
    for kind in KINDS:
        of_kind = [failure for failure in failures if failure.kind == kind]
        of_kind.sort(key=lambda failure: -failure.pixels)
        chosen += of_kind[:_FAILURES_OF_A_KIND]
    if not chosen:
        return None
    places = np.array([failure.image for failure in chosen])
    rows = {
        "observed": np.asarray(observed[places]),
        "regions": label_colours(pred_labels[places]),
        "true objects": label_colours(np.asarray(true_labels[places])),
    }
    captions = [f"#{f.image}\n{f.kind}\n{f.pixels} px" for f in chosen]
    return image_grid(list(rows.values()), list(rows), captions)


def removal_grid(observed: np.ndarray, regions: Regions) -> np.ndarray:
    """What is left when a slot is taken away: its object goes, and the floor appears.

    Args:
      observed: [N, H, W, 3], the images given.
      regions: of these images, the background last.

    Returns:
      uint8 [rows, columns, 3]: the images, and a row without each slot.
    """
    images, pi = by_area(np.asarray(regions.images), np.asarray(regions.pi))
    slots = range(pi.shape[1] - 1)
    rows = [observed, *(without_slot(images, pi, s) for s in slots)]
    return image_grid(rows, ["observed", *(f"without\nslot {s + 1}" for s in slots)])


def without_slot(images: np.ndarray, pi: np.ndarray, slot: int) -> np.ndarray:
    """Images mixed again without one of their slots, whose mask logit is taken as minus infinity.

    Args:
      images: [N, K, H, W, 3].
      pi: [N, K, H, W].
      slot: which, 0 to K - 2.

    Returns:
      float [N, H, W, 3]. Where no other region has any weight, the background shows.
    """
    left = pi.astype(np.float64)
    left[:, slot] = 0.0
    total = left.sum(axis=1)
    left[:, -1] = np.where(total > 0, left[:, -1], 1.0)
    left /= left.sum(axis=1, keepdims=True)
    return (left[..., None] * images).sum(axis=1)


def by_area(images: np.ndarray, pi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both with every image's slots in the order of their area, the largest first.

    Args:
      images: [N, K, H, W, 3].
      pi: [N, K, H, W].
    """
    order = np.argsort(-pi[:, :-1].sum(axis=(2, 3)), axis=1, kind="stable")
    order = np.concatenate([order, np.full((len(pi), 1), pi.shape[1] - 1)], axis=1)
    return (
        np.take_along_axis(images, order[:, :, None, None, None], axis=1),
        np.take_along_axis(pi, order[:, :, None, None], axis=1),
    )


def region_labels(pi: np.ndarray) -> np.ndarray:
    """The region that weighs most at each pixel: 0 the background, 1.. the slots.

    Args:
      pi: [N, K, H, W], the background last.

    Returns:
      int [N, H, W].
    """
    return (pi.argmax(axis=1) + 1) % pi.shape[1]
