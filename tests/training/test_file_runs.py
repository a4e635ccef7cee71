"""A run whose chains lie in files: the same as on the device, killed and resumed bit for bit."""

import dataclasses
import os
import pathlib
import signal
import subprocess
import sys
import textwrap

import chex
import jax
import numpy as np
import pytest

import drc_jax
from drc_jax.config import DataConfig, SamplerConfig, TrainConfig
from drc_jax.data.packed.format import Record, open_split
from drc_jax.data.packed.writing import write_split
from drc_jax.errors import UserError
from drc_jax.runs import chain_files, checkpoint
from drc_jax.training import loop
from tests.helpers.small import ONE_BLOCK

IMAGES = 12
CONFIG = TrainConfig(
    model=ONE_BLOCK,
    data=DataConfig(dataset="noise", path="noise"),
    sampler=SamplerConfig(prior_steps=3, posterior_steps=2),
    batch_size=4,
    chain_bank="host",
    iterations=6,
    log_every=1,
    checkpoint_every=2,
    image_every=3,
    seed=3,
)
ON_DEVICE = dataclasses.replace(CONFIG, chain_bank="device")


@pytest.fixture
def split(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (IMAGES, 8, 8, 3), np.uint8)
    records = [Record(image, None, str(i)) for i, image in enumerate(images)]
    write_split(tmp_path / "data", "train", records, image_size=8, has_masks=False, source={})
    return open_split(tmp_path / "data", "train")


def saved(workdir: pathlib.Path):
    """Step, state and both files of the newest checkpoint."""
    like = jax.eval_shape(lambda: drc_jax.init_state(CONFIG, IMAGES))
    step, state = checkpoint.restore_state(workdir, like)
    folder = checkpoint.saved_files(workdir, step)
    return step, state, [np.load(folder / f"{name}.npy") for name in chain_files.NAMES]


def test_a_run_is_that_of_chains_on_the_device(tmp_path, split, capsys):
    workdir = tmp_path / "run"
    loop.train(CONFIG, workdir, split)
    step, state, found = saved(workdir)
    assert step == 6 and state.posterior_chains is None

    loop.train(ON_DEVICE, tmp_path / "on_device", split)
    like = jax.eval_shape(lambda: drc_jax.init_state(ON_DEVICE, IMAGES))
    _, expected = checkpoint.restore_state(tmp_path / "on_device", like)
    expected, banks = drc_jax.DRC().split_chains(expected)
    chex.assert_trees_all_equal(state, expected)
    chex.assert_trees_all_equal(found, list(banks))
    pictures = workdir / "images"
    assert sorted(p.name for p in pictures.iterdir()) == ["step_0000003.png", "step_0000006.png"]
    for path in pictures.iterdir():
        assert path.read_bytes() == (tmp_path / "on_device" / "images" / path.name).read_bytes()

    # And what it leaves.
    assert not (workdir / chain_files.FOLDER).exists()
    assert drc_jax.load_run(workdir).step == 6
    # Of a run that has ended, pictures are drawn from the checkpoint's chains.
    drawn = (pictures / "step_0000006.png").read_bytes()
    (pictures / "step_0000006.png").unlink()
    loop.train(CONFIG, workdir, split)
    assert "nothing to do" in capsys.readouterr().out
    assert (pictures / "step_0000006.png").read_bytes() == drawn
    assert not (workdir / chain_files.FOLDER).exists()


def train_and_die(folder: pathlib.Path) -> None:
    """Ends the process in the middle of writing the chains of the fifth step."""
    write = chain_files.Bank.write
    calls = []

    def write_half(bank, rows, chains):
        calls.append(rows)
        if len(calls) == 2 * 5:
            write(bank, rows[:2], chains[:2])
            os.kill(os.getpid(), signal.SIGKILL)
        write(bank, rows, chains)

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(chain_files.Bank, "write", write_half)
        loop.train(CONFIG, folder / "killed", open_split(folder / "data", "train"))


def test_killed_runs_resume_bit_for_bit(tmp_path, split):
    loop.train(CONFIG, tmp_path / "whole", split)
    program = textwrap.dedent(f"""
        import pathlib, sys
        sys.path.insert(0, {str(pathlib.Path(__file__).parents[2])!r})
        import tests.conftest
        from tests.training import test_file_runs

        test_file_runs.train_and_die(pathlib.Path({str(tmp_path)!r}))
    """)
    child = subprocess.run([sys.executable, "-c", program], check=False)
    assert child.returncode == -signal.SIGKILL
    # What the working files hold is of no step.
    assert (tmp_path / "killed" / chain_files.FOLDER / "prior.npy").exists()
    assert checkpoint.saved_steps(tmp_path / "killed") in ([2], [2, 4])
    loop.train(CONFIG, tmp_path / "killed", split)
    resumed, whole = (saved(tmp_path / name) for name in ("killed", "whole"))
    assert resumed[0] == 6
    chex.assert_trees_all_equal(resumed, whole)
    fresh = drc_jax.init_state(ON_DEVICE, IMAGES)
    assert (np.asarray(fresh.prior_chains) != whole[2][1]).any()


def test_chains_in_files_are_refused_to_several_processes(tmp_path, split, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(UserError, match=r"'host' works in one process only, and these are 2"):
        drc_jax.DRC().check(CONFIG)
