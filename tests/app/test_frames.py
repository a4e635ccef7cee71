"""Frames are the chain of `infer`, bit for bit, and what they say of it is right."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import drc_jax
from drc_jax import inference
from drc_jax.app import chains
from drc_jax.app.frames import frames, lowest
from drc_jax.app.pictures import Picture
from drc_jax.errors import NonFiniteError
from drc_jax.model import energies, posterior
from drc_jax.model.images import as_images
from tests.app.conftest import small_run

KEY = jax.random.key(3)
IMAGES = np.random.default_rng(1).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
KEYS = inference.image_keys(KEY, IMAGES)


def same(ours, theirs) -> None:
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("start", ["prior", "encoder"])
@pytest.mark.parametrize("key", [KEY, KEYS])
@pytest.mark.parametrize("every", [1, 4, 100])
def test_the_last_frame_is_what_infer_returns(run, start, key, every):
    options = dict(num_steps=9, **posterior.options(run.config.sampler, start))
    seen = list(frames(run.config.model, run.params, key, IMAGES, every=every, **options))
    steps = [frame.step for frame in seen]
    warm_up = [2] if start == "prior" else []
    assert steps == sorted({0, *range(0, 9, every), 9, *warm_up})
    same(seen[-1].regions, drc_jax.infer(run.config.model, run.params, key, IMAGES, **options))


def test_of_several_restarts_the_lowest_are_what_infer_returns(run):
    options = dict(num_steps=5, num_restarts=4)
    model = run.config.model
    seen = list(frames(model, run.params, KEY, IMAGES, every=3, **options))
    assert [(frame.restart, frame.step) for frame in seen] == [
        (restart, step) for restart in range(4) for step in (0, 3, 5)
    ]
    ends = [frame for frame in seen if frame.step == 5]
    best = lowest(np.stack([end.energy for end in ends]))
    assert len(set(best)) > 1  # images differ in which chain is theirs
    kept = [
        np.stack([getattr(ends[restart].regions, name)[i] for i, restart in enumerate(best)])
        for name in drc_jax.Regions._fields
    ]
    same(kept, drc_jax.infer(model, run.params, KEY, IMAGES, **options))


@pytest.mark.parametrize("num_slots", [1, 2])
def test_energies_are_those_of_the_latents(num_slots):
    run = small_run(num_slots)
    model = run.config.model
    for frame in frames(model, run.params, KEY, IMAGES, num_steps=4, every=2):
        z = jnp.asarray(frame.z)
        energy = drc_jax.posterior_energy(model, run.params, z, IMAGES)
        np.testing.assert_allclose(frame.energy, energy, rtol=1e-5)
        np.testing.assert_allclose(np.sum(frame.parts, axis=0), energy, rtol=1e-5)
        np.testing.assert_allclose(
            frame.parts.norm, 0.5 * np.square(frame.z).sum(axis=1), rtol=1e-5
        )
        prior = drc_jax.prior_energy(model, run.params, z)
        np.testing.assert_allclose(frame.parts.prior + frame.parts.norm, prior, rtol=1e-4)


def test_what_slots_cost_is_a_part_where_it_is_weighed():
    run = small_run(2)
    model = dataclasses.replace(run.config.model, slot_area_weight=3.0, langevin_weight=2.0)
    (frame, *_) = frames(model, run.params, KEY, IMAGES, num_steps=1, every=1)
    energy = drc_jax.posterior_energy(model, run.params, jnp.asarray(frame.z), IMAGES)
    np.testing.assert_allclose(np.sum(frame.parts, axis=0), energy, rtol=1e-5)
    assert (frame.parts.slots > 0).all()


@pytest.mark.parametrize("num_slots", [1, 3])
def test_responsibilities_weigh_densities_by_the_mixing_weights(num_slots):
    """(1.8) in NumPy, float64: with one slot the listing's epsilon is the background's."""
    run = small_run(num_slots)
    model = run.config.model
    (frame, *_) = frames(model, run.params, KEY, IMAGES, num_steps=1, every=1)
    x = np.asarray(as_images(model, IMAGES), np.float64)
    images, pi = (np.asarray(a, np.float64) for a in (frame.regions.images, frame.regions.pi))
    density = np.exp(-np.abs(images - x[:, None]) / (2 * model.sigma**2))
    if num_slots == 1:
        joint = pi[..., None] * density
        joint[:, -1] += energies.LISTING_EPSILON
        expected = (joint / joint.sum(axis=1, keepdims=True)).mean(axis=-1)
    else:
        joint = pi * density.prod(axis=-1)
        expected = joint / joint.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(frame.responsibilities, expected, atol=1e-4)


def test_no_number_of_steps_compiles_anything_anew(run):
    model = run.config.model

    def all_frames(num_steps: int, every: int, num_restarts: int = 1) -> None:
        for _ in frames(
            model,
            run.params,
            KEY,
            IMAGES,
            num_steps=num_steps,
            every=every,
            num_restarts=num_restarts,
        ):
            pass

    all_frames(2, 1, num_restarts=2)
    programs = (posterior._advance, posterior.energy, inference.rendered)
    before = [program._cache_size() for program in programs]
    all_frames(11, 4)
    all_frames(7, 100, num_restarts=3)
    assert [program._cache_size() for program in programs] == before


def test_nothing_runs_beyond_the_frame_that_was_asked_for(run, monkeypatch):
    advance, last = posterior._advance, []

    def counted(*arguments):
        last.append(arguments[6])
        return advance(*arguments)

    monkeypatch.setattr(posterior, "_advance", counted)
    seen = frames(run.config.model, run.params, KEY, IMAGES, num_steps=10**9, every=5)
    assert [next(seen).step for _ in range(3)] == [0, 5, 10]
    assert last == [5, 10]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(num_steps=0), "num_steps must be at least 1, got 0"),
        (dict(every=0), "every must be at least 1, got 0"),
        (dict(num_restarts=0), "num_restarts must be at least 1, got 0"),
        (dict(start="somewhere"), "start must be one of prior, encoder; got 'somewhere'"),
    ],
)
def test_what_cannot_run_is_refused_at_once(run, changes, message):
    with pytest.raises(drc_jax.UserError, match=message):
        frames(run.config.model, run.params, KEY, IMAGES, **(dict(num_steps=1, every=1) | changes))


def test_chains_that_leave_the_numbers_say_so(run):
    seen = frames(
        run.config.model, run.params, KEY, IMAGES, num_steps=500, every=100, step_size=9.0
    )
    with pytest.raises(NonFiniteError, match=r"no chain is finite after \d+ steps"):
        list(seen)


def test_a_recording_is_the_chain_that_extract_runs(run):
    pictures = [Picture(f"{i}.png", f"{i}.png", image) for i, image in enumerate(IMAGES[:3])]
    settings = chains.Settings(steps=9, restarts=2, seed=5)
    *_, recording = chains.recorded(run, pictures, settings)
    assert recording.is_complete
    # Three pictures go through the model as four, the last one twice.
    padded = IMAGES[[0, 1, 2, 2]]
    expected = run.infer_batch(5, num_steps=9, num_restarts=2)(padded)
    found = recording.regions()
    for name in found._fields:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name)[:3], name)
    rendered = drc_jax.render(run.config.model, run.params, jnp.asarray(recording.latents()))
    np.testing.assert_allclose(rendered.pi, found.pi, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(steps=0), "steps must be a whole number from 1 to 10000, 0"),
        (dict(steps=10**9), "steps must be a whole number from 1 to 10000, 1000000000"),
        (dict(restarts=17), "restarts must be a whole number from 1 to 16, 17"),
        (dict(seed=-1), "seed must be a whole number from 0 to .*, -1"),
        (dict(crop="oval"), "crop must be one of .*; got 'oval'"),
    ],
)
def test_settings_have_bounds(run, changes, message):
    picture = Picture("a.png", "a.png", IMAGES[0])
    with pytest.raises(drc_jax.UserError, match=message):
        chains.recorded(run, [picture], chains.Settings(**(dict(steps=1) | changes)))


def test_only_drc_has_chains_to_watch(run):
    other = run._replace(config=object())
    with pytest.raises(drc_jax.UserError, match="only runs of drc"):
        chains.recorded(other, [Picture("a", "a", IMAGES[0])], chains.Settings(steps=1))
