"""Checkpoints come back exactly, survive kills, and damage never goes unnoticed."""

import concurrent.futures
import logging
import pathlib
import shutil
import textwrap

import chex
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from drc_jax.errors import UserError
from drc_jax.runs import checkpoint
from drc_jax.runtime.devices import to_host
from tests.helpers import small_disk
from tests.helpers.starting import run_code

# After a write that failed Orbax leaves coroutines behind, which complain when they are collected.
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning", "ignore:coroutine:RuntimeWarning"
)


@flax.struct.dataclass
class State:
    step: jax.Array
    params: dict
    generator_opt_state: optax.OptState
    posterior_chains: jax.Array


def make_state(step: int) -> State:
    """A small state, different in every leaf from that of another step."""
    keys = jax.random.split(jax.random.key(step), 3)
    params = {
        "generator": {
            "kernel": jax.random.normal(keys[0], (3, 4)),
            "bias": jnp.full(4, step + 0.5),
        },
        "ebm": {"kernel": jax.random.normal(keys[1], (5,))},
    }
    moments = optax.adam(1e-3).init(params)
    opt_state = jax.tree.map(lambda x: x + jnp.asarray(step, x.dtype), moments)
    return State(jnp.int32(step), params, opt_state, jax.random.normal(keys[2], (6, 2, 3)))


LIKE = jax.eval_shape(lambda: make_state(0))


def save(workdir: pathlib.Path, *steps: int, keep: int = 10) -> None:
    with checkpoint.CheckpointWriter(workdir, keep=keep) as writer:
        for step in steps:
            writer.save(step, to_host(make_state(step)))
        writer.wait()


