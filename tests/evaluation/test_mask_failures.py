"""What went wrong with a mask: every kind on one picture whose colours are known."""

import numpy as np
import pytest

from drc_jax.evaluation import mask_failures, metrics

SIZE = 16
ROWS, COLUMNS = np.indices((SIZE, SIZE))
TRUE = (ROWS >= 4) & (ROWS < 12) & (COLUMNS >= 4) & (COLUMNS < 12)
UPPER = TRUE & (ROWS < 6)  # a quarter of it
LEFT, RIGHT = COLUMNS < 4, COLUMNS >= 12
RED, GREY, BRIGHT, DARK = (200, 0, 0), (100, 100, 100), (220, 220, 220), (10, 10, 10)


def picture(*painted):
    """Grey, with a red object, and then regions in other colours."""
    image = np.full((SIZE, SIZE, 3), GREY, np.uint8)
    image[TRUE] = RED
    for where, colour in painted:
        image[where] = colour
    return image


KINDS = {
    "nothing found": (picture(), TRUE & False),
    "all foreground": (picture(), TRUE | True),
    "sides exchanged": (picture(), ~TRUE),
    "wrong place": (picture(), LEFT),
    "background taken, bright": (picture((LEFT | RIGHT, BRIGHT)), TRUE | LEFT | RIGHT),
    "background taken, dark": (picture((LEFT | RIGHT, DARK)), TRUE | LEFT | RIGHT),
    "background taken, alike": (picture(), TRUE | LEFT | RIGHT),
    "part missed, alike": (picture((TRUE & ~UPPER, (110, 100, 90))), UPPER),
    "part missed, unlike": (picture((TRUE & ~UPPER, (180, 20, 0))), UPPER),
    "outline off": (picture(), TRUE & (ROWS < 11)),
}


@pytest.mark.parametrize("words", KINDS)
def test_kinds(words):
    image, mask = KINDS[words]
    found = mask_failures.what_went_wrong(image[None], mask[None], TRUE[None])
    assert found == [words]


def test_images_do_not_depend_on_each_other_and_only_bad_ones_count():
    images, masks = (np.stack(arrays) for arrays in zip(*KINDS.values(), strict=True))
    true = np.broadcast_to(TRUE, masks.shape)
    assert mask_failures.what_went_wrong(images, masks, true) == list(KINDS)
    images, masks = np.concatenate([images] * 40), np.concatenate([masks] * 40)
    true = np.broadcast_to(TRUE, masks.shape)
    iou = metrics.iou(masks, true)
    counts = mask_failures.count(images, masks, true, iou)
    text = mask_failures.sentence(counts, 400)
    assert counts == dict.fromkeys(sorted(set(KINDS) - {"outline off"}), 40)
    assert text.startswith("360 of 400 images have an IoU below 50: all foreground (40); backg")
    assert mask_failures.count(images, true, true, np.ones(400)) == {}


def test_an_image_without_object_has_nothing_to_lose():
    nothing = (TRUE & False)[None]
    assert mask_failures.what_went_wrong(picture()[None], nothing, nothing) == ["nothing found"]
    found = mask_failures.what_went_wrong(picture()[None], LEFT[None], nothing)
    assert found == ["background taken, alike"]
