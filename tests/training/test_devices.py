"""Eight devices do what one does, and chains never travel between them."""

import dataclasses
import itertools
import re

import chex
import jax
import numpy as np
import pytest

import drc_jax
from drc_jax.benchmark import timing
from drc_jax.data.packed.batches import train_batches
from drc_jax.data.packed.format import Record, open_split
from drc_jax.data.packed.writing import write_split
from drc_jax.runs import chain_files, checkpoint
from drc_jax.runtime import devices
from drc_jax.training import chains, loop
from drc_jax.training import step as steps
from tests.helpers.rounding import assert_same_step
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
    states, all_metrics = [devices.to_host(state)], []
    for batch in batches:
        state, metrics = drc_jax.train_step(alone, state, batch)
        states.append(devices.to_host(state))
        all_metrics.append(jax.device_get(metrics))
    return states, all_metrics


@pytest.fixture(scope="module")
def mesh():
    assert jax.device_count() == DEVICES
    return devices.data_mesh(DEVICES)


def test_initial_state_is_one_devices_shared_out(config):
    state = drc_jax.init_state(config, USED)
    expected = drc_jax.init_state(dataclasses.replace(config, num_devices=1), USED)
    chex.assert_trees_all_close(devices.to_host(state), jax.device_get(expected), rtol=1e-6)
    for bank in (state.posterior_chains, state.prior_chains):
        shapes = {shard.data.shape for shard in bank.addressable_shards}
        assert shapes == {(USED // DEVICES, 2, 9)}
        starts = [shard.index[0].start or 0 for shard in bank.addressable_shards]
        assert starts == list(range(0, USED, USED // DEVICES))
    for leaf in jax.tree.leaves((state.params, state.generator_opt_state, state.step)):
        assert leaf.is_fully_replicated and len(leaf.addressable_shards) == DEVICES


def test_steps_equal_one_devices(config, batches, one_device):
    """From the same states: a run of its own drifts, where rounding crosses a kink of a network."""
    states, all_metrics = one_device
    for before, expected, metrics, batch in zip(
        states[:-1], states[1:], all_metrics, batches, strict=True
    ):
        found, found_metrics = drc_jax.train_step(config, before, batch)
        assert found_metrics.keys() == metrics.keys()
        chex.assert_trees_all_close(found_metrics, metrics, rtol=1e-3, atol=1e-4)
        assert_same_step(devices.to_host(found), expected, before)


def test_a_run_of_its_own_stays_close(config, batches, one_device):
    state = drc_jax.init_state(config, USED)
    for batch, expected in zip(batches, one_device[1], strict=True):
        state, metrics = drc_jax.train_step(config, state, batch)
        for name in ("generator_loss", "ebm_loss", "posterior_displacement_foreground"):
            np.testing.assert_allclose(metrics[name], expected[name], rtol=1e-2, atol=1e-4)


def test_devices_keep_equal_parameters_and_only_add_up(config, mesh, batches):
    state = drc_jax.init_state(config, USED)
    compiled = steps.step._cache_size()
    for batch in batches:
        state, _ = drc_jax.train_step(config, state, batch)
    assert steps.step._cache_size() <= compiled + 1
    for leaf in jax.tree.leaves((state.params, state.generator_opt_state, state.ebm_opt_state)):
        copies = [np.asarray(shard.data) for shard in leaf.addressable_shards]
        assert len(copies) == DEVICES
        for copy in copies[1:]:
            np.testing.assert_array_equal(copy, copies[0])

    drc = drc_jax.DRC()
    state, banks = drc.split_chains(state)
    placed = devices.place_rows(mesh, batches[0])
    rows = placed["index"], placed["flip"]
    own = chains._take(mesh, banks, *rows)
    step_config = drc.step_config(config)
    programs = [
        steps.step.lower(drc, mesh, step_config, state, own, placed["image"], 0),
        chains._take.lower(mesh, banks, *rows),
        chains._put.lower(mesh, banks, *rows, own),
    ]
    texts = [program.compile().as_text() for program in programs]
    assert re.search(r"\ball-reduce", texts[0])
    assert not any(re.search(r"\ball-reduce", text) for text in texts[1:])
    assert not any(re.search(CHAINS_TRAVEL, text) for text in texts)


def test_a_state_goes_to_the_host_and_back(config, mesh):
    state, banks = drc_jax.DRC().split_chains(drc_jax.init_state(config, USED))
    for tree, lie in ((state, devices.on_all(mesh)), (banks, devices.by_rows(mesh))):
        on_host = devices.to_host(tree)
        assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(on_host))
        again = devices.place(on_host, lie)
        jax.tree.map(lambda a, b: chex.assert_equal(a.sharding, b.sharding), again, tree)
        chex.assert_trees_all_equal(devices.to_host(again), on_host)


def test_what_cannot_be_shared_is_refused(config, batches):
    state = drc_jax.init_state(config, USED)
    swapped = {**batches[0], "index": batches[0]["index"][::-1]}
    with pytest.raises(drc_jax.UserError, match=r"index'\] must lie in \[0, 4\), got "):
        drc_jax.train_step(config, state, swapped)
    with pytest.raises(
        drc_jax.UserError, match=r"num_devices 9 is more than there are: .* 8 of .*=9 makes"
    ):
        devices.data_mesh(9)
    with pytest.raises(drc_jax.UserError, match=r"batch_size 16 .* 8 images"):
        drc_jax.init_state(config, 8)
    small = devices.data_mesh(2)
    assert devices.own_shards(small) == [0, 1]
    assert devices.shardable_images(small, 35) == 34


def test_the_largest_number_is_known_to_all(mesh):
    assert int(devices.largest(mesh, 15)) == 15


def test_chains_in_files_do_what_chains_on_devices_do(config, split, tmp_path):
    """To the bit, and resumed like a run that was not."""
    config = dataclasses.replace(
        config,
        chain_bank="host",
        images_at_once=1,
        iterations=STEPS,
        checkpoint_every=2,
        image_every=0,
    )
    whole, resumed = (tmp_path / name for name in ("whole", "resumed"))
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

    on_devices = dataclasses.replace(config, chain_bank="device")
    loop.train(on_devices, tmp_path / "on_devices", split)
    like = jax.eval_shape(lambda: drc_jax.init_state(on_devices, USED))
    _, expected = checkpoint.restore_state(tmp_path / "on_devices", like)
    fresh = drc_jax.init_state(on_devices, USED)
    for name, found in zip(chain_files.NAMES, banks, strict=True):
        np.testing.assert_array_equal(found, getattr(expected, f"{name}_chains"))
        assert (found != np.asarray(getattr(fresh, f"{name}_chains"))).any()


def test_what_the_benchmark_times_is_shared_out(config):
    memory = timing.program_memory(config, "prior")
    assert memory.what_goes_out == 4 * 9 * BATCH // DEVICES
    timed = timing.benchmark(config, "prior", repeats=1)
    assert timed.batch_size == BATCH and timed.program_bytes == memory.total
    program = timing._program(config, "train")
    lowered = program.lower(*jax.eval_shape(program.arguments))
    assert f"num_partitions = {DEVICES}" in lowered.as_text()


def test_arrays_larger_than_the_memory_are_refused(config, split, tmp_path):
    """Before the folder is made: a corrected config can still be given it."""
    with pytest.raises(drc_jax.UserError, match=r"alone take [0-9,.]+ GB of the .* that cpu has"):
        huge = dataclasses.replace(config.model, zf_dim=65_536, ebm_width=65_536)
        loop.train(dataclasses.replace(config, model=huge), tmp_path / "run", split)
    assert not (tmp_path / "run").exists()
