"""Run by test_sharding.py in a process that has eight CPU devices."""

import dataclasses
import itertools
import re

import chex
import jax
import numpy as np
import pytest

import drc_jax
from drc_jax.benchmark import timing as benchmark
from drc_jax.data.packed.batches import train_batches
from drc_jax.data.packed.datasets import Record, write_split
from drc_jax.data.packed.format import open_split
from drc_jax.runs import checkpoint
from drc_jax.training import chain_files, loop, sharded_step
from drc_jax.training import chains as chain_banks
from drc_jax.training import devices as sharding
from tests.helpers.rounding import assert_equal_to_rounding
from tests.helpers.small import ONE_BLOCK

CHAINS_TRAVEL = r"\b(all-gather|all-to-all|collective-permute|reduce-scatter|collective-broadcast)"
DEVICES, IMAGES, USED, BATCH, STEPS = 8, 35, 32, 16, 3


@pytest.fixture(scope="module")
def config():
    return drc_jax.TrainConfig(
        model=ONE_BLOCK,
        sampler=drc_jax.SamplerConfig(posterior_steps=3, prior_steps=2),
        batch_size=BATCH,
        num_devices=DEVICES,
        seed=11,
    )


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (IMAGES, 8, 8, 3), np.uint8)
    records = [Record(image, None, str(i)) for i, image in enumerate(images)]
    write_split(folder, "train", records, image_size=8, has_masks=False, source={})
    return open_split(folder, "train")


def first_batches(split, seed):
    stream = train_batches(
        split, batch_size=BATCH, seed=seed, start_step=0, flip=True, num_shards=DEVICES
    )
    return list(itertools.islice(stream, STEPS))


@pytest.fixture(scope="module")
def batches(split):
    return first_batches(split, seed=3)


@pytest.fixture(scope="module")
def one_device(config, batches):
    """The states before and after every step on one device, and their metrics, on the host."""
    alone = dataclasses.replace(config, num_devices=1)
    state = drc_jax.init_state(alone, USED)
    states, all_metrics = [sharding.to_host(state)], []
    for batch in batches:
        state, metrics = drc_jax.train_step(alone, state, batch)
        states.append(sharding.to_host(state))
        all_metrics.append(jax.device_get(metrics))
    return states, all_metrics


@pytest.fixture(scope="module")
def mesh():
    assert jax.device_count() == DEVICES
    return sharding.data_mesh(DEVICES)


