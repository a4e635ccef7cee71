"""A floor without a model: objects are what is more saturated than the rest of their image."""

import numpy as np

_BINS = 256


def saturation_masks(images: np.ndarray) -> np.ndarray:
    """Where pixels are more saturated than Otsu's threshold of their image.

    The saturation is HSV's, (max - min) / max of the channels. Otsu's threshold parts an image's
    values into two classes so that the variance between their means, n_0 n_1 (m_0 - m_1)^2, is
    largest. No mask is used.

    Args:
      images: uint8 [N, H, W, 3].

    Returns:
      bool [N, H, W].
    """
    most = images.max(axis=-1).astype(np.float64)
    saturation = (most - images.min(axis=-1)) / np.maximum(most, 1)
    levels = np.minimum((saturation * _BINS).astype(np.int64), _BINS - 1)
    thresholds = [_otsu(image) for image in levels]
    return levels > np.reshape(thresholds, (-1, 1, 1))


def _otsu(levels: np.ndarray) -> int:
    """The last level of the lower class, of whole numbers below `_BINS`."""
    counts = np.bincount(levels.ravel(), minlength=_BINS)
    below, sums = np.cumsum(counts), np.cumsum(counts * np.arange(_BINS))
    above = below[-1] - below
    means = sums / np.maximum(below, 1), (sums[-1] - sums) / np.maximum(above, 1)
    between = below * above * (means[0] - means[1]) ** 2
    return int(np.argmax(between)) if between.any() else _BINS - 1  # one level: no foreground
