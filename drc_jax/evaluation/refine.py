"""Edge-aware refinement: a coarse mask follows the edges of the picture that it was found in.

The guided filter of He, Sun and Tang ("Guided Image Filtering", 2013) in its fast form: near every
pixel the mask is a linear function of the picture's colours. The coefficients are found on a small
picture, and applied to the large one.
"""

import numpy as np
from PIL import Image
from scipy.ndimage import uniform_filter

_EPSILON = 1e-3  # of colours in [0, 1]: edges of less contrast than its root are not followed
_RADIUS = 4  # of the windows, in pixels of the small picture
_PER_PIXEL = 2  # pixels of the small picture for one of the model's


def refined(photo: np.ndarray, share: np.ndarray, coarse: int) -> np.ndarray:
    """A mask that follows the edges of its picture.

    In every window k of the small picture q = a_k . I + b_k is the least-squares fit of the mask p
    to the colours I, with a ridge: a_k = (cov(I) + epsilon)^-1 cov(I, p) and b_k = mean(p) -
    a_k . mean(I). Coefficients are averaged over the windows that hold a pixel.

    Args:
      photo: uint8 [H, W, 3].
      share: float32 [H, W] in [0, 1], the coarse mask at the picture's size.
      coarse: how many of the model's pixels the longer side of the mask has.

    Returns:
      float32 [H, W] in [0, 1].
    """
    height, width = share.shape
    scale = min(1.0, _PER_PIXEL * coarse / max(height, width))
    small = (max(1, round(width * scale)), max(1, round(height * scale)))
    guide = np.asarray(_resized(Image.fromarray(photo), small), np.float64) / 255
    p = np.asarray(_resized(Image.fromarray(share), small), np.float64)

    mean_i, mean_p = _mean(guide), _mean(p)
    products = guide[..., :, None] * guide[..., None, :]
    variance = _mean(products) - mean_i[..., :, None] * mean_i[..., None, :]
    covariance = _mean(guide * p[..., None]) - mean_i * mean_p[..., None]
    a = np.linalg.solve(variance + _EPSILON * np.eye(3), covariance[..., None])[..., 0]
    b = mean_p - (a * mean_i).sum(-1)
    fit = np.concatenate([_mean(a), _mean(b)[..., None]], axis=-1).astype(np.float32)

    q = np.zeros((height, width), np.float32)
    for channel in range(3):
        large = _resized(Image.fromarray(fit[..., channel]), (width, height))
        q += np.asarray(large) * (photo[..., channel].astype(np.float32) / 255)
    return np.clip(q + np.asarray(_resized(Image.fromarray(fit[..., 3]), (width, height))), 0, 1)


def _resized(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return image.resize(size, Image.Resampling.BILINEAR)


def _mean(array: np.ndarray) -> np.ndarray:
    """Means over the window around every pixel, of [H, W, ...]."""
    size = (2 * _RADIUS + 1,) * 2 + (1,) * (array.ndim - 2)
    return uniform_filter(array, size, mode="nearest")
