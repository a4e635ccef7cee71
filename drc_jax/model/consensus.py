"""What several chains of an image say together: (6.2) and (6.3) of docs/method.md."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float
from scipy.cluster import hierarchy

# Pixels that are clustered; the others join the cluster that they are most often with.
_MOST_NODES = 1024
# Clusters are joined while their pixels are together in more than this share of the chains, as
# Binder's loss has it where a pair wrongly apart costs three times as much as one wrongly together.
# Chains cut large objects far more often than they merge two. Chosen on training images.
_TOGETHER = 0.25


def consensus(weights: Float[Array, "m b k h w"]) -> Float[Array, "b k h w"]:
    """The shares of regions that M chains of each image agree on.

    All foregrounds together have their mean share over chains (6.2). Slots have no names that
    chains share, so which pixels belong together is asked instead: those that are in one slot in
    a quarter of the chains or more (6.3). That is found on the host; for one slot it is traceable.

    Args:
      weights: the regions' shares of each chain, slots first, summing to 1 over them. Chains that
        are not finite are left out.

    Returns:
      [B, K, H, W], summing to 1 over K, the largest object first; NaN where no chain is finite.
    """
    is_finite = jnp.isfinite(weights).all(axis=(2, 3, 4))
    weights = jnp.where(is_finite[..., None, None, None], weights, 0.0)
    count = is_finite.sum(axis=0).astype(jnp.float32)
    background = weights[:, :, -1].sum(axis=0) / count[:, None, None]  # 0 / 0 is seen as NaN
    foreground = 1.0 - background
    if weights.shape[2] == 2:
        return jnp.stack([foreground, background], axis=1)
    slots = np.asarray(weights[:, :, :-1])
    slots = slots / np.maximum(slots.sum(axis=2, keepdims=True), 1e-30)
    images = zip(np.moveaxis(slots, 1, 0), np.asarray(foreground) > 0.5, strict=True)
    shares = jnp.asarray(np.stack([_of_image(*image) for image in images]))
    return jnp.concatenate([foreground[:, None] * shares, background[:, None]], axis=1)


def _of_image(
    slots: Float[np.ndarray, "m n h w"], is_foreground: Bool[np.ndarray, "h w"]
) -> Float[np.ndarray, "n h w"]:
    """Each slot's share of one image's foreground; chains that are left out are 0 throughout."""
    slots = slots[slots.any(axis=(1, 2, 3))]
    num_slots, places = slots.shape[1], np.flatnonzero(is_foreground)
    first = np.zeros(slots.shape[1:], np.float32)
    first[0] = 1.0
    if len(places) < 2:
        return first
    nodes = places[np.linspace(0, len(places) - 1, min(len(places), _MOST_NODES)).astype(int)]
    at_nodes = slots.reshape(*slots.shape[:2], -1)[..., nodes]
    labels = _clusters(np.einsum("msp,msq->pq", at_nodes, at_nodes) / len(slots), num_slots)
    found, sizes = np.unique(labels, return_counts=True)
    similar = np.zeros(slots.shape[1:], np.float32)
    for slot, label in enumerate(found[np.argsort(-sizes, kind="stable")]):
        members = at_nodes[..., labels == label].mean(axis=-1)
        similar[slot] = np.einsum("ms,mshw->hw", members, slots)
    total = similar.sum(axis=0)
    return np.where(total > 0, similar / np.where(total > 0, total, 1.0), first)


def _clusters(together: Float[np.ndarray, "p p"], most: int) -> np.ndarray:
    """Labels of at most ``most`` clusters: average linkage of how often pixels share a slot."""
    apart = np.clip(1.0 - together, 0.0, 1.0)
    tree = hierarchy.linkage(apart[np.triu_indices(len(apart), 1)], "average")
    labels = hierarchy.fcluster(tree, 1.0 - _TOGETHER, "distance")
    return labels if labels.max() <= most else hierarchy.fcluster(tree, most, "maxclust")
