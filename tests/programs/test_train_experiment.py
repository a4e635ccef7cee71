"""`python -m experiments.train` as its user meets it."""

import dataclasses
import json
import pathlib
import sys
from collections.abc import Sequence

import jax
import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from configs import tiny as tiny_file
from drc_jax.config import TrainConfig
from drc_jax.data.packed.format import Record, open_split
from drc_jax.data.packed.writing import write_split
from drc_jax.data.training_images import check_fits, data_folder, open_training_split
from drc_jax.runs import checkpoint
from drc_jax.runs.workdir import load_config
from drc_jax.training.step import init_state
from experiments import cli, config_flag, train
from tests.helpers.starting import ROOT, run_code, start

# How ml_collections loads a config file.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")

# The real model and step, as small as they go: what takes time is starting and compiling.
SMALL = (
    "--config.model.generator_channels=(4,4)",
    "--config.model.classifier_channels=(4,)",
    "--config.data.dataset=noise",
    "--config.log_every=1",
    "--config.image_every=0",
)

# Runs to the end in argv[1]; then, in argv[2], gets SIGTERM after the third step.
WHOLE_AND_STOPPED = """if True:
    import os, signal, sys, time
    from absl.testing import flagsaver
    from drc_jax.runs import recorder
    from experiments import cli, train

    workdirs, rest = sys.argv[1:3], sys.argv[3:]
    sys.argv = ["train", *rest, f"--workdir={workdirs[0]}"]
    try:
        with flagsaver.flagsaver():
            cli.run(train.main)
    except SystemExit as end:
        print("first status", end.code)

    record = recorder.Recorder.record
    def hooked(self, step, metrics):
        record(self, step, metrics)
        if step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.5)
    recorder.Recorder.record = hooked
    sys.argv = ["train", *rest, f"--workdir={workdirs[1]}"]
    cli.run(train.main)
"""
# Dies when the files of its second checkpoint are written, before it gets its name.
KILLED_IN_A_SAVE = """if True:
    import os, signal
    from drc_jax.runs import checkpoint
    from experiments import cli, train

    digests, calls = checkpoint.digests_of, []
    def hooked(folder):
        if folder.name.endswith(".partial"):
            calls.append(folder)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return digests(folder)
    checkpoint.digests_of = hooked
    cli.run(train.main)
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    records = [
        Record(rng.integers(0, 256, (8, 8, 3), np.uint8), rng.integers(0, 2, (8, 8), np.uint8), "")
        for _ in range(16)
    ]
    write_split(folder, "train", records, image_size=8, has_masks=True, source={})
    return folder


def arguments(data: pathlib.Path) -> list[str]:
    config = f"--config={ROOT / 'configs' / 'tiny.py'}"
    return [config, *SMALL, f"--config.data.path={data}"]


def test_killed_and_resumed_equals_uninterrupted(tmp_path, data):
    """One run to the end; one stopped by SIGTERM, resumed, killed within a save, and resumed."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    resume = [*arguments(data), f"--workdir={killed}"]

    stopped = run_code(WHOLE_AND_STOPPED, str(whole), str(killed), *arguments(data))
    assert "first status None" in stopped.stdout or "first status 0" in stopped.stdout
    assert "trained 8 iterations" in stopped.stdout
    assert (whole / "images" / "step_0000008.png").is_file()
    assert stopped.returncode == 128 + 15, stopped.stderr
    assert "the same command resumes from there" in stopped.stdout
    step = checkpoint.saved_steps(killed)[-1]
    assert step in (3, 4)

    again = run_code(KILLED_IN_A_SAVE, *resume)
    assert again.returncode == -9, again.stderr
    assert f"resuming in {killed} from step {step}" in again.stdout
    assert list((killed / checkpoint.FOLDER).glob("*.partial"))
    assert step < checkpoint.saved_steps(killed)[-1] < 8

    last = start("train", *resume)
    assert last.returncode == 0, last.stderr
    for noise in ("Traceback", "WARNING", "Warning", "orbax", "handler_registry"):
        assert noise not in last.stderr

    like = jax.eval_shape(lambda: init_state(load_config(whole, TrainConfig), 16))
    (step, found), (_, expected) = (checkpoint.restore_state(w, like) for w in (killed, whole))
    assert step == found.step == 8
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    logs = [(w / "metrics.jsonl").read_text().splitlines() for w in (killed, whole)]
    for a, b in zip(*([json.loads(line) for line in log] for log in logs), strict=True):
        assert a["step"] == b["step"] and a["generator_loss"] == b["generator_loss"]


