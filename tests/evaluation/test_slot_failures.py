"""Kinds of failures on label maps made by hand."""

import numpy as np

from drc_jax.evaluation import slot_failures, slot_pictures

BACKGROUND = 3


def scene() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A red object of 40 pixels and a blue one of 20 on grey, and slots 0 and 1 that find them."""
    true = np.zeros((10, 10), int)
    true[0:4], true[8:10] = 1, 2
    observed = np.array([[120, 120, 120], [250, 0, 0], [0, 0, 250]], np.uint8)[true]
    return observed, np.array([BACKGROUND, 0, 1])[true], true


def found(observed, pred, true):
    failures = slot_failures.find(observed[None], pred[None], true[None], background=BACKGROUND)
    assert all(failure.image == 0 for failure in failures)
    return [(failure.kind, failure.pixels) for failure in failures]


def test_what_is_right_is_no_failure() -> None:
    assert found(*scene()) == []


def test_a_split_is_a_duplicate_or_follows_colour() -> None:
    observed, pred, true = scene()
    pred[0:4, 7:] = 2  # 12 pixels of the red object
    assert found(observed, pred, true) == [("duplicate", 12)]
    observed[0:4, 7:] = [200, 0, 0]  # 50 / 127.5 in one of three channels: 0.13
    assert found(observed, pred, true) == [("colour split", 12)]
    observed[0:4, 7:] = [220, 0, 0]  # 0.08
    assert found(observed, pred, true) == [("duplicate", 12)]


def test_a_part_below_a_tenth_is_no_split() -> None:
    observed, pred, true = scene()
    pred[0, 7:] = 2
    assert found(observed, pred, true) == []
    pred[0, 6:] = 2
    assert found(observed, pred, true) == [("duplicate", 4)]


def test_a_slot_that_has_two_objects_merges_them() -> None:
    observed, pred, true = scene()
    pred[true == 2] = 0
    assert found(observed, pred, true) == [("merge", 20)]


def test_a_slot_on_the_background_is_theft() -> None:
    observed, pred, true = scene()
    pred[5:7] = 2
    assert found(observed, pred, true) == [("theft", 20)]
    pred[5:7], pred[8:10] = 1, 1  # half of the slot is the object
    assert found(observed, pred, true) == []


def test_an_object_in_the_background_is_missed() -> None:
    observed, pred, true = scene()
    pred[8, :], pred[9, 0] = BACKGROUND, BACKGROUND
    assert found(observed, pred, true) == [("missed", 11)]


def test_failures_are_counted_by_kind() -> None:
    observed, pred, true = scene()
    bad = np.where(true == 2, 0, pred)
    failures = slot_failures.find(
        np.stack([observed] * 3),
        np.stack([bad, pred, bad]),
        np.stack([true] * 3),
        background=BACKGROUND,
    )
    assert [failure.image for failure in failures] == [0, 2]
    counts = slot_failures.count(failures)
    assert counts == dict.fromkeys(slot_failures.KINDS, 0) | {"merge": 2}


def test_the_picture_shows_the_largest_of_each_kind() -> None:
    observed, pred, true = scene()
    images = np.stack([observed] * 6)
    predicted = np.stack([(pred + 1) % 4] * 6)
    truth = np.stack([true] * 6)
    predicted[5] = 0  # both objects are missed
    failures = [slot_failures.Failure("merge", i, i) for i in range(5)]

    def picture(failures: list[slot_failures.Failure]) -> np.ndarray:
        drawn = slot_pictures.failures_grid(failures, images, predicted, truth)
        assert drawn is not None
        return drawn

    one, three, five = picture(failures[:1]), picture(failures[:3]), picture(failures)
    assert three.shape[1] > one.shape[1] and five.shape == three.shape
    assert not np.array_equal(five, three)  # the largest are the last
    four = picture([slot_failures.Failure("missed", 5, 40), *failures])
    assert four.shape[1] > three.shape[1]
    assert slot_pictures.failures_grid([], images, predicted, truth) is None
