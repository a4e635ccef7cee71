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

from drc_jax.errors import UserError
from drc_jax.training import chain_files
from drc_jax.training import chains as chain_banks

NUM_IMAGES, LATENTS, BATCH = 7, 3, 4


def make_batches(count, seed=0):
    """Batches that share chains with those just before them."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        index = rng.permutation(NUM_IMAGES)[:BATCH].astype(np.int32)
        yield {"index": index, "flip": rng.random(BATCH) < 0.5}


@jax.jit
def advance(chains, step):
    """In the place of a training step: the order of steps shows in the result."""
    return jax.tree.map(lambda z: 0.5 * z + step, chains)


def opened(folder):
    return contextlib.closing(chain_banks.HostBanks(folder))


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
        banks.store(batch, advance(chains, np.float32(step)))
        each(step)


@pytest.fixture
def folder(tmp_path):
    chain_files.create(tmp_path / "banks", NUM_IMAGES, LATENTS, seed=5)
    return tmp_path / "banks"


def test_fresh_chains_follow_the_rule(tmp_path):
    chain_files.create(tmp_path / "new" / "banks", 5000, 2, seed=9)
    posterior, prior = load(tmp_path / "new" / "banks")
    for stream, bank in ((2, posterior), (3, prior)):
        assert bank.shape == (5000, 2, 2) and bank.dtype == np.float32
        for block, rows in enumerate((bank[:4096], bank[4096:])):
            rng = np.random.default_rng([9, stream, block])
            np.testing.assert_array_equal(rows, rng.standard_normal(rows.shape, np.float32))
    assert abs(posterior.mean()) < 0.03 and abs(posterior.var() - 1) < 0.03


def test_creating_holds_a_few_blocks(tmp_path):
    tracemalloc.start()
    try:
        chain_files.create(tmp_path, 40_000, 16, seed=0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    block = chain_files._BLOCK * 2 * 16 * 4
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) > 19 * block
    assert peak < 4 * block


def test_every_step_gets_the_newest_chains(folder):
    fresh = load(folder)
    with opened(folder) as banks:
        run(banks, 40)
        banks.copy_to(folder.parent / "copy").result()
    for found, expected in zip(
        load(folder.parent / "copy"), expected_after(fresh, 40), strict=True
    ):
        np.testing.assert_array_equal(found, expected)
    assert not folder.exists()


def test_chains_that_are_not_written_yet_are_handed_over(folder):
    fresh = load(folder)
    go_on = threading.Event()
    with opened(folder) as banks:
        banks._writer.submit(go_on.wait)
        run(banks, 20)
        for found, bank in zip(load(folder), fresh, strict=True):
            np.testing.assert_array_equal(found, bank)
        newest = expected_after(fresh, 20)[0]
        np.testing.assert_array_equal(banks.posterior(3), newest[:3, 0])
        go_on.set()
        banks._writer.submit(lambda: None).result()
        for found, bank in zip(load(folder), expected_after(fresh, 20), strict=True):
            np.testing.assert_array_equal(found, bank)
        np.testing.assert_array_equal(banks.posterior(3), newest[:3, 0])


def test_results_are_kept_only_while_they_may_be_needed(folder):
    with opened(folder) as banks:

        def written(step):
            banks._writer.submit(lambda: None).result()

        run(banks, 30, each=written)
        assert len(banks._results) <= chain_banks._AHEAD + 2
        assert len(banks._writes) <= 1


def test_writing_cannot_fall_behind_for_ever(folder, monkeypatch):
    monkeypatch.setattr(chain_banks, "_MOST_UNWRITTEN", 3)
    with opened(folder) as banks:
        blocked = threading.Event()
        banks._writer.submit(blocked.wait)
        threading.Timer(0.2, blocked.set).start()
        lengths = []
        run(banks, 12, each=lambda step: lengths.append(len(banks._writes)))
        assert max(lengths) == 3 and blocked.is_set()


def test_a_copy_is_of_its_step_though_training_goes_on(folder):
    fresh = load(folder)
    copies = {}
    with opened(folder) as banks:

        def copy(step):
            if step in (6, 11):
                copies[step] = banks.copy_to(folder.parent / str(step))

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
        banks.copy_to(saved).result()
    expected = expected_after(fresh, 9)
    np.testing.assert_array_equal(chain_files.read_posterior(saved, 2), expected[0][:2, 0])
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
    monkeypatch.setattr(chain_files, "_COPY_BYTES", 50)
    chain_files.copy_files(folder, folder.parent / "copy")
    for found, bank in zip(load(folder.parent / "copy"), load(folder), strict=True):
        np.testing.assert_array_equal(found, bank)


def test_a_disk_too_small_for_the_chains(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(UserError, match=r"cannot write the chains of all images to .*large"):
            chain_files.create(tmp_path / "banks", 1000, 50, seed=0)
        chain_files.create(tmp_path / "saved", 100, 5, seed=0)
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
