"""Scores a few held-out images while a run trains; nothing of the run depends on it."""

import pathlib
import time

import numpy as np

from drc_jax.data.packed.format import open_split
from drc_jax.errors import NonFiniteError, UserError
from drc_jax.evaluation import metrics
from drc_jax.evaluation.regions import InferBatch, block_size, infer_on_host

SPLIT = "test"


class HeldOut:
    """Fixed IoU and Dice (docs/method.md, "6 Evaluation") of the same few held-out images.

    Their masks are read here only, for scores that nobody trains on.

    Attributes:
      split: the images' split, ``test``.
    """

    def __init__(self, folder: str | pathlib.Path, most: int) -> None:
        """Opens the images.

        Args:
          folder: of the packed data.
          most: how many images at most, evenly spaced over the split.

        Raises:
          UserError: if the data have no split ``test`` or no masks.
        """
        try:
            self.split = open_split(folder, SPLIT)
            masks = self.split.require_masks()
        except UserError as error:
            raise UserError(f"eval_every needs held-out images with masks: {error}") from None
        places = np.linspace(0, len(masks) - 1, min(most, len(masks))).round().astype(np.int32)
        self._images, self._true = self.split.images[places], masks[places] != 0

    def scores(self, infer_batch: InferBatch) -> dict[str, float]:
        """The scores of a method.

        Returns:
          ``heldout_iou`` and ``heldout_dice``, means over the images in [0, 1], for exchangeable
          slots by ``metrics.slots_to_foreground``; ``heldout_foreground``, the share of pixels
          called foreground, where there is one; ``heldout_seconds``, what it took; ``unix_time``,
          when it was done.

        Raises:
          NonFiniteError: if the regions are not finite.
        """
        begin = time.monotonic()
        found, size = [], block_size()
        for start in range(0, len(self._images), size):
            regions = infer_on_host(infer_batch, self._images[start : start + size])
            if not regions.is_finite().all():
                raise NonFiniteError("the regions of held-out images are not finite")
            found.append(regions)
        pi = np.concatenate([regions.pi for regions in found])
        scores: dict[str, float] = {}
        if found[0].foreground_weight is None:
            overlap = metrics.slots_to_foreground(pi, self._true).better()
        else:
            mask = np.concatenate([regions.foreground_weight for regions in found]) > 0.5
            overlap = metrics.overlap(mask, self._true)
            scores["heldout_foreground"] = float(mask.mean())
        return {
            "heldout_iou": float(overlap.iou.mean()),
            "heldout_dice": float(overlap.dice.mean()),
            **scores,
            "heldout_seconds": time.monotonic() - begin,
            "unix_time": time.time(),
        }
