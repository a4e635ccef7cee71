"""GrabCut (Rother et al., 2004) by OpenCV: foreground masks without training.

All but a thin border of the image may be foreground. The result depends on the image and the
config alone, not on the images before it. It may differ between versions of OpenCV.
"""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import numpy as np

from drc_jax.config.fields import check, field
from drc_jax.errors import UserError

CUT, CUT_WITH_NOISE, RECTANGLE = range(3)
"""How a mask was found: as usual; on the image with noise, for OpenCV refused the image itself, as
it may with flat colours; or not at all, so that it is the whole rectangle."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class GrabCutConfig:
    """How the cut is made.

    Attributes:
      border: width of the border that is background for certain, as a share of the image's side;
        at least one pixel, and at most what leaves some pixels inside.
      rounds: how often colours are fitted and the image is cut.
      seed: of the clustering of colours, the same for every image.
    """

    method: ClassVar[str] = "grabcut"

    border: float = field(1 / 32, least=0.0, most=0.45)
    rounds: int = field(5, least=1, most=1000)
    seed: int = field(1, least=0, most=2**31 - 1)

    def __post_init__(self) -> None:
        check(self)


class GrabCutMasks(NamedTuple):
    """The masks of B images.

    Attributes:
      masks: bool [B, S, S], True on the foreground.
      outcomes: int [B], ``CUT``, ``CUT_WITH_NOISE`` or ``RECTANGLE``.
    """

    masks: np.ndarray
    outcomes: np.ndarray


class GrabCutRegions(NamedTuple):
    """Masks as regions: the foreground and the background show the image itself.

    Attributes:
      images: [B, 2, S, S, 3] in [-1, 1].
      pi: [B, 2, S, S], 0 or 1, the foreground first.
      reconstruction: [B, S, S, 3], the image.
      outcomes: as in ``GrabCutMasks``.
    """

    images: np.ndarray
    pi: np.ndarray
    reconstruction: np.ndarray
    outcomes: np.ndarray

    @property
    def foreground_weight(self) -> np.ndarray:
        """[B, S, S], 1 on the foreground."""
        return self.pi[:, 0]


def grabcut(images: np.ndarray, config: GrabCutConfig | None = None) -> GrabCutMasks:
    """Cuts out the foreground of each image on its own.

    An image that OpenCV refuses is tried again with noise of at most 1 added; if that fails too,
    the whole rectangle is its mask.

    Args:
      images: uint8 [B, S, S, 3], RGB.
      config: how; the default one where None.

    Returns:
      The masks, and how each was found. Empty and full masks are normal.

    Raises:
      UserError: if OpenCV is absent, or the images are no such array.
    """
    config = config or GrabCutConfig()
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        raise UserError(
            f"GrabCut takes uint8 images [B, H, W, 3], got {images.dtype} {images.shape}"
        )
    if min(images.shape[1:3]) < 4:
        raise UserError(f"GrabCut needs images of at least 4x4 pixels, got {images.shape[1:3]}")
    found = [_cut(image, config) for image in images]
    masks = [mask for mask, _ in found]
    outcomes = [outcome for _, outcome in found]
    return GrabCutMasks(np.array(masks, bool).reshape(images.shape[:3]), np.array(outcomes, int))


def from_mask(
    image: np.ndarray, guess: np.ndarray, config: GrabCutConfig | None = None
) -> np.ndarray | None:
    """Cuts out the foreground of an image, beginning at a guess.

    Only the border is certain, to be background.

    Args:
      image: uint8 [H, W, 3], RGB.
      guess: bool [H, W], True where the foreground may be.
      config: how; the default one where None.

    Returns:
      bool [H, W]; None where the guess leaves nothing inside the border, and where OpenCV refuses
      the image, as it may with flat colours.

    Raises:
      UserError: if OpenCV is absent.
    """
    cv2 = require_opencv()
    config = config or GrabCutConfig()
    border = _border(image.shape[:2], config)
    inside = (slice(border, -border or None),) * 2
    if not guess[inside].any():
        return None
    labels = np.full(image.shape[:2], cv2.GC_BGD, np.uint8)
    labels[inside] = np.where(guess[inside], cv2.GC_PR_FGD, cv2.GC_PR_BGD)
    return _by_opencv(image, labels, None, config)


def _border(shape: tuple[int, ...], config: GrabCutConfig) -> int:
    """Pixels of the border of an image [H, W]: one at least, where some are left inside."""
    side = min(shape)
    return min(max(1, round(config.border * side)), (side - 1) // 2)


def summary(outcomes: np.ndarray) -> str:
    """How many of the masks were found in which way, in one line."""
    noisy, whole = (int(np.sum(outcomes == o)) for o in (CUT_WITH_NOISE, RECTANGLE))
    return (
        f"GrabCut: {len(outcomes)} images, of which OpenCV refused {noisy + whole}; "
        f"{noisy} were cut with noise added, {whole} have the whole rectangle as mask"
    )


def _cut(image: np.ndarray, config: GrabCutConfig) -> tuple[np.ndarray, int]:
    """The mask [H, W] of one image, and how it was found."""
    height, width = image.shape[:2]
    border = _border((height, width), config)
    rectangle = (border, border, width - 2 * border, height - 2 * border)
    noise = np.random.default_rng(config.seed).integers(-1, 2, image.shape)
    noisy = np.clip(image.astype(int) + noise, 0, 255).astype(np.uint8)
    for outcome, pixels in ((CUT, image), (CUT_WITH_NOISE, noisy)):
        labels = np.zeros((height, width), np.uint8)
        mask = _by_opencv(pixels, labels, rectangle, config)
        if mask is not None:
            return mask, outcome
    mask = np.zeros((height, width), bool)
    mask[border : height - border, border : width - border] = True
    return mask, RECTANGLE


def _by_opencv(
    image: np.ndarray,
    labels: np.ndarray,
    rectangle: tuple[int, int, int, int] | None,
    config: GrabCutConfig,
) -> np.ndarray | None:
    """The mask [H, W], from a rectangle or else from ``labels``; None where OpenCV refuses."""
    cv2 = require_opencv()
    # The clustering draws from a generator that otherwise goes on from image to image.
    cv2.setRNGSeed(config.seed)
    background, foreground = np.zeros((2, 1, 65))
    mode = cv2.GC_INIT_WITH_MASK if rectangle is None else cv2.GC_INIT_WITH_RECT
    blue_first = np.ascontiguousarray(image[..., ::-1])
    try:
        cv2.grabCut(blue_first, labels, rectangle, background, foreground, config.rounds, mode)
    except cv2.error:
        return None
    return (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)


def require_opencv() -> Any:
    """The module ``cv2``.

    Raises:
      UserError: if it is absent.
    """
    try:
        # What is left of a package that was removed is an empty one; one that was made for another
        # NumPy ends with either error.
        from cv2 import grabCut  # noqa: F401
    except (ImportError, AttributeError):
        raise UserError(
            "GrabCut needs OpenCV, which is not installed; pip install 'drc_jax[baselines]'"
        ) from None
    import cv2

    return cv2


@dataclasses.dataclass(frozen=True)
class GrabCut:
    """The part of ``drc_jax.runs.method.Method`` that a method without training has."""

    name = "grabcut"
    config_type = GrabCutConfig

    def test_steps(self, config: GrabCutConfig) -> int:
        """0: nothing is sampled."""
        return 0

    def segment(
        self, config: GrabCutConfig, params: Any, keys: Any, images: Any, **options: Any
    ) -> GrabCutRegions:
        """The regions of images [B, S, S, 3] uint8; ``params`` and ``keys`` are not used."""
        images = np.asarray(images)
        masks, outcomes = grabcut(images, config)
        foreground = masks.astype(np.float32)
        pixels = images.astype(np.float32) / 127.5 - 1.0
        return GrabCutRegions(
            images=np.stack([pixels, pixels], axis=1),
            pi=np.stack([foreground, 1.0 - foreground], axis=1),
            reconstruction=pixels,
            outcomes=outcomes,
        )
