"""Label maps that need no slots: what a method of several objects has to beat."""

import warnings

import numpy as np
from scipy import ndimage
from scipy.cluster.vq import kmeans2

_LEAST_PIXELS = 5  # of a component that counts as an object
_PLACE_WEIGHT = 0.5  # of an image side against a colour channel's whole range
_RESTARTS = 3
_ITERATIONS = 20


def component_labels(masks: np.ndarray) -> np.ndarray:
    """Connected components of the foreground as objects; pixels touch along their sides.

    Where objects never touch, a foreground mask alone gives them so.

    Args:
      masks: bool [N, H, W].

    Returns:
      int [N, H, W]: 0 the background and components of fewer than 5 pixels, 1.. the others.
    """
    labels = np.zeros(masks.shape, int)
    for i, mask in enumerate(masks):
        found, _ = ndimage.label(mask)
        sizes = np.bincount(found.ravel())
        labels[i] = np.where(sizes[found] >= _LEAST_PIXELS, found, 0)
    return labels


def cluster_labels(images: np.ndarray, num_clusters: int) -> np.ndarray:
    """K-means of every image's pixels by colour and place, the best of three starts.

    Colours are in [0, 1], places in [0, 0.5]: were they in [0, 1], a large floor would be divided
    before small objects are. The largest cluster is the background. Every image has the same random
    numbers, whatever the others are.

    Args:
      images: uint8 [N, H, W, 3].
      num_clusters: clusters in an image; no more than it has pixels.

    Returns:
      int [N, H, W]: 0 the background, 1 to ``num_clusters`` the other clusters.
    """
    height, width = images.shape[1:3]
    y, x = _PLACE_WEIGHT * np.mgrid[:height, :width] / max(height, width)
    labels = np.zeros(images.shape[:3], int)
    for i, image in enumerate(images):
        points = np.concatenate([image / 255.0, x[..., None], y[..., None]], axis=-1)
        found = _k_means(points.reshape(-1, 5), num_clusters)
        background = np.bincount(found).argmax()
        labels[i] = np.where(found == background, 0, found + 1).reshape(height, width)
    return labels


def _k_means(points: np.ndarray, num_clusters: int) -> np.ndarray:
    """The cluster int [P] of each point [P, D]; that of the least squared distances."""
    num_clusters = min(num_clusters, len(points))
    rng = np.random.default_rng(0)
    tries = []
    for _ in range(_RESTARTS):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a cluster may well be empty
            centres, labels = kmeans2(points, num_clusters, _ITERATIONS, minit="++", rng=rng)
        tries.append((np.sum((points - centres[labels]) ** 2), labels))
    return min(tries, key=lambda one: one[0])[1]
