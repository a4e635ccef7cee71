"""Comparing results of the same computation done in another order."""

import jax
import numpy as np


def assert_equal_to_rounding(found, expected):
    """Pytrees of arrays are equal, but for float32 rounding and what it does at a kink.

    The networks and the likelihood have kinks. Where rounding puts a value on the other side of
    one, a gradient jumps, and with it a chain or a weight: two in a hundred elements may differ by
    more than rounding, and all together by a hundredth of their norm.
    """
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    pairs = list(zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True))
    assert [np.shape(a) for a, _ in pairs] == [np.shape(b) for _, b in pairs]
    a, b = (
        np.concatenate([np.ravel(leaf) for leaf in leaves]) for leaves in zip(*pairs, strict=True)
    )
    far = ~np.isclose(a, b, rtol=1e-3, atol=1e-5)
    assert far.mean() <= 0.02, f"{far.sum()} of {far.size} elements differ"
    np.testing.assert_array_less(np.linalg.norm(a - b), 1e-2 * np.linalg.norm(b) + 1e-9)
