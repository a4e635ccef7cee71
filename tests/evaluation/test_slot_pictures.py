"""Pictures of several objects: what is in which cell, and what a removed slot leaves."""

from typing import NamedTuple

import numpy as np
import pytest

from drc_jax.evaluation import slot_pictures

SIZE, CELL = 28, 112
RED, BLUE, FLOOR = np.array([1.0, -1, -1]), np.array([-1.0, -1, 1]), np.array([0.0, 0, 0])


class Regions(NamedTuple):
    images: np.ndarray
    pi: np.ndarray
    reconstruction: np.ndarray

    @property
    def foreground_weight(self):
        return 1.0 - self.pi[:, -1]


@pytest.fixture
def regions():
    """A small red object at the top left, a large blue one at the bottom, and the floor."""
    images = np.broadcast_to(
        np.stack([RED, BLUE, FLOOR])[None, :, None, None], (1, 3, SIZE, SIZE, 3)
    )
    pi = np.zeros((1, 3, SIZE, SIZE))
    pi[0, 0, :7, :7] = 1
    pi[0, 1, 14:] = 1
    pi[0, 2] = 1 - pi[0, :2].sum(0)
    return Regions(images, pi, (pi[..., None] * images).sum(1))


def cells(picture, rows):
    """The cell of every row; there is one column."""
    tops = [picture.shape[0] - (rows - i) * (CELL + 4) for i in range(rows)]
    left = picture.shape[1] - CELL - 4
    return [picture[top : top + CELL, left : left + CELL] for top in tops]


def test_slots_stand_in_the_order_of_their_area(regions):
    labels = np.zeros((1, SIZE, SIZE), np.uint8)
    labels[0, 14:] = 2
    picture = slot_pictures.objects_grid(regions.reconstruction, regions, labels)
    observed, generated, first, second, floor, found, true = cells(picture, 7)
    np.testing.assert_array_equal(observed, generated)
    assert tuple(first[-1, 0]) == (0, 0, 255) and tuple(first[0, 0]) == (128, 128, 128)
    assert tuple(second[0, 0]) == (255, 0, 0) and tuple(second[-1, 0]) == (128, 128, 128)
    assert (floor == 128).all()
    # Label 1 is the largest slot; the truth has label 2 there.
    assert (found[-1, 0] != found[0, 0]).any() and (found[0, 0] != found[0, -1]).any()
    np.testing.assert_array_equal(found[0, -1], true[0, -1])
    np.testing.assert_array_equal(true[-1, 0], found[0, 0])


def test_samples_have_no_observed_image(regions):
    with_it = slot_pictures.objects_grid(regions.reconstruction, regions)
    without = slot_pictures.objects_grid(None, regions)
    assert with_it.shape[0] - without.shape[0] == CELL + 4


def test_a_removed_object_leaves_the_floor(regions):
    picture = slot_pictures.removal_grid(regions.reconstruction, regions)
    observed, no_blue, no_red = cells(picture, 3)
    assert (no_blue[56:] == 128).all() and tuple(no_blue[0, 0]) == (255, 0, 0)
    assert (no_red[:56] == 128).all() and tuple(no_red[-1, 0]) == (0, 0, 255)
    assert (observed[56:] != no_blue[56:]).any()


def test_a_removed_slot_leaves_what_weighs_most_of_the_others(regions):
    pi = regions.pi.copy()
    pi[0, :, :7, :7] = np.array([1 - 1e-7, 9e-8, 1e-8])[:, None, None]
    mixed = slot_pictures.without_slot(regions.images, pi, 0)
    np.testing.assert_allclose(mixed[0, 0, 0], 0.9 * BLUE + 0.1 * FLOOR, atol=1e-6)


def test_only_several_foregrounds_are_objects(regions):
    assert slot_pictures.are_objects(regions)
    one = Regions(regions.images[:, 1:], regions.pi[:, 1:], regions.reconstruction)
    assert not slot_pictures.are_objects(one)