def test_initial_state_is_one_devices_shared_out(config, mesh):
    state = sharding.init_state(config, mesh, IMAGES)
    expected = drc_jax.init_state(dataclasses.replace(config, num_devices=1), USED)
    chex.assert_trees_all_close(sharding.to_host(state), jax.device_get(expected), rtol=1e-6)
    for bank in (state.posterior_chains, state.prior_chains):
        shapes = {shard.data.shape for shard in bank.addressable_shards}
        assert shapes == {(USED // DEVICES, 2, 9)}
        starts = [shard.index[0].start or 0 for shard in bank.addressable_shards]
        assert starts == list(range(0, USED, USED // DEVICES))
    for leaf in jax.tree.leaves((state.params, state.generator_opt_state, state.step)):
        assert leaf.is_fully_replicated and len(leaf.addressable_shards) == DEVICES


def test_steps_equal_one_devices(config, mesh, batches, one_device):
    """From the same states: a run of its own drifts, where rounding crosses a kink of a network."""
    states, all_metrics = one_device
    for before, expected, metrics, batch in zip(
        states[:-1], states[1:], all_metrics, batches, strict=True
    ):
        found, found_metrics = sharded_step.train_step(
            config, mesh, sharding.place_state(mesh, before), batch
        )
        found = sharding.to_host(found)
        assert found_metrics.pop("signal") == 0
        assert found_metrics.keys() == metrics.keys()
        chex.assert_trees_all_close(found_metrics, metrics, rtol=1e-3, atol=1e-4)
        for name in (
            "posterior_chains",
            "prior_chains",
            "generator_opt_state",
            "ebm_opt_state",
        ):
            assert_equal_to_rounding(getattr(found, name), getattr(expected, name))
        # A weight whose gradient is rounding alone may move by Adam's rate, either way.
        chex.assert_trees_all_close(found.params, expected.params, atol=2.1e-4)
        assert found.step == expected.step


def test_a_run_of_its_own_stays_close(config, mesh, batches, one_device):
    state = sharding.init_state(config, mesh, IMAGES)
    for batch, expected in zip(batches, one_device[1], strict=True):
        state, metrics = sharded_step.train_step(config, mesh, state, batch)
        for name in ("generator_loss", "ebm_loss", "posterior_displacement_foreground"):
            np.testing.assert_allclose(metrics[name], expected[name], rtol=1e-2, atol=1e-4)


def test_devices_keep_equal_parameters_and_only_add_up(config, mesh, batches):
    state = sharding.init_state(config, mesh, IMAGES)
    for batch in batches:
        state, metrics = sharded_step.train_step(config, mesh, state, batch, signal=15)
        assert metrics["signal"] == 15
    for leaf in jax.tree.leaves((state.params, state.generator_opt_state, state.ebm_opt_state)):
        copies = [np.asarray(shard.data) for shard in leaf.addressable_shards]
        assert len(copies) == DEVICES
        for copy in copies[1:]:
            np.testing.assert_array_equal(copy, copies[0])
    assert sharded_step.unchecked_train_step._cache_size() == 1

    used = {**batches[0], "signal": np.zeros(DEVICES, np.int32)}
    placed = sharding.place_batch(mesh, used)
    program = sharded_step.unchecked_train_step.lower(
        mesh, config.model, config.sampler, config.optimizer, state, placed, 0, 0
    ).compile()
    text = program.as_text()
    assert re.search(r"\ball-reduce", text)
    assert not re.search(CHAINS_TRAVEL, text)


def test_a_state_goes_to_the_host_and_back(config, mesh):
    state = sharding.init_state(config, mesh, IMAGES)
    on_host = sharding.to_host(state)
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(on_host))
    again = sharding.place_state(mesh, on_host)
    jax.tree.map(lambda a, b: chex.assert_equal(a.sharding, b.sharding), again, state)
    chex.assert_trees_all_equal(sharding.to_host(again), on_host)


def test_what_cannot_be_shared_is_refused(config, mesh, batches):
    state = sharding.init_state(config, mesh, IMAGES)
    swapped = {**batches[0], "index": batches[0]["index"][::-1]}
    with pytest.raises(drc_jax.UserError, match=r"index'\] must lie in \[0, 4\), got "):
        sharded_step.train_step(config, mesh, state, swapped)
    with pytest.raises(
        drc_jax.UserError, match=r"num_devices 9 is more than there are: .* 8 of .*=9 makes"
    ):
        sharding.data_mesh(9)
    with pytest.raises(drc_jax.UserError, match=r"batch_size 16 .* 8 images"):
        sharding.init_state(config, mesh, 15)
    small = sharding.data_mesh(2)
    assert sharding.own_shards(small) == [0, 1]
    assert sharding.shardable_images(small, 35) == 34


def test_chains_in_files_do_what_chains_on_devices_do(config, mesh, split, tmp_path):
    """In parts, where those take their images at once; and resumed like a run that was not."""
    config = dataclasses.replace(
        config,
        chain_bank="host",
        images_at_once=1,
        iterations=STEPS,
        checkpoint_every=2,
        image_every=0,
    )
    whole, resumed, fresh = (tmp_path / name for name in ("whole", "resumed", "fresh"))
    loop.train(config, whole, split)
    loop.train(dataclasses.replace(config, iterations=2), resumed, split)
    loop.train(config, resumed, split)
    like = jax.eval_shape(lambda: drc_jax.init_state(config, USED))

    def result(workdir):
        step, state = checkpoint.restore_state(workdir, like)
        saved = checkpoint.saved_files(workdir, step)
        return step, state, [np.load(saved / f"{name}.npy") for name in chain_files.NAMES]

    step, state, banks = result(whole)
    assert step == STEPS and banks[0].shape == (USED, 2, 9)
    chex.assert_trees_all_equal(result(resumed), (step, state, banks))

    on_devices = dataclasses.replace(config, chain_bank="device", images_at_once=0)
    chain_files.create(fresh, USED, 9, config.seed)
    expected = drc_jax.init_state(dataclasses.replace(on_devices, num_devices=1), USED)
    expected = dataclasses.replace(
        jax.device_get(expected),
        posterior_chains=np.load(fresh / "posterior.npy"),
        prior_chains=np.load(fresh / "prior.npy"),
    )
    expected = sharding.place_state(mesh, expected)
    for batch in first_batches(split, config.seed):
        expected, _ = sharded_step.train_step(on_devices, mesh, expected, batch)
    for found, bank in zip(banks, (expected.posterior_chains, expected.prior_chains), strict=True):
        np.testing.assert_allclose(found, bank, atol=1e-3)
        assert (found != np.load(fresh / "prior.npy")).any()


def test_what_the_benchmark_times_is_shared_out(config):
    memory = benchmark.program_memory(config, "prior")
    assert memory.what_goes_out == 4 * 9 * BATCH // DEVICES
    timing = benchmark.benchmark(config, "prior", repeats=1)
    assert timing.batch_size == BATCH and timing.program_bytes == memory.total
    program = benchmark._program(config, "train")
    lowered = program.lower(*jax.eval_shape(program.arguments))
    assert f"num_partitions = {DEVICES}" in lowered.as_text()


def test_unwritten_chains_are_handed_over_within_their_device(mesh):
    rows = sharding.by_rows(mesh)
    rng = np.random.default_rng(0)
    old, new = (
        jax.device_put([rng.standard_normal((BATCH, 9), np.float32) for _ in range(2)], rows)
        for _ in range(2)
    )
    share = BATCH // DEVICES
    places = np.arange(BATCH).reshape(DEVICES, share)[:, ::-1].reshape(-1).astype(np.int32)
    places[::3] = -1
    found = chain_banks._replace(old, new, places, DEVICES)
    for before, newer, after in zip(old, new, found, strict=True):
        expected = np.where(places[:, None] < 0, before, np.asarray(newer)[places])
        np.testing.assert_array_equal(after, expected)
        assert after.sharding.is_equivalent_to(rows, 2)
    text = chain_banks._replace.lower(old, new, places, DEVICES).compile().as_text()
    assert not re.search(CHAINS_TRAVEL, text)
