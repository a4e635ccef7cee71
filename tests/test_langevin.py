"""The sampler on energies whose behaviour is known exactly."""

import functools
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drc_jax import langevin
from drc_jax.errors import UserError

KEY = jax.random.key(7)


def gaussian_energy(z):
    return 0.5 * jnp.sum(jnp.square(z), axis=-1)


def test_stationary_variance_is_the_discrete_chains():
    """At delta 0.4 it is 1 / (1 - 0.04) = 1.0417; the continuous process would have 1."""
    delta, chains = 0.4, 400_000
    # 100 steps shrink a start's trace by (1 - delta^2 / 2)^200 < 1e-7.
    z = langevin.sample(
        KEY, gaussian_energy, jnp.zeros((chains, 1)), num_steps=100, step_size=delta
    )
    standard_error = np.sqrt(2 / chains) * 1.0417
    variance = float(jnp.mean(jnp.square(z)))
    assert abs(variance - 1 / (1 - delta**2 / 4)) < 4 * standard_error
    assert abs(variance - 1.0) > 10 * standard_error
    assert abs(float(jnp.mean(z))) < 4 * np.sqrt(1.0417 / chains)


def test_temperature_scales_the_variance():
    z = langevin.sample(
        KEY,
        gaussian_energy,
        jnp.zeros((100_000, 1)),
        num_steps=100,
        step_size=0.4,
        temperature=0.25,
    )
    np.testing.assert_allclose(jnp.mean(jnp.square(z)), 0.25 * 1.0417, rtol=0.02)


def test_zero_temperature_is_gradient_descent():
    def energy(z):
        return jnp.sum(jnp.square(jnp.square(z) - 1.0), axis=-1)

    z = expected = jnp.array([[0.3, -2.0], [1.5, 0.1]])
    for _ in range(25):
        expected = expected - 0.1**2 / 2 * jax.grad(lambda v: jnp.sum(energy(v)))(expected)
    z = langevin.sample(KEY, energy, z, num_steps=25, step_size=0.1, temperature=0.0)
    np.testing.assert_allclose(z, expected, rtol=1e-6)


def test_forty_steps_are_the_first_forty_of_sixty():
    z = jnp.zeros((3, 4))
    keys = dict(step_size=0.1, diagnostics=True)
    short, short_trace = langevin.sample(KEY, gaussian_energy, z, num_steps=40, **keys)
    _, long_trace = langevin.sample(KEY, gaussian_energy, z, num_steps=60, **keys)
    np.testing.assert_array_equal(long_trace.energy[:40], short_trace.energy)
    # The energy before step 41 is that of the state after step 40.
    np.testing.assert_allclose(long_trace.energy[40], gaussian_energy(short), rtol=1e-6)


def test_pytrees_and_scalar_energies():
    z = {"a": jnp.ones((5, 2)), "b": [jnp.zeros((5,)), jnp.ones((5, 1, 3))]}

    def energy(tree):
        return sum(0.5 * jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(tree))

    out, trace = langevin.sample(KEY, energy, z, num_steps=4, step_size=0.2, diagnostics=True)
    chex.assert_trees_all_equal_shapes_and_dtypes(out, z)
    assert trace.energy.shape == (4,)
    assert trace.gradient_norm.shape == (4,)
    chex.assert_trees_all_equal_structs(trace.mean_square, z)
    np.testing.assert_allclose(trace.mean_square["a"][0], 1.0)
    np.testing.assert_allclose(trace.gradient_norm[0], np.sqrt(5 * 2 + 15))
    # Without the drift, every number of every leaf has noise of its own.
    still = langevin.sample(KEY, energy, z, num_steps=4, step_size=0.2, temperature=0.0)
    for leaf, start in zip(jax.tree.leaves(still), jax.tree.leaves(z), strict=True):
        np.testing.assert_allclose(leaf, start * (1 - 0.2**2 / 2) ** 4, rtol=1e-6)
    noise = jax.tree.map(jnp.subtract, out, still)
    assert len(np.unique(np.concatenate([np.ravel(n) for n in jax.tree.leaves(noise)]))) == 30


