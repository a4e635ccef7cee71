"""What all programs share: one line for every mistake, clean exits, broken config files."""

import os
import re
import signal
import subprocess
import sys
import textwrap

import pytest
from absl import flags
from ml_collections import config_flags

import drc_jax
from drc_jax.errors import UserError
from experiments import config_flag
from tests.helpers.starting import ROOT, run_code, start

# How ml_collections loads a config file.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")

BROKEN = {
    "syntax": ("def get_config(:\n    pass\n", r":1: invalid syntax"),
    "no function": ("x = 3\n", r" has no function get_config; write one"),
    "returns nothing": (
        "def get_config():\n    pass\n",
        r"must return a ConfigDict, got NoneType",
    ),
    "import": ("import nowhere_to_be_found\n", r":1: ModuleNotFoundError: No module named"),
    "misspelt": (
        """
        from configs import default

        def get_config():
            config = default.get_config()
            config.model.zf_dimm = 3
            return config
        """,
        r":5: there is no config field zf_dimm; did you mean 'zf_dim'\?$",
    ),
    "wrong type": (
        """
        from configs import default

        def get_config():
            config = default.get_config()
            config.model.zf_dim = "many"
            return config
        """,
        r":5: TypeError: ",
    ),
    "out of range": (
        """
        from configs import default
        from drc_jax.config import ModelConfig, to_dict

        def get_config():
            config = default.get_config()
            config.model.update(to_dict(ModelConfig(zf_dim=0)))
            return config
        """,
        r":6: UserError: zf_dim must be at least 1, got 0$",
    ),
}


def refusal(*argv: str) -> str:
    with pytest.raises(UserError) as raised:
        config_flag.check_arguments(["train", *argv])
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_config_file_is_one_line_with_its_place(tmp_path, kind):
    text, message = BROKEN[kind]
    path = tmp_path / "mine.py"
    path.write_text(textwrap.dedent(text).lstrip("\n"))
    error = refusal(f"--config={path}")
    assert "mine.py" in error and re.search(message, error), error


TINY = "--config=configs/tiny.py"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--config.sede=1"], "unknown config field sede; the config has .*; did you mean 'seed'"),
        (["--config.model.sigm=1"], r"unknown config field model\.sigm; model has .*'sigma'\?"),
        (["--config.method=x"], "unknown config field method"),
    ],
)
def test_mistakes_in_fields_name_the_nearest(monkeypatch, more, message):
    monkeypatch.chdir(ROOT)
    assert re.search(message, refusal(TINY, *more))


def test_of_tuples_given_twice_the_last_counts(monkeypatch):
    monkeypatch.chdir(ROOT)
    name = "--config.model.generator_channels"
    argv = ["train", TINY, f"{name}=(4,4)", name, "(5,5)", "--config.seed=1", f"{name}=(6,6)"]
    argv += ["--config.seed=2"]
    found = config_flag.check_arguments(argv)
    assert found == ["train", TINY, "--config.seed=1", f"{name}=(6,6)", "--config.seed=2"]
    # ml_collections looks for the names of fields there.
    monkeypatch.setattr(sys, "argv", argv)
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", flag_values=values)
    values(found)
    assert values.config.model.generator_channels == (6, 6) and values.config.seed == 2


def test_missing_config_files_name_the_nearest(monkeypatch):
    monkeypatch.chdir(ROOT)
    error = refusal("--config=configs/brids.py")
    assert error.endswith("did you mean 'configs/birds.py'?")
    assert len(refusal(f"--config={'x' * 5000}.py")) < 2000


def test_huge_values_are_refused_before_the_folder_is_claimed(tmp_path):
    done = start("train", TINY, f"--workdir={tmp_path / 'run'}", "--config.seed=4294967296")
    assert done.returncode == 2
    assert done.stderr == "error: seed must be at most 4294967295, got 4294967296\n"
    assert not (tmp_path / "run").exists()
    for program in ("sample", "evaluate", "extract"):
        done = start(program, "--workdir=run", f"--seed={2**63}")
        assert done.returncode == 2, program
        assert done.stderr.startswith("error: flag --seed=9223372036854775808: ")
        assert done.stderr.count("\n") == 1


def test_help_and_version_are_no_mistakes():
    done = start("sample", "--help")
    assert done.returncode == 0 and "--seed: Seed of the chains." in done.stdout
    done = start("sample", "--version")
    assert (done.returncode, done.stdout) == (0, f"{drc_jax.__version__}\n")


FAILING = """
import errno, sys
import numpy as np
from experiments import cli

def main(argv):
    kind = KIND
    if kind == "disk":
        raise OSError(errno.ENOSPC, "No space left on device")
    if kind == "name":
        open("x" * 5000)
    if kind == "memory":
        np.empty(1 << 60, np.uint8)

sys.argv = ["program"]
cli.run(main)
"""


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("disk", r"error: cannot read or write a file: No space left on device\n"),
        ("name", r"error: cannot read or write x+\.\.\.x+: File name too long\n"),
        ("memory", r"error: there is too little memory \(.*\); lower the sizes or the batch\n"),
    ],
)
def test_what_the_machine_refuses_is_one_line(kind, message):
    program = FAILING.replace("KIND", repr(kind))
    done = run_code(program)
    assert done.returncode == 2
    assert re.fullmatch(message, done.stderr), done.stderr


def test_ctrl_c_while_a_program_compiles_ends_it_at_once(tmp_path):
    # Nothing cached: it has to compile, for some seconds.
    environment = {
        **os.environ,
        "PYTHONUNBUFFERED": "1",
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path),
    }
    command = [sys.executable, "-m", "experiments.benchmark", "--config=configs/demo.py"]
    with subprocess.Popen(
        [*command, "--memory", "--what=train"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        assert "train of 32" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
        assert process.stderr.read() == "\ninterrupted\n"