def test_help_tells_what_to_type():
    shown = {flag.name for flag in flags.FLAGS.get_key_flags_for_module(train)}
    assert {"config", "workdir"} <= shown
    assert "python -m experiments.train --config=configs/tiny.py --workdir=" in train.__doc__


def failure(monkeypatch, capsys, args: Sequence[str]) -> str:
    """The one line with which the program refuses ``args``."""
    monkeypatch.setattr(sys, "argv", ["train", *args])
    with flagsaver.flagsaver(), pytest.raises(SystemExit) as raised:
        cli.run(train.main)
    assert raised.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    return error


@pytest.mark.parametrize(
    "more, message",
    [
        (["--config.modle.x=1"], "unknown config field modle.x; the config has batch_size, "),
        (["--config.model.x=1"], "unknown config field model.x; model has"),
        (["--config.model.zf_dim.x", "1"], "model.zf_dim has no fields of its own"),
        (["--config.model={}"], "--config.model is a group of fields"),
        (["--config.model.zf_dim=abc"], "--config.model.zf_dim=abc: invalid literal"),
        (["--config.model.zf_dim=0"], "model.zf_dim must be at least 1, got 0"),
        (["--config.model.generator_channels=(4,x)"], "must be of type int, got '(4,x)'"),
        (["--config.data.path=/nowhere"], "no packed data set at /nowhere"),
        (["--config.batch_size=17"], "batch_size 17 is more than the 16 images"),
        (["--iterations=5"], "Unknown command line flag 'iterations'"),
        (["surplus"], "unexpected argument 'surplus'"),
    ],
)
def test_mistakes_are_one_line(tmp_path, data, monkeypatch, capsys, more, message):
    error = failure(monkeypatch, capsys, [*arguments(data), f"--workdir={tmp_path / 'run'}", *more])
    assert message in error
    assert not (tmp_path / "run").exists()


def test_config_file_mistakes_are_one_line(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    error = failure(monkeypatch, capsys, ["--config=configs/brids.py", "--workdir=/tmp/x"])
    assert "--config=configs/brids.py is not a Python file; there are configs/" in error
    error = failure(monkeypatch, capsys, ["--config.seed=1", "--config=configs/birds.py"])
    assert "give --config=configs/NAME.py before --config.seed=1" in error
    error = failure(monkeypatch, capsys, ["--workdir=/tmp/x"])
    assert "Flag --config must have a value" in error


def tiny(**data_fields):
    config = tiny_file.get_config()
    config.data.update(data_fields)
    return config_flag.train_config(config)


def test_images_that_do_not_fit_are_refused(tmp_path, data):
    split = open_split(data, "train")
    with pytest.raises(ValueError, match=r"8x8, the model's 16x16; give model\.generator_"):
        check_fits(tiny(path=str(data)), split)


def test_synthetic_data_are_generated_where_missing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = tiny()
    assert data_folder(config) == pathlib.Path("data/scenes_16")
    split = open_training_split(config)
    assert (len(split), split.info.image_size) == (16, 16)
    assert open_training_split(config).info == split.info
    with pytest.raises(ValueError, match="was made with count 16 instead of 17"):
        open_training_split(tiny(num_train=17))
    with pytest.raises(ValueError, match="8x8; give model"):
        wrong = dataclasses.replace(
            config.model, generator_channels=(4, 4), classifier_channels=(4,)
        )
        data = dataclasses.replace(config.data, path="data/scenes_16")
        open_training_split(dataclasses.replace(config, model=wrong, data=data))