def test_chains_do_not_depend_on_each_other():
    z = jax.random.normal(jax.random.key(1), (6, 3))
    kwargs = dict(num_steps=5, step_size=0.1)
    both = langevin.sample(KEY, gaussian_energy, z, **kwargs)
    changed = langevin.sample(KEY, gaussian_energy, z.at[2].set(9.0), **kwargs)
    keep = np.arange(6) != 2
    np.testing.assert_array_equal(both[keep], changed[keep])
    assert not np.allclose(both[2], changed[2])


@pytest.mark.parametrize("style", [jax.random.key, jax.random.PRNGKey])
def test_a_key_per_chain_makes_each_chain_as_if_alone(style):
    keys = jax.random.split(style(3), 5)
    z = {"a": jax.random.normal(KEY, (5, 4)), "b": jnp.arange(5.0)}

    def energy(tree):
        return 0.5 * jnp.sum(jnp.square(tree["a"]), axis=-1) + jnp.cos(tree["b"])

    def sample(keys, z, num_steps=4):
        return langevin.sample(keys, energy, z, num_steps=num_steps, step_size=0.3)

    def rows(tree, places):
        return jax.tree.map(lambda x: x[places], tree)

    together = sample(keys, z)
    chex.assert_trees_all_equal_shapes_and_dtypes(together, z)
    for part in (np.s_[:2], np.s_[2:]):
        alone = sample(keys[part], rows(z, part))
        chex.assert_trees_all_close(alone, rows(together, part), rtol=1e-6)
    for b in range(5):  # and with one key, which is not an array
        alone = sample(keys[b], rows(z, np.s_[b : b + 1]))
        chex.assert_trees_all_close(alone, rows(together, np.s_[b : b + 1]), rtol=1e-6)
    # No two chains or leaves have the same noise.
    noise = sample(keys, jax.tree.map(jnp.zeros_like, z), num_steps=1)
    values = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(noise)])
    assert len(np.unique(values)) == 25


def test_more_keys_change_nothing_for_the_first_chains():
    """The keys of a small batch are the first of a large one's, and so are the chains."""
    z = jnp.zeros((6, 3))
    sample = functools.partial(langevin.sample, num_steps=3, step_size=0.1)
    few = sample(jax.random.split(KEY, 2), gaussian_energy, z[:2])
    many = sample(jax.random.split(KEY, 6), gaussian_energy, z)
    np.testing.assert_allclose(few, many[:2], rtol=1e-6)
    assert not np.allclose(many[0], many[1])


def test_keys_that_do_not_match_the_chains_are_refused():
    with pytest.raises(AssertionError, match="prefix"):
        langevin.sample(
            jax.random.split(KEY, 3), gaussian_energy, jnp.zeros((2, 3)), num_steps=1, step_size=0.1
        )


def test_state_and_noise_are_float32_whatever_the_energy_computes_in():
    def bfloat16_energy(z):
        return jnp.sum(jnp.square(z.astype(jnp.bfloat16)), axis=-1)

    z = langevin.sample(
        KEY, bfloat16_energy, jnp.zeros((4, 8), jnp.bfloat16), num_steps=3, step_size=0.1
    )
    assert z.dtype == jnp.float32
    assert not np.array_equal(z, z.astype(jnp.bfloat16).astype(jnp.float32))


@pytest.mark.parametrize("jitted", [False, True])
def test_a_step_is_the_equation_and_the_sampler_its_repetition(jitted):
    z = jnp.array([[0.3, -2.0], [1.5, 0.1]])
    step = functools.partial(langevin.step, energy_fn=gaussian_energy)
    if jitted:
        step = jax.jit(step)
    still = step(key=KEY, z=z, step_size=0.4, temperature=0.0)
    np.testing.assert_allclose(still, z * (1 - 0.4**2 / 2), rtol=1e-6)
    noise = (step(key=KEY, z=z, step_size=0.4) - still) / 0.4
    cold = (step(key=KEY, z=z, step_size=0.4, temperature=0.25) - still) / 0.4
    np.testing.assert_allclose(cold, noise / 2, rtol=1e-4, atol=1e-6)

    stepped = z
    for t in range(3):
        stepped = step(key=jax.random.fold_in(KEY, t), z=stepped, step_size=0.1)
    sampled = langevin.sample(KEY, gaussian_energy, z, num_steps=3, step_size=0.1)
    np.testing.assert_allclose(sampled, stepped, rtol=1e-6)


