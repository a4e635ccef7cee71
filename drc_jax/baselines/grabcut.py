"""GrabCut (Rother et al., 2004) by OpenCV: foreground masks without training.

All but a thin border of the image may be foreground. The result depends on the image and the
config alone, not on the images before it. It may differ between versions of OpenCV.
"""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import numpy as np

from drc_jax.config.fields import check, field
from drc_jax.data.pictures.grabcut import BORDER, ROUNDS, SEED, border_pixels, from_rectangle
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

    border: float = field(BORDER, least=0.0, most=0.45)
    rounds: int = field(ROUNDS, least=1, most=1000)
    seed: int = field(SEED, least=0, most=2**31 - 1)

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


def summary(outcomes: np.ndarray) -> str:
    """How many of the masks were found in which way, in one line."""
    noisy, whole = (int(np.sum(outcomes == o)) for o in (CUT_WITH_NOISE, RECTANGLE))
    return (
        f"GrabCut: {len(outcomes)} images, of which OpenCV refused {noisy + whole}; "
        f"{noisy} were cut with noise added, {whole} have the whole rectangle as mask"
    )


def _cut(image: np.ndarray, config: GrabCutConfig) -> tuple[np.ndarray, int]:
    """The mask [H, W] of one image, and how it was found."""
    noise = np.random.default_rng(config.seed).integers(-1, 2, image.shape)
    noisy = np.clip(image.astype(int) + noise, 0, 255).astype(np.uint8)
    for outcome, pixels in ((CUT, image), (CUT_WITH_NOISE, noisy)):
        mask = from_rectangle(pixels, config.border, config.rounds, config.seed)
        if mask is not None:
            return mask, outcome
    height, width = image.shape[:2]
    border = border_pixels((height, width), config.border)
    mask = np.zeros((height, width), bool)
    mask[border : height - border, border : width - border] = True
    return mask, RECTANGLE


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
