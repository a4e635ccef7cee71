"""Comparing results of the same computation done in another order."""

import jax
import numpy as np
import optax


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


def assert_same_step(found, expected, before):
    """Two ``TrainState`` after one step from ``before`` are equal to rounding, updates too.

    Adam moves a weight by its rate even where the gradient is rounding alone, so updates are
    compared where the gradient is something: above a thousandth of all gradients' root mean square.
    """
    assert found.step == expected.step
    for name in ("posterior_chains", "prior_chains"):
        if getattr(expected, name) is not None:
            assert_equal_to_rounding(getattr(found, name), getattr(expected, name))
    for name in ("generator_opt_state", "ebm_opt_state"):
        states = getattr(found, name), getattr(expected, name)
        for moment, limit in (("mu", 1e-2), ("nu", 2e-2)):
            a, b = (_flat(optax.tree.get(state, moment)) for state in states)
            np.testing.assert_array_less(np.linalg.norm(a - b), limit * np.linalg.norm(b))
    parts = (("generator", "classifier"), "generator_opt_state"), (("ebm",), "ebm_opt_state")
    for names, optimizer in parts:
        moves = [
            _flat({n: jax.tree.map(np.subtract, after.params[n], before.params[n]) for n in names})
            for after in (found, expected)
        ]
        gradient = np.abs(_flat(optax.tree.get(getattr(expected, optimizer), "mu")))
        matters = gradient > 1e-3 * np.sqrt(np.mean(gradient**2))
        a, b = (move[matters] for move in moves)
        assert matters.mean() > 0.3 and np.abs(b).max() > 0
        far = np.abs(a - b) > 0.05 * np.abs(b).max()
        assert far.mean() <= 0.02, f"{far.sum()} of {far.size} updates differ"


def _flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])
