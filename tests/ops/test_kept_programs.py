"""Functions that are new at every call share programs, and leave nothing behind."""

import functools
import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drc_jax import langevin
from drc_jax.ops import programs

KEY = jax.random.key(7)
JIT = jax.jit


def gaussian_energy(z):
    return 0.5 * jnp.sum(jnp.square(z), axis=-1)


@pytest.mark.parametrize(
    ("wrapped", "compiled"),
    [(lambda f: f, 1), (jax.jit, 1), (lambda f: functools.partial(JIT(f)), 4)],
)
def test_fresh_lambdas_over_fresh_arrays_leave_nothing(monkeypatch, wrapped, compiled):
    """The README's use: every call has a function of its own, over images of its own.

    They share a program, unless a ``jit`` of the caller's hides the arrays from it.
    """
    made = []
    monkeypatch.setattr(jax, "jit", lambda f: made.append(1) or JIT(f))
    monkeypatch.setattr(programs, "_PROGRAMS", type(programs._PROGRAMS)())
    alive, results = [], []
    for number in range(4):
        centre = jnp.full((64, 3), float(number))
        z = langevin.sample(
            KEY,
            wrapped(lambda z, centre=centre: gaussian_energy(z - centre)),
            jnp.zeros((64, 3)),
            num_steps=3,
            step_size=0.1,
        )
        results.append(np.asarray(z))
        alive.append(weakref.ref(centre))
        del centre, z
    gc.collect()
    assert [reference() for reference in alive] == [None] * 4
    assert len(made) == compiled
    # They are no constants of one program: chain n is drawn to its own centre.
    pull = results[0] - results[3]
    np.testing.assert_allclose(pull, -3.0 * (1 - (1 - 0.1**2 / 2) ** 3), rtol=1e-4)


def test_functions_that_differ_in_a_number_are_not_taken_for_each_other():
    z = jnp.ones((2, 3))
    options = dict(num_steps=1, step_size=0.1, temperature=0.0)
    one = langevin.sample(KEY, lambda z: 1.0 * gaussian_energy(z), z, **options)
    two = langevin.sample(KEY, lambda z: (1.0 + 2**-20) * gaussian_energy(z), z, **options)
    far = langevin.sample(KEY, lambda z: 3.0 * gaussian_energy(z), z, **options)
    np.testing.assert_allclose(one, 1 - 0.1**2 / 2, rtol=1e-7)
    np.testing.assert_allclose(two, 1 - (1 + 2**-20) * 0.1**2 / 2, rtol=1e-7)
    np.testing.assert_allclose(far, 1 - 3 * 0.1**2 / 2, rtol=1e-7)


def test_functions_that_differ_in_a_callback_are_not_taken_for_each_other():
    def centred(place):
        shape = jax.ShapeDtypeStruct((3,), jnp.float32)
        centre = np.full(3, place, np.float32)
        return lambda z: gaussian_energy(z - jax.pure_callback(lambda: centre, shape)[None])

    for place in (1.0, 5.0):
        z = langevin.sample(
            KEY, centred(place), jnp.zeros((2, 3)), num_steps=1, step_size=0.1, temperature=0.0
        )
        np.testing.assert_allclose(z, place * 0.1**2 / 2, rtol=1e-6)


def test_programs_that_are_kept_are_few():
    for size in range(1, programs._PROGRAMS_KEPT + 4):
        langevin.sample(KEY, gaussian_energy, jnp.zeros((1, size)), num_steps=1, step_size=0.1)
    assert len(programs._PROGRAMS) == programs._PROGRAMS_KEPT
