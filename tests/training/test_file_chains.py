"""Chains in files: what a step gets never depends on how far reading and writing have come."""

import contextlib
import errno
import os
import resource
import threading
import tracemalloc

import jax
import numpy as np
import pytest

from drc_jax import files
from drc_jax.errors import UserError
from drc_jax.runs import chain_files
from drc_jax.runtime import devices
from drc_jax.training import file_chains
from drc_jax.training.state import Chains

NUM_IMAGES, LATENTS, BATCH = 7, 3, 4


def make_batches(count, seed=0):
    """Batches that share chains with those just before them."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        index = rng.permutation(NUM_IMAGES)[:BATCH].astype(np.int32)
        yield {"index": index, "flip": rng.random(BATCH) < 0.5, "image": index}


def numbers(index, latents):
    """Chains that say whose they are."""
    posterior = np.arange(2 * latents, dtype=np.float32).reshape(2, latents)
    posterior = posterior + np.float32(100) * index[:, None, None].astype(np.float32)
    return Chains(posterior, -posterior)


def draw(index):
    return numbers(index, LATENTS)


@jax.jit
def advance(chains, step):
    """In the place of a training step: the order of steps shows in the result."""
    return jax.tree.map(lambda z: 0.5 * z + step, chains)


def opened(folder):
    return contextlib.closing(file_chains.FileChains(folder, devices.data_mesh(1)))


def load(folder):
    return [np.load(folder / f"{name}.npy") for name in ("posterior", "prior")]


def expected_after(banks, count):
    """The same steps on arrays in memory."""
    banks = [bank.copy() for bank in banks]
    for step, batch in enumerate(make_batches(count)):
        sides = batch["flip"].astype(int)
        for bank in banks:
            bank[batch["index"], sides] = 0.5 * bank[batch["index"], sides] + np.float32(step)
    return banks


def run(banks, count, each=lambda step: None):
    """Runs steps and checks what each is fed."""
    fresh = load(banks._folder)
    for step, (batch, chains) in enumerate(banks.feed(make_batches(count))):
        for bank, z in zip(expected_after(fresh, step), chains, strict=True):
            np.testing.assert_array_equal(z, bank[batch["index"], batch["flip"].astype(int)])
        banks.put(batch, advance(chains, np.float32(step)))
        each(step)


@pytest.fixture
def folder(tmp_path):
    chain_files.create(tmp_path / "banks", NUM_IMAGES, LATENTS, draw)
    return tmp_path / "banks"


def test_creating_draws_block_by_block(tmp_path):
    asked = []

    def noted(index):
        asked.append(len(index))
        return draw(index)

    chain_files.create(tmp_path / "new" / "banks", 5000, LATENTS, noted)
    posterior, prior = load(tmp_path / "new" / "banks")
    assert asked == [4096, 904] and posterior.shape == (5000, 2, LATENTS)
    expected = draw(np.arange(5000))
    np.testing.assert_array_equal(posterior, expected.posterior)
    np.testing.assert_array_equal(prior, expected.prior)


def test_creating_holds_a_few_blocks(tmp_path):
    tracemalloc.start()
    try:
        chain_files.create(tmp_path, 40_000, 16, lambda index: numbers(index, 16))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    block = chain_files._BLOCK * 2 * 16 * 4
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) > 19 * block
    assert peak < 6 * block


def test_every_step_gets_the_newest_chains(folder):
    fresh = load(folder)
    with opened(folder) as banks:
        run(banks, 40)
        banks.file_copier()(folder.parent / "copy").result()
    for found, expected in zip(
        load(folder.parent / "copy"), expected_after(fresh, 40), strict=True
    ):
        np.testing.assert_array_equal(found, expected)
    assert not folder.exists()


def test_reading_waits_for_the_writes_of_the_same_chains_only(folder):
    fresh, rows = load(folder), np.arange(4)
    with opened(folder) as banks:
        go_on = threading.Event()
        banks._writer.submit(go_on.wait)
        first = {"index": np.array([0, 1]), "flip": np.array([False, True]), "image": rows[:2]}
        other = {"index": np.array([1, 2]), "flip": np.array([False, True]), "image": rows[:2]}
        banks.put(first, Chains(*(np.full((2, LATENTS), 7.0, np.float32),) * 2))
        # Image 1 has another chain when mirrored, which waits to be written.
        (_, chains), *_ = banks.feed(iter([other]))
        np.testing.assert_array_equal(chains.posterior, fresh[0][[1, 2], [0, 1]])
        assert len(banks._unwritten) == 1
        threading.Timer(0.2, go_on.set).start()
        (_, chains), *_ = banks.feed(iter([first]))
        assert go_on.is_set() and not banks._unwritten
        np.testing.assert_array_equal(chains.prior, np.full((2, LATENTS), 7.0))
        np.testing.assert_array_equal(
            banks.first(2).posterior, [np.full(LATENTS, 7.0), fresh[0][1, 0]]
        )


def test_writing_cannot_fall_behind_for_ever(folder, monkeypatch):
    monkeypatch.setattr(file_chains, "_MOST_UNWRITTEN", 3)
    with opened(folder) as banks:
        blocked = threading.Event()
        banks._writer.submit(blocked.wait)
        threading.Timer(0.2, blocked.set).start()
        for image in range(NUM_IMAGES):
            batch = {"index": np.array([image]), "flip": np.array([False])}
            banks.put(batch, draw(batch["index"]))
            assert len(banks._unwritten) <= 3
        assert blocked.is_set()


def test_a_copy_is_of_its_step_though_training_goes_on(folder):
    fresh = load(folder)
    copies = {}
    with opened(folder) as banks:

        def copy(step):
            if step in (6, 11):
                copies[step] = banks.file_copier()(folder.parent / str(step))

        run(banks, 20, each=copy)
        for future in copies.values():
            future.result()
    for step in copies:
        expected = expected_after(fresh, step + 1)
        for found, bank in zip(load(folder.parent / str(step)), expected, strict=True):
            np.testing.assert_array_equal(found, bank)


def test_going_on_from_a_copy_repeats_the_rest(folder):
    fresh, saved = load(folder), folder.parent / "saved"
    with opened(folder) as banks:
        run(banks, 9)
        banks.file_copier()(saved).result()
    expected = expected_after(fresh, 9)
    chain_files.copy_files(saved, folder)
    with opened(folder) as banks:
        for found, bank in zip(load(folder), expected, strict=True):
            np.testing.assert_array_equal(found, bank)


@pytest.mark.parametrize("error", [errno.EXDEV, None], ids=["refused", "absent"])
def test_copies_without_the_help_of_the_kernel(folder, monkeypatch, error):
    def refuse(*args):
        raise OSError(error, os.strerror(error))

    if error is None:
        monkeypatch.delattr(os, "copy_file_range", raising=False)
    else:
        monkeypatch.setattr(os, "copy_file_range", refuse, raising=False)
    chain_files.copy_files(folder, folder.parent / "copy")
    for found, bank in zip(load(folder.parent / "copy"), load(folder), strict=True):
        np.testing.assert_array_equal(found, bank)


def test_large_files_are_copied_in_parts(folder, monkeypatch):
    monkeypatch.setattr(files, "_COPY_BYTES", 50)
    chain_files.copy_files(folder, folder.parent / "copy")
    for found, bank in zip(load(folder.parent / "copy"), load(folder), strict=True):
        np.testing.assert_array_equal(found, bank)


def test_a_disk_too_small_for_the_chains(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(UserError, match=r"cannot write the chains of all images to .*large"):
            chain_files.create(tmp_path / "banks", 1000, 50, lambda index: numbers(index, 50))
        chain_files.create(tmp_path / "saved", 100, 5, lambda index: numbers(index, 5))
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, before[1]))
        with pytest.raises(UserError, match=r"cannot write the chains of all images to .*large"):
            chain_files.restore(tmp_path / "saved", tmp_path / "banks")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not (tmp_path / "banks").exists()


def test_a_disk_that_becomes_full(folder, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with (
        opened(folder) as banks,
        pytest.raises(UserError, match=r"cannot use the chains in .*: No space left"),
    ):
        run(banks, 20, each=lambda step: banks._writer.submit(lambda: None).result())


def test_a_file_that_is_cut_short(folder):
    os.truncate(folder / "prior.npy", 200)
    with (
        opened(folder) as banks,
        pytest.raises(UserError, match=r"cannot use the chains in .*: file is cut short"),
    ):
        list(banks.feed(make_batches(5)))
