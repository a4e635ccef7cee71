"""Which detected masks are good enough: the choices of appendix A.2 and A.3 as code.

The paper dropped pictures by hand. The numbers here are ours; the review sheets show what they do,
and a person overrules them in the list beside the sheets.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from drc_jax.data.masks.detect import Detection

OK = "ok"
NONE, LOW_SCORE, RAGGED, LARGE, PERSON = "none", "low-score", "ragged", "large", "person"

_PERSON_LABEL = "person"
_PERSON_MIN_SCORE = 0.5


@dataclasses.dataclass(frozen=True)
class MaskFilter:
    """What a picture has to satisfy.

    Attributes:
      label: the COCO category that must be found.
      min_score: least confidence of the detector.
      min_connected: least share of the mask in its largest connected piece.
      max_raggedness: largest `raggedness`; good masks of standing dogs have up to 11.
      max_share: largest share of the picture that the mask may cover.
      max_person: most pixels of people inside the mask's bounding box, as a share of the mask's.
    """

    label: str
    min_score: float = 0.8
    min_connected: float = 0.9
    max_raggedness: float = 20.0
    max_share: float = 1.0
    max_person: float = float("inf")


class Verdict(NamedTuple):
    """What a filter says of a picture.

    Attributes:
      reason: `OK`, or why it is dropped.
      detail: the number that decided, for a caption.
      mask: uint8 [H, W] of 0 and 1; None if nothing was found.
    """

    reason: str
    detail: str
    mask: np.ndarray | None


def judge(detections: Sequence[Detection], rules: MaskFilter) -> Verdict:
    """Chooses the mask of a picture and says whether the picture is kept.

    Of several objects of the category the largest confident one is the foreground.

    Args:
      detections: everything found in the picture.
      rules: what to satisfy; the first rule that fails is the reason.
    """
    found = [(d, (d.mask >= 0.5).astype(np.uint8)) for d in detections if d.label == rules.label]
    found = [(d, mask) for d, mask in found if mask.any()]
    if not found:
        return Verdict(NONE, f"no {rules.label}", None)
    confident = [(d, mask) for d, mask in found if d.score >= rules.min_score]
    if not confident:
        best, mask = max(found, key=lambda pair: pair[0].score)
        return Verdict(LOW_SCORE, f"{best.score:.2f}", mask)
    best, mask = max(confident, key=lambda pair: pair[1].sum())
    connected, ragged = connected_share(mask), raggedness(mask)
    if connected < rules.min_connected:
        return Verdict(RAGGED, f"piece {connected:.2f}", mask)
    if ragged > rules.max_raggedness:
        return Verdict(RAGGED, f"{ragged:.1f}", mask)
    share = float(mask.mean())
    if share > rules.max_share:
        return Verdict(LARGE, f"{100 * share:.0f} %", mask)
    person = person_share(detections, mask)
    if person > rules.max_person:
        return Verdict(PERSON, f"{person:.2f}", mask)
    return Verdict(OK, f"{best.score:.2f}", mask)


def connected_share(mask: np.ndarray) -> float:
    """Share of a mask [H, W] that is in its largest piece; pixels connect along their sides."""
    pieces, _ = ndimage.label(mask)
    return float(np.bincount(pieces[pieces > 0]).max() / mask.sum())


def raggedness(mask: np.ndarray) -> float:
    """Perimeter squared over 4 pi times the area of a mask [H, W].

    The perimeter counts the sides between foreground and background pixels; the picture's border is
    none. A square away from the border has 4/pi = 1.27, a large disc 16/pi^2 = 1.62; fringes, holes
    and specks raise it.
    """
    signed = mask.astype(np.int8)
    perimeter = np.abs(np.diff(signed, axis=0)).sum() + np.abs(np.diff(signed, axis=1)).sum()
    return float(perimeter**2 / (4 * np.pi * mask.sum()))


def person_share(detections: Sequence[Detection], mask: np.ndarray) -> float:
    """Pixels of people inside the bounding box of a mask [H, W], as a share of the mask's pixels.

    Instances do not share pixels, so a person in front of a dog shows in the dog's box.
    """
    people = np.zeros(mask.shape, bool)
    for detection in detections:
        if detection.label == _PERSON_LABEL and detection.score >= _PERSON_MIN_SCORE:
            people |= detection.mask >= 0.5
    rows, columns = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
    inside = people[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return float(inside.sum() / mask.sum())
