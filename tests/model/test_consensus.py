"""What several chains say together of masks and of slots."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from drc_jax.model.consensus import consensus

SIDE, SLOTS = 12, 3
OBJECTS = np.zeros((SIDE, SIDE), int)
OBJECTS[1:9, 1:6] = 1  # the largest
OBJECTS[2:6, 8:11] = 2


def one_hot(labels: np.ndarray) -> np.ndarray:
    """[K, H, W] of labels 0 to K - 1."""
    return np.stack([labels == k for k in range(SLOTS + 1)]).astype(np.float32)


def chain(order: tuple[int, ...], cut: int | None = None) -> np.ndarray:
    """A chain whose slots come in some order, and that may cut the largest object at a row."""
    labels = np.where(OBJECTS == 0, SLOTS, np.array([SLOTS, *order])[OBJECTS])
    if cut is not None:
        (spare,) = set(range(SLOTS)) - set(order)
        rows = np.arange(SIDE)[:, None]
        labels = np.where((OBJECTS == 1) & (rows >= cut), spare, labels)
    return one_hot(labels)


def test_slots_that_change_their_order_and_cut_an_object_anywhere_agree_on_whole_ones():
    orders = list(itertools.permutations(range(SLOTS), 2))
    cuts = [3, None, 5, None, 7, None]
    chains = np.stack([chain(order, cut) for order, cut in zip(orders, cuts, strict=True)])
    found = np.asarray(consensus(jnp.asarray(chains)[:, None]))[0]
    # The largest object is slot 0, the other slot 1, and slot 2 is not needed.
    np.testing.assert_array_equal(found.argmax(0), np.where(OBJECTS == 0, SLOTS, OBJECTS - 1))
    np.testing.assert_allclose(found.sum(0), 1, atol=1e-6)
    np.testing.assert_allclose(1 - found[-1], OBJECTS > 0, atol=1e-6)


def test_a_cut_that_nearly_all_chains_make_stays():
    cuts = [5, 5, 5, 5, None]
    chains = np.stack([chain((0, 1), cut) for cut in cuts])
    labels = np.asarray(consensus(jnp.asarray(chains)[:, None]))[0].argmax(0)
    rows = np.arange(SIDE)[:, None]
    parts = [labels[(OBJECTS == 1) & (rows < 5)], labels[(OBJECTS == 1) & (rows >= 5)]]
    assert all(len(set(part)) == 1 for part in parts) and parts[0][0] != parts[1][0]


def test_more_clusters_than_slots_are_joined():
    """Four objects; each pair shares a slot in one of ten chains, the first two in two."""
    objects = np.repeat(np.arange(4), SIDE // 4)[:, None] * np.ones((1, SIDE), int)
    pairs = [[0, 0, 1, 2], [0, 1, 0, 2], [0, 1, 2, 0], [0, 1, 1, 2], [0, 1, 2, 1], [0, 1, 2, 2]]
    fourth_lost = [[0, 0, 1, SLOTS], *3 * [[0, 1, 2, SLOTS]]]
    chains = np.stack([one_hot(np.array(slots)[objects]) for slots in pairs + fourth_lost])
    labels = np.asarray(consensus(jnp.asarray(chains)[:, None]))[0].argmax(0)
    found = [set(labels[objects == k]) for k in range(4)]
    assert found[0] == found[1] == {0} and {*found[2], *found[3]} == {1, 2}


def test_empty_images_and_bad_chains():
    empty = np.zeros((SLOTS + 1, SIDE, SIDE), np.float32)
    empty[-1] = 1
    bad = np.full_like(empty, np.nan)
    chains = np.stack([np.stack([empty, chain((0, 1)), bad]), np.stack([empty, bad, bad])])
    found = np.asarray(consensus(jnp.asarray(chains)))
    np.testing.assert_array_equal(found[0, -1], 1)
    np.testing.assert_array_equal(found[1].argmax(0), np.where(OBJECTS == 0, SLOTS, OBJECTS - 1))
    assert np.isnan(found[2]).all()  # seen as a chain that diverges is


def test_one_slot_is_traceable():
    chains = np.random.default_rng(0).uniform(size=(3, 2, 1, 4, 4)).astype(np.float32)
    chains = np.concatenate([chains, 1 - chains], axis=2)
    np.testing.assert_allclose(jax.jit(consensus)(chains), chains.mean(0), atol=1e-6)


def test_many_pixels_are_clustered_by_some_of_them():
    """64x64 foreground pixels, four times as many as are clustered."""
    left = np.arange(64)[None] < 32
    labels = np.where(left, 0, 1) * np.ones((64, 1), int)
    weights = np.stack([labels == 0, labels == 1, labels == 2]).astype(np.float32)
    found = np.asarray(consensus(jnp.asarray(np.stack([weights, weights[[1, 0, 2]]]))[:, None]))[0]
    assert len(set(found.argmax(0)[:, :32].ravel())) == 1
    assert len(set(found.argmax(0)[:, 32:].ravel())) == 1
    assert found.argmax(0)[0, 0] != found.argmax(0)[0, 40]
