"""Faults of the disk and of a run's files, made for real and met by the programs."""

import json
import re
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest

from drc_jax.runs.saved import saved_steps
from tests.helpers import small_disk
from tests.helpers.starting import ROOT, start

TINY = (
    f"--config={ROOT / 'configs' / 'tiny.py'}",
    "--config.model.generator_channels=(4, 4)",
    "--config.model.classifier_channels=(4,)",
    "--config.image_every=0",
)


def train_arguments(folder, workdir, *more):
    return (*TINY, f"--workdir={workdir}", f"--config.data.path={folder / 'data'}", *more)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder with data and a finished run of eight steps."""
    folder = tmp_path_factory.mktemp("faults")
    done = start("train", *train_arguments(folder, folder / "run"))
    assert done.returncode == 0, done.stderr
    return folder


def one_line(done: subprocess.CompletedProcess) -> str:
    """The error of a program that has ended as it should."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr and "ERROR" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    return errors[0]


def test_a_disk_that_fills_up_ends_training_with_one_line_and_a_state_to_resume(run, tmp_path):
    with small_disk.mounted(tmp_path / "disk", "4m") as disk:
        more = ("--config.iterations=100000", "--config.checkpoint_every=20")
        command = [sys.executable, "-m", "experiments.train"]
        command += train_arguments(run, disk / "run", *more)
        with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
            until = time.monotonic() + 120
            while not saved_steps(disk / "run") and time.monotonic() < until:
                time.sleep(0.1)
            filler = small_disk.fill(disk)
            _, error = process.communicate(timeout=120)
        done = subprocess.CompletedProcess(command, process.returncode, "", error)
        message = "error: could not write a checkpoint to .*: No space left on device"
        assert re.fullmatch(message, one_line(done))
        (step, *_) = reversed(saved_steps(disk / "run"))
        assert step >= 20
        filler.unlink()
        target = (step // 20 + 1) * 20
        done = start(
            "train",
            *train_arguments(run, disk / "run", *more[1:], f"--config.iterations={target}"),
        )
        assert done.returncode == 0, done.stderr
        lines = (disk / "run" / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line)["step"] for line in lines] == list(range(1, target + 1))


def test_a_full_or_read_only_disk_at_the_start_is_one_line(run, tmp_path):
    with small_disk.mounted(tmp_path / "disk", "64k") as disk:
        small_disk.fill(disk)
        error = one_line(start("train", *train_arguments(run, disk / "run")))
        assert "No space left on device" in error
    with small_disk.mounted(tmp_path / "disk", "64k", read_only=True) as disk:
        error = one_line(start("train", *train_arguments(run, disk / "run")))
        assert "Read-only file system" in error


def test_a_damaged_log_and_odd_folders_do_not_block_a_resume(run, tmp_path):
    shutil.copytree(run / "run", tmp_path / "run")
    log = tmp_path / "run" / "metrics.jsonl"
    log.write_bytes(log.read_bytes()[:-20] + b"\n5\n{}\n\xff\n")
    (tmp_path / "run" / "checkpoints" / "²").mkdir()
    done = start("train", *train_arguments(run, tmp_path / "run", "--config.iterations=10"))
    assert done.returncode == 0, done.stderr
    assert "4 lines of" in done.stderr and "Traceback" not in done.stderr
    steps = [json.loads(line)["step"] for line in log.read_text().splitlines()]
    assert steps == [1, 2, 3, 4, 5, 6, 7, 9, 10]
    assert len((tmp_path / "run" / "metrics.damaged.jsonl").read_bytes().splitlines()) == 4


def test_another_energy_than_the_trained_one_is_not_scored(run, tmp_path):
    shutil.copytree(run / "run", tmp_path / "run")
    path = tmp_path / "run" / "config.json"
    path.write_text(path.read_text().replace('"sigma": 0.25', '"sigma": 0.5'))
    error = one_line(start("evaluate", f"--workdir={tmp_path / 'run'}"))
    assert error.endswith("undo: model.sigma: 0.25 -> 0.5")


def test_changed_data_are_neither_trained_on_nor_scored(run, tmp_path):
    shutil.copytree(run / "data", tmp_path / "data")
    path = tmp_path / "data" / "train" / "images.u8"
    path.write_bytes((255 - np.fromfile(path, np.uint8)).tobytes())
    error = one_line(start("train", *train_arguments(tmp_path, run / "run")))
    assert "are not as they were written" in error
    # Of data that have no sampled digest, as those packed by earlier versions.
    for split in ("train", "test"):
        info = tmp_path / "data" / split / "info.json"
        stored = json.loads(info.read_text())
        del stored["samples"]
        info.write_text(json.dumps(stored))
    new = ("--verify_data", "--config.iterations=9")
    error = one_line(start("train", *train_arguments(tmp_path, run / "run", *new)))
    assert "are not as they were written" in error
    path = tmp_path / "data" / "test" / "images.u8"
    path.write_bytes((255 - np.fromfile(path, np.uint8)).tobytes())
    done = start("evaluate", f"--workdir={run / 'run'}", f"--data={tmp_path / 'data'}")
    assert "are not as they were written" in one_line(done)
