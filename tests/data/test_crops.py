"""Crops against windows and pixels worked out by hand."""

import numpy as np
import pytest

from drc_jax.data.pictures import crops
from drc_jax.data.pictures.crops import Window


@pytest.mark.parametrize(
    ("box", "width", "height", "window"),
    [
        # Inside: r = int(0.75 * 40) = 30 around (50, 60).
        ((30, 45, 70, 75), 200, 100, Window(20, 30, 80, 90)),
        # The height decides: r = int(0.75 * 21) = 15 around int(10.5), int(20.5).
        ((5, 10, 16, 31), 100, 100, Window(0, 5, 25, 35)),
        # Every border at once: r = int(0.75 * 10) = 7 around (5, 4), in a 9x8 picture.
        ((0, 0, 10, 8), 9, 8, Window(0, 0, 9, 8)),
        # Right and bottom: r = int(0.75 * 20) = 15 around (90, 45).
        ((80, 40, 100, 50), 100, 50, Window(75, 30, 100, 50)),
        # Fractions: width 10.5, r = int(7.875) = 7, centre int(15.75), int(15.5).
        ((10.5, 12, 21, 19), 64, 64, Window(8, 8, 22, 22)),
        # A box of one pixel: int(0.75) = 0 would be nothing at all.
        ((3, 3, 4, 4), 10, 10, Window(2, 2, 4, 4)),
    ],
)
def test_box_window(box, width, height, window):
    assert crops.box_window(box, width, height) == window


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ((5, 5, 5, 9), "empty"),
        ((5, 9, 8, 5), "empty"),
        ((0, 0, float("nan"), 9), "not finite"),
        ((0, 0, float("inf"), 9), "not finite"),
        ((90, 0, 94, 4), "outside the 40x40 picture"),
        ((-94, 0, -90, 4), "outside"),
    ],
)
def test_box_of_no_use(box, words):
    with pytest.raises(ValueError, match=words):
        crops.box_window(box, 40, 40)


def numbered(height, width):
    """An image whose red is the column and green the row."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = np.arange(width)
    image[..., 1] = np.arange(height)[:, None]
    return image


def test_square_crop_has_the_pixels_of_the_window():
    # r = 3 around (10, 12): columns 7..12, rows 9..14, no resizing at size 6.
    cropped = crops.square_crop(numbered(40, 30), (8, 10, 12, 14), 6)
    np.testing.assert_array_equal(cropped[0, :, 0], np.arange(7, 13))
    np.testing.assert_array_equal(cropped[:, 0, 1], np.arange(9, 15))


def test_clipped_square_is_squashed():
    # r = 6 around (4, 20): columns 0..9 (10 of 12) and rows 14..25.
    image = np.zeros((40, 40, 3), np.uint8)
    image[:, 5:] = 200
    cropped = crops.square_crop(image, (0, 16, 8, 24), 5)
    # The window's left half (columns 0..4) is dark, its right half bright.
    assert (cropped[:, :2] < 60).all() and (cropped[:, 3:] > 140).all()
    mask = crops.square_crop_mask(image[..., 0] // 200, (0, 16, 8, 24), 5)
    np.testing.assert_array_equal(mask, np.tile([0, 0, 1, 1, 1], (5, 1)))


@pytest.mark.parametrize(
    ("width", "height", "window"),
    [
        (6, 4, Window(1, 0, 5, 4)),
        (7, 4, Window(1, 0, 5, 4)),
        (4, 9, Window(0, 2, 4, 6)),
        (5, 5, Window(0, 0, 5, 5)),
        (1, 3, Window(0, 1, 1, 2)),
    ],
)
def test_centre_window(width, height, window):
    assert crops.centre_window(width, height) == window


def test_centre_crop():
    cropped = crops.centre_crop(numbered(4, 9), 4)
    np.testing.assert_array_equal(cropped[0, :, 0], [2, 3, 4, 5])
    mask = np.zeros((4, 9), bool)
    mask[:, :4] = True
    np.testing.assert_array_equal(crops.centre_crop_mask(mask, 2), [[1, 0], [1, 0]])


@pytest.mark.parametrize(
    ("width", "height", "size", "window"),
    [
        (200, 100, 32, Window(0, 8, 32, 24)),
        (100, 200, 32, Window(8, 0, 24, 32)),
        (100, 100, 32, Window(0, 0, 32, 32)),
        (3, 2, 8, Window(0, 1, 8, 6)),
        (1000, 1, 16, Window(0, 7, 16, 8)),
    ],
)
def test_letterbox_window(width, height, size, window):
    assert crops.letterbox_window(width, height, size) == window


def test_letterbox_keeps_the_whole_picture_between_grey_bars():
    image = np.full((2, 4, 3), 10, np.uint8)
    image[:, 2:] = 250
    square = crops.letterbox(image, 4)
    picture = [10, 10, 250, 250]
    np.testing.assert_array_equal(square[..., 0], [[128] * 4, picture, picture, [128] * 4])
    mask = crops.letterbox_mask(image[..., 0] > 100, 4)
    np.testing.assert_array_equal(mask, [[0] * 4, [0, 0, 1, 1], [0, 0, 1, 1], [0] * 4])


def test_masks_are_decided_by_half():
    rng = np.random.default_rng(0)
    mask = rng.integers(0, 2, (37, 53))
    for small in (
        crops.centre_crop_mask(mask, 16),
        crops.letterbox_mask(mask, 16),
        crops.square_crop_mask(mask, (5, 5, 30, 30), 16),
    ):
        assert small.dtype == np.uint8 and small.shape == (16, 16) and small.max() == 1
    # Three of four pixels set is foreground, one of four is not.
    quarters = np.array([[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0]], bool)
    big = np.kron(quarters, np.ones((4, 4), bool))
    assert crops.centre_crop_mask(big, 2).tolist() == [[1, 0], [1, 0]]
