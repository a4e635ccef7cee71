"""Label maps that need no slots, on images made by hand."""

import numpy as np

from drc_jax.evaluation import label_floors, label_metrics


def test_components_are_found_one_by_one_and_specks_are_dropped() -> None:
    masks = np.zeros((2, 8, 8), bool)
    masks[0, 0:2, 0:3] = True  # 6 pixels
    masks[0, 2, 3] = True  # touches it at a corner alone
    masks[0, 5:8, 5:8] = True
    masks[1, 0, 0:4] = True  # 4 pixels
    labels = label_floors.component_labels(masks)
    first, second = labels[0, 0, 0], labels[0, 7, 7]
    assert first and second and first != second
    expected = np.zeros((8, 8), int)
    expected[0:2, 0:3], expected[5:8, 5:8] = first, second
    np.testing.assert_array_equal(labels[0], expected)
    assert not labels[1].any()


def scenes() -> tuple[np.ndarray, np.ndarray]:
    """Two images of a red and a blue square on grey, and their labels."""
    true = np.zeros((2, 16, 16), int)
    true[0, 1:5, 1:5], true[0, 9:14, 10:15] = 1, 2
    true[1, 10:14, 1:5], true[1, 2:7, 10:15] = 1, 2
    colours = np.array([[120, 120, 120], [250, 0, 0], [0, 0, 250]], np.uint8)
    return colours[true], true


def test_clusters_of_clear_colours_are_the_objects() -> None:
    images, true = scenes()
    labels = label_floors.cluster_labels(images, 3)
    np.testing.assert_array_equal(labels == 0, true == 0)
    np.testing.assert_array_equal(label_metrics.ari(labels, true), [1, 1])


def test_clusters_of_one_colour_are_parted_by_place() -> None:
    images = np.full((1, 6, 18, 3), 120, np.uint8)
    labels = label_floors.cluster_labels(images, 3)[0]
    assert (labels == labels[0]).all() and (np.diff(np.sort(labels[0])) != 0).sum() == 2
    changes = np.flatnonzero(np.diff(labels[0]))
    assert len(changes) == 2 and (np.abs(changes - [5, 11]) <= 1).all()


def test_clusters_of_an_image_do_not_depend_on_the_others() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)
    labels = label_floors.cluster_labels(images, 4)
    np.testing.assert_array_equal(label_floors.cluster_labels(images[2:], 4), labels[2:])


def test_more_clusters_than_colours_are_no_error() -> None:
    images = np.zeros((1, 2, 2, 3), np.uint8)
    assert label_floors.cluster_labels(images, 4).shape == (1, 2, 2)
