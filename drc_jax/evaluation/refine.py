"""Refinement: a coarse mask is fitted to the picture, many times larger, that it was found in.

``edges`` is the guided filter of He, Sun and Tang ("Guided Image Filtering", 2013) in its fast
form: near every pixel the mask is a linear function of the picture's colours. The coefficients are
found on a small picture, and applied to the large one.

``colours`` is GrabCut (Rother et al., 2004) that begins at the mask instead of a rectangle: but for
a thin border, all that the mask does not rule out may be foreground. Colours of the inside and of
the outside are fitted by mixtures of Gaussians, and the picture is cut where these and its edges
say. Then follows ``edges``, from the small picture to the large one.
"""

import numpy as np
from PIL import Image
from scipy.ndimage import uniform_filter

from drc_jax.data.pictures import grabcut
from drc_jax.errors import UserError

REFINEMENTS = ("edges", "colours")
"""How a mask may be refined."""

_EPSILON = 1e-3  # of colours in [0, 1]: edges of less contrast than its root are not followed
_RADIUS = 4  # of the windows, in pixels of the small picture
_PER_PIXEL = 2  # pixels of the small picture for one of the coarse mask's
_CUT_SIDE = 256  # pixels of the longer side of the picture that is cut
_RULED_OUT = 0.1  # a share below is background to begin with
_LEAST_COMMON = 0.1  # IoU of the cut and the mask, inside and outside: with less it is another's


def check(how: str) -> None:
    """Refuses what cannot be done, before any inference.

    Args:
      how: one of ``REFINEMENTS``, or empty for none.

    Raises:
      UserError: if it is neither; if it is ``colours`` and OpenCV is absent.
    """
    if how and how not in REFINEMENTS:
        raise UserError(f"refine must be empty or one of {', '.join(REFINEMENTS)}, got {how!r}")
    if how == "colours":
        grabcut.require_opencv()


def refined(photo: np.ndarray, share: np.ndarray, coarse: int, how: str = "edges") -> np.ndarray:
    """A mask that follows its picture.

    Args:
      photo: uint8 [H, W, 3].
      share: float32 [H, W] in [0, 1], the coarse mask at the picture's size.
      coarse: how many of the model's pixels the longer side of the mask has.
      how: one of ``REFINEMENTS``. ``edges`` moves outlines by about a pixel of the model;
        ``colours`` also drops, or takes in, whole parts of other, or like, colours, so that the
        mask says where, and the picture what belongs to it. Where no cut is found it is ``edges``.

    Returns:
      float32 [H, W] in [0, 1].

    Raises:
      UserError: if ``how`` is ``colours`` and OpenCV is absent.
    """
    cut = _cut(photo, share) if how == "colours" else None
    if cut is not None:
        share, coarse = cut, min(_CUT_SIDE, max(share.shape))
    return _filtered(photo, share, coarse)


def _cut(photo: np.ndarray, share: np.ndarray) -> np.ndarray | None:
    """The share [H, W], 0 or 1 but for resized edges, that GrabCut makes of the mask.

    None where the mask leaves nothing, where OpenCV refuses the colours, and where the cut has
    little in common with the mask.
    """
    height, width = share.shape
    scale = min(1.0, _CUT_SIDE / max(height, width))
    small = (max(1, round(width * scale)), max(1, round(height * scale)))
    picture = np.asarray(_resized(Image.fromarray(photo), small))
    weights = np.asarray(_resized(Image.fromarray(share), small))
    found = grabcut.from_mask(picture, weights > _RULED_OUT)
    if found is None:
        return None
    mask = weights > 0.5
    for cut, was in ((found, mask), (~found, ~mask)):
        if (cut & was).sum() < _LEAST_COMMON * (cut | was).sum():
            return None
    return np.asarray(_resized(Image.fromarray(found.astype(np.float32)), (width, height)))


def _filtered(photo: np.ndarray, share: np.ndarray, coarse: int) -> np.ndarray:
    """The guided filter's mask.

    In every window k of the small picture q = a_k . I + b_k is the least-squares fit of the mask p
    to the colours I, with a ridge: a_k = (cov(I) + epsilon)^-1 cov(I, p) and b_k = mean(p) -
    a_k . mean(I). Coefficients are averaged over the windows that hold a pixel.
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