def test_two_parts_of_a_chain_are_the_whole():
    z = jnp.ones((3, 2))
    sample = functools.partial(langevin.sample, KEY, gaussian_energy, step_size=0.3)
    half = sample(z, num_steps=4)
    parts = sample(half, num_steps=3, first_step=4)
    np.testing.assert_array_equal(parts, sample(z, num_steps=7))
    assert not np.allclose(parts, sample(half, num_steps=3))


def test_a_traced_number_of_steps_needs_one_program():
    @jax.jit
    @chex.assert_max_traces(n=1)
    def run(num_steps):
        return langevin.sample(
            KEY, gaussian_energy, jnp.ones((3, 2)), num_steps=num_steps, step_size=0.3
        )

    for number in (1, 5):
        expected = langevin.sample(
            KEY, gaussian_energy, jnp.ones((3, 2)), num_steps=number, step_size=0.3
        )
        np.testing.assert_allclose(run(number), expected, rtol=1e-6)


def test_under_jit_one_trace_serves_all_calls_of_the_same_shapes():
    chex.clear_trace_counter()

    @chex.assert_max_traces(n=1)
    def energy(z):
        return gaussian_energy(z)

    @jax.jit
    def run(key, z, delta):
        return langevin.sample(key, energy, z, num_steps=3, step_size=delta)

    first = run(jax.random.key(0), jnp.zeros((2, 3)), 0.1)
    second = run(jax.random.key(1), jnp.ones((2, 3)), 0.2)
    assert not np.allclose(first, second)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(num_steps=0), "num_steps must be at least 1, got 0"),
        (dict(num_steps=-3), "num_steps must be at least 1, got -3"),
        (dict(num_steps=2.5), "num_steps must be an integer, got 2.5"),
        (dict(step_size=0.0), "step_size must be finite and greater than 0, got 0.0"),
        (dict(step_size=-0.1), "step_size must be finite and greater than 0, got -0.1"),
        (dict(step_size=np.nan), "step_size must be finite and greater than 0, got nan"),
        (dict(step_size="0.1"), "step_size must be a number"),
        (dict(temperature=-1.0), "temperature must be finite and at least 0, got -1.0"),
    ],
)
def test_numbers_that_no_chain_can_run_with_are_refused(changes, message, as_users_call):
    options = dict(num_steps=1, step_size=0.1) | changes
    with pytest.raises(UserError, match=re.escape(message)):
        langevin.sample(KEY, gaussian_energy, jnp.zeros((2, 3)), **options)


def test_latents_that_are_no_floats_are_refused():
    with pytest.raises(UserError, match="latents must be floats, got int32"):
        langevin.sample(
            KEY, gaussian_energy, jnp.zeros((2, 3), jnp.int32), num_steps=1, step_size=0.1
        )


def test_a_chain_that_diverges_is_returned_as_it_is():
    z = langevin.sample(KEY, gaussian_energy, jnp.ones((2, 3)), num_steps=300, step_size=4.0)
    assert not np.isfinite(z).any()


def test_diagnostics_cost_nothing_when_off():
    """Without them the loop carries the state alone and stacks no output."""

    def loop_outputs(diagnostics):
        jaxpr = jax.make_jaxpr(
            lambda z: langevin.sample(
                KEY, gaussian_energy, z, num_steps=3, step_size=0.1, diagnostics=diagnostics
            )
        )(jnp.zeros((2, 3)))
        (scan,) = [eqn for eqn in jaxpr.eqns if eqn.primitive.name == "scan"]
        return len(scan.outvars)

    assert loop_outputs(False) == 2  # the number of the step, and the state
    assert loop_outputs(True) == 4
