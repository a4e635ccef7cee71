"""Scores a few held-out images while a run trains; nothing of the run depends on it."""

import time
from typing import Any

import jax
import numpy as np

from drc_jax.data.packed.format import open_split
from drc_jax.errors import UserError
from drc_jax.evaluation import metrics
from drc_jax.evaluation.regions import infer_on_host
from drc_jax.inference import image_keys
from drc_jax.training.images import check_size, data_folder
from drc_jax.training.method import Method

SPLIT = "test"
_SEED = 0  # of the chains: the same noise at every step, so that steps differ by the model alone


class HeldOut:
    """Fixed IoU and Dice (docs/method.md, "6 Evaluation") of the same few held-out images.

    The images are ``config.eval_images`` of the split ``test``, evenly spaced over it. Their masks
    are read here only, for scores that nobody trains on.
    """

    def __init__(self, method: Method, config: Any) -> None:
        """Opens the images.

        Args:
          method, config: of the run; the config says how many images and sampler steps.

        Raises:
          UserError: if the data have no split ``test`` or no masks, or of another size.
        """
        try:
            split = open_split(data_folder(config), SPLIT)
            masks = split.require_masks()
        except UserError as error:
            raise UserError(f"eval_every needs held-out images with masks: {error}") from None
        check_size(config, split)
        count = min(config.eval_images, len(split))
        places = np.linspace(0, len(split) - 1, count).round().astype(np.int32)
        self._method, self._config = method, config
        self._images, self._true = split.images[places], masks[places] != 0

    def scores(self, params: Any) -> dict[str, float]:
        """The scores of parameters, on one own device.

        Returns:
          ``heldout_iou`` and ``heldout_dice``, means over the images in [0, 1];
          ``heldout_foreground``, the share of pixels called foreground; ``heldout_seconds``, what
          it took; ``unix_time``, when it was done.

        Raises:
          UserError: if the regions are not finite, or have no foreground.
        """
        begin = time.monotonic()
        size = min(self._config.batch_size, len(self._images))
        found = []
        for start in range(0, len(self._images), size):
            # Filled up, so that the last batch has the shape the others were compiled for.
            places = np.minimum(np.arange(start, start + size), len(self._images) - 1)
            found.append(
                infer_on_host(lambda images: self._infer(params, images), self._images[places])
            )
        if found[0].foreground_weight is None:
            raise UserError("the regions of held-out images have no foreground")
        weight = np.concatenate([f.foreground_weight for f in found])[: len(self._images)]
        if not np.isfinite(weight).all():
            raise UserError("the regions of held-out images are not finite")
        overlap = metrics.overlap(weight > 0.5, self._true)
        return {
            "heldout_iou": float(overlap.iou.mean()),
            "heldout_dice": float(overlap.dice.mean()),
            "heldout_foreground": float((weight > 0.5).mean()),
            "heldout_seconds": time.monotonic() - begin,
            "unix_time": time.time(),
        }

    def _infer(self, params: Any, images: np.ndarray) -> Any:
        keys = image_keys(jax.random.key(_SEED), images)
        return self._method.segment(
            self._config, params, keys, images, num_steps=self._config.eval_steps
        )
