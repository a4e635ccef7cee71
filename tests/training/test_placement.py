"""A run whose chains lie in files: the same training, resumed bit for bit, with pictures."""

import os
import pathlib
import signal
import subprocess
import sys
import textwrap

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drc_jax.config import SamplerConfig
from drc_jax.data.packed.batches import train_batches
from drc_jax.data.packed.format import open_split
from drc_jax.errors import UserError
from drc_jax.runs import checkpoint
from drc_jax.runs.trained import open_run
from drc_jax.training import chain_files, loop, placement
from drc_jax.training.placement import AgreedStop
from drc_jax.training.state import TrainState, init_state
from drc_jax.training.step import train_step_from_chains
from tests.training.test_loop import make_config, split  # noqa: F401

CONFIG = make_config(
    chain_bank="host",
    iterations=6,
    checkpoint_every=2,
    image_every=3,
    sampler=SamplerConfig(prior_steps=3, posterior_steps=2),
)


def load(folder: pathlib.Path):
    return [np.load(folder / f"{name}.npy") for name in ("posterior", "prior")]


def saved(workdir: pathlib.Path, init=init_state):
    """Step, state and both banks of the newest checkpoint."""
    step, state = checkpoint.restore_state(workdir, jax.eval_shape(lambda: init(CONFIG, 12)))
    return step, state, *load(checkpoint.saved_files(workdir, step))


def test_a_run(tmp_path, split, capsys):  # noqa: F811
    workdir = tmp_path / "run"
    loop.train(CONFIG, workdir, split)
    step, state, *found = saved(workdir)
    assert step == 6 and state.posterior_chains is None

    # The same steps on banks in memory.
    chain_files.create(tmp_path / "fresh", 12, CONFIG.model.latent_dim, CONFIG.seed)
    banks = load(tmp_path / "fresh")
    expected = init_state(CONFIG, 12)
    batches = train_batches(split, batch_size=4, seed=CONFIG.seed, start_step=0, flip=True)
    for batch, _ in zip(batches, range(6), strict=False):
        rows = batch["index"], batch["flip"].astype(int)
        chains = tuple(jnp.array(bank[rows]) for bank in banks)
        expected, chains, _ = train_step_from_chains(CONFIG, expected, batch, chains)
        for bank, z in zip(banks, chains, strict=True):
            bank[rows] = z
    chex.assert_trees_all_equal(state, expected)
    chex.assert_trees_all_equal(found, banks)

    # And what it leaves.
    assert not (workdir / chain_files.FOLDER).exists()
    assert open_run(workdir).step == 6
    pictures = workdir / "images"
    assert sorted(p.name for p in pictures.iterdir()) == ["step_0000003.png", "step_0000006.png"]
    # Of a run that has ended, pictures are drawn from the checkpoint's chains.
    drawn = (pictures / "step_0000006.png").read_bytes()
    (pictures / "step_0000006.png").unlink()
    loop.train(CONFIG, workdir, split)
    assert "nothing to do" in capsys.readouterr().out
    assert (pictures / "step_0000006.png").read_bytes() == drawn
    assert not (workdir / chain_files.FOLDER).exists()


@jax.jit
def fake_update(state, image, chains):
    mean = jnp.mean(image.astype(jnp.float32), axis=(1, 2, 3))[:, None] / 255.0
    chains = jax.tree.map(lambda z: 0.5 * z + mean + state.params["w"], chains)
    params = {"w": 0.9 * state.params["w"] + jnp.mean(chains[0])}
    return state.replace(step=state.step + 1, params=params), chains


def fake_step(config, state, batch, chains):
    state, chains = fake_update(state, batch["image"], chains)
    zero = jnp.zeros(())
    metrics = {"generator_loss": zero, "ebm_loss": zero, "latents_finite": zero + 1}
    return state, chains, metrics


def fake_init(config, num_images):
    nothing = {"count": jnp.int32(0)}
    return TrainState(jnp.int32(0), {"w": jnp.ones(())}, nothing, nothing, None, None)


def train_fake(monkeypatch, workdir, data):
    monkeypatch.setattr(placement, "init_state", fake_init)
    monkeypatch.setattr(placement, "train_step_from_chains", fake_step)
    monkeypatch.setattr(loop, "picture", lambda *_: np.zeros((4, 4, 3), np.uint8))
    loop.train(CONFIG, workdir, data)


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
        train_fake(monkeypatch, folder / "killed", open_split(folder / "data", "train"))


def test_killed_runs_resume_bit_for_bit(tmp_path, split, monkeypatch):  # noqa: F811
    train_fake(monkeypatch, tmp_path / "whole", split)
    program = textwrap.dedent(f"""
        import pathlib, sys
        sys.path.insert(0, {str(pathlib.Path(__file__).parents[2])!r})
        from tests.training import test_placement

        test_placement.train_and_die(pathlib.Path({str(tmp_path)!r}))
    """)
    child = subprocess.run([sys.executable, "-c", program], check=False)
    assert child.returncode == -signal.SIGKILL
    # What the working files hold is of no step.
    assert (tmp_path / "killed" / chain_files.FOLDER / "prior.npy").exists()
    assert checkpoint.saved_steps(tmp_path / "killed") in ([2], [2, 4])
    train_fake(monkeypatch, tmp_path / "killed", split)
    resumed, whole = (saved(tmp_path / name, fake_init) for name in ("killed", "whole"))
    assert resumed[0] == 6
    chex.assert_trees_all_equal(resumed, whole)
    fresh = tmp_path / "fresh"
    chain_files.create(fresh, 12, CONFIG.model.latent_dim, CONFIG.seed)
    assert (load(fresh)[1] != whole[3]).any()


def test_chains_in_files_are_refused_to_several_processes(tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(UserError, match=r"'host' works in one process only, and these are 2"):
        placement.placement(CONFIG, tmp_path, 12, AgreedStop())
    assert list(tmp_path.iterdir()) == []