def assert_same(found, expected) -> None:
    chex.assert_trees_all_equal_structs(found, expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def test_newest_comes_back_exactly(tmp_path):
    save(tmp_path, 3, 12)
    step, state = checkpoint.restore_state(tmp_path, LIKE)
    assert step == 12
    assert_same(state, make_state(12))
    step, params = checkpoint.restore_params(tmp_path)
    assert step == 12
    assert_same(params, make_state(12).params)


def test_keeps_the_newest_and_clears_leftovers(tmp_path):
    leftover = tmp_path / checkpoint.FOLDER / "9.partial"
    leftover.mkdir(parents=True)
    save(tmp_path, 8, 9, 10, 11, keep=2)
    assert checkpoint.saved_steps(tmp_path) == [10, 11]
    assert sorted(p.name for p in leftover.parent.iterdir()) == ["10", "11"]


def test_host_copy_is_not_the_donated_buffer():
    array = jnp.arange(4.0)
    copy = to_host({"a": array})
    jax.jit(lambda x: x * 0 - 1, donate_argnums=0)(array).block_until_ready()
    np.testing.assert_array_equal(copy["a"], np.arange(4, dtype=np.float32))


def truncate(path: pathlib.Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip_a_bit(path: pathlib.Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [pathlib.Path.unlink, truncate, flip_a_bit])
def test_any_damaged_file_falls_back(tmp_path, damage, caplog):
    save(tmp_path / "whole", 4, 8)
    newest = tmp_path / "whole" / checkpoint.FOLDER / "8"
    files = [p.relative_to(tmp_path / "whole") for p in newest.rglob("*") if p.is_file()]
    assert len(files) > 5
    for name in files:
        workdir = tmp_path / "damaged"
        shutil.copytree(tmp_path / "whole", workdir)
        damage(workdir / name)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert checkpoint.restore_params(workdir)[0] == 4
        if name.name != checkpoint.DIGESTS:
            assert f"{name.relative_to(newest.relative_to(tmp_path / 'whole'))} is" in caplog.text
        assert "using the checkpoint of step 4" in caplog.text
        shutil.rmtree(workdir)


def test_training_can_save_again_where_a_checkpoint_was_damaged(tmp_path):
    save(tmp_path, 4, 8)
    truncate(tmp_path / checkpoint.FOLDER / "8" / "params" / "_METADATA")
    step, state = checkpoint.restore_state(tmp_path, LIKE)
    assert step == 4
    assert_same(state, make_state(4))
    assert [p.name for p in (tmp_path / checkpoint.DAMAGED_FOLDER).iterdir()] == ["8-0"]
    save(tmp_path, 8, keep=1)
    assert checkpoint.restore_state(tmp_path, LIKE)[0] == 8


def test_nothing_intact_is_an_error_and_leaves_the_files(tmp_path):
    with pytest.raises(UserError, match="no checkpoint yet"):
        checkpoint.restore_state(tmp_path, LIKE)
    save(tmp_path, 4, 8)
    for step in "48":
        truncate(tmp_path / checkpoint.FOLDER / step / "rest" / "_METADATA")
    with pytest.raises(UserError, match=r"every checkpoint .* is damaged \(steps 4, 8\)"):
        checkpoint.restore_state(tmp_path, LIKE)
    assert checkpoint.saved_steps(tmp_path) == [4, 8]


def test_a_save_that_fails_is_reported(tmp_path):
    with checkpoint.CheckpointWriter(tmp_path, keep=2) as writer:
        shutil.rmtree(tmp_path / checkpoint.FOLDER)
        (tmp_path / checkpoint.FOLDER).touch()
        writer.save(1, to_host(make_state(1)))
        with pytest.raises(UserError, match="could not write a checkpoint"):
            writer.wait()


def copier(content: bytes):
    """Copies a file in the background, as `save` asks for."""

    def copy(folder: pathlib.Path) -> concurrent.futures.Future:
        def write() -> None:
            folder.mkdir()
            (folder / "bank").write_bytes(content)

        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            return pool.submit(write)

    return copy


def test_files_beside_the_state(tmp_path, caplog):
    with checkpoint.CheckpointWriter(tmp_path, keep=2) as writer:
        for step in (4, 8):
            state = to_host(make_state(step)).replace(posterior_chains=None)
            writer.save(step, state, copier(b"bank of %d" % step))
        writer.wait()
    like = LIKE.replace(posterior_chains=None)
    step, state = checkpoint.restore_state(tmp_path, like)
    assert step == 8
    assert_same(state, make_state(8).replace(posterior_chains=None))
    assert (checkpoint.saved_files(tmp_path, 8) / "bank").read_bytes() == b"bank of 8"
    assert len(list((tmp_path / checkpoint.FOLDER).iterdir())) == 2
    flip_a_bit(checkpoint.saved_files(tmp_path, 8) / "bank")
    assert checkpoint.restore_params(tmp_path)[0] == 4
    assert "files/bank is not as it was written" in caplog.text


def test_files_that_cannot_be_copied_are_reported(tmp_path):
    def copy(folder: pathlib.Path) -> concurrent.futures.Future:
        failed: concurrent.futures.Future = concurrent.futures.Future()
        failed.set_exception(OSError(28, "No space left on device"))
        return failed

    with checkpoint.CheckpointWriter(tmp_path, keep=2) as writer:
        writer.save(1, to_host(make_state(1)), copy)
        with pytest.raises(UserError, match=r"could not write a checkpoint .* No space left"):
            writer.wait()
    assert checkpoint.saved_steps(tmp_path) == []


def test_kill_in_the_middle_of_a_save_leaves_the_earlier_one(tmp_path):
    program = textwrap.dedent(f"""
        import os, pathlib, signal, sys
        sys.path.insert(0, {str(pathlib.Path(__file__).parents[2])!r})
        from tests.runs import test_checkpoint
        from drc_jax.runs import checkpoint

        workdir = pathlib.Path({str(tmp_path)!r})
        test_checkpoint.save(workdir, 4)
        checkpoint.digests_of = lambda folder: os.kill(os.getpid(), signal.SIGKILL)
        test_checkpoint.save(workdir, 8)
    """)
    child = run_code(program)
    assert child.returncode == -9
    assert (tmp_path / checkpoint.FOLDER / "8.partial" / "params").is_dir()
    step, state = checkpoint.restore_state(tmp_path, LIKE)
    assert step == 4
    assert_same(state, make_state(4))
    save(tmp_path, 8)
    assert checkpoint.saved_steps(tmp_path) == [4, 8]


def test_a_full_disk_is_one_line_and_earlier_checkpoints_stay(tmp_path, caplog, capfd):
    with small_disk.mounted(tmp_path / "disk", "300k") as disk:
        with checkpoint.CheckpointWriter(disk, keep=9) as writer:
            writer.save(1, to_host(make_state(1)))
            writer.wait()
            large = np.random.default_rng(0).random(100_000)
            writer.save(2, to_host(make_state(2)).replace(posterior_chains=large))
            with pytest.raises(UserError) as raised:
                writer.wait()
            folder = disk / checkpoint.FOLDER
            assert str(raised.value) == (
                f"could not write a checkpoint to {folder}: No space left on device"
            )
            assert [p.name for p in folder.iterdir()] == ["1"]
            # Where there is room again, the next is saved.
            writer.save(3, to_host(make_state(3)))
            writer.wait()
        assert checkpoint.restore_params(disk)[0] == 3
    assert not caplog.records and "Traceback" not in capfd.readouterr().err


def test_read_only_places_and_files_in_the_way_are_one_line(tmp_path):
    with (
        small_disk.mounted(tmp_path / "disk", "64k", read_only=True) as disk,
        pytest.raises(UserError, match=r"cannot write checkpoints to .*: Read-only file system"),
    ):
        checkpoint.CheckpointWriter(disk, keep=1)
    (tmp_path / checkpoint.FOLDER).touch()
    with pytest.raises(UserError, match=r"cannot read the folder .*: Not a directory"):
        checkpoint.restore_params(tmp_path)
    with pytest.raises(UserError, match=r"cannot write checkpoints to .*: File exists"):
        checkpoint.CheckpointWriter(tmp_path, keep=1)


def test_only_numbers_name_checkpoints(tmp_path):
    save(tmp_path, 4)
    for name in ("²", "٣", "007", "notes", "5.partial"):
        (tmp_path / checkpoint.FOLDER / name).mkdir()
    assert checkpoint.saved_steps(tmp_path) == [4]
    assert checkpoint.restore_params(tmp_path)[0] == 4
    (tmp_path / checkpoint.FOLDER / "5").touch()
    with pytest.raises(UserError, match="5 is a file in the place of a checkpoint"):
        checkpoint.saved_steps(tmp_path)


@pytest.mark.parametrize("digests", ["{}", "[]", "5", "null", '{"a": 1}'])
def test_a_list_of_no_digests_is_damage(tmp_path, digests, caplog):
    save(tmp_path, 4, 8)
    folder = tmp_path / checkpoint.FOLDER / "8"
    (folder / checkpoint.DIGESTS).write_text(digests)
    assert checkpoint.restore_params(tmp_path)[0] == 4
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / checkpoint.DIGESTS).write_text(digests)
    assert checkpoint.restore_params(tmp_path)[0] == 4
    assert caplog.text.count("is damaged") == 2


def test_a_state_of_another_kind_is_one_line(tmp_path):
    save(tmp_path, 4)
    other = LIKE.replace(posterior_chains=jax.ShapeDtypeStruct((7, 2, 3), jnp.float32))
    with pytest.raises(UserError, match="is none that this version can read"):
        checkpoint.restore_state(tmp_path, other)
