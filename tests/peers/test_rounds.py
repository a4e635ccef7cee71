"""Programs side by side: the same work for all, rounds in turn, refusals, tables."""

import dataclasses
import pathlib

import numpy as np
import pytest

from drc_jax.config import SamplerConfig, TrainConfig
from drc_jax.errors import UserError
from experiments.peers import programs, rounds
from tests.helpers.small import TWO_BLOCKS
from tests.helpers.starting import start

TINY = TrainConfig(
    model=TWO_BLOCKS,
    sampler=SamplerConfig(prior_steps=2, posterior_steps=3),
    batch_size=3,
)


class Fake:
    """A contestant that notes its calls in a log shared with others."""

    def __init__(self, name, log=None, *, energies=None, seconds=0.1, fails=""):
        self.name, self.log, self.fails = name, log if log is not None else [], fails
        self.energies, self.seconds = energies, seconds

    def call(self, method, *arguments):
        self.log.append((self.name, method))
        if method == self.fails:
            raise rounds.ProgramFailure("no compiler")
        return {
            "gradient": (self.energies, self.energies),
            "first_run": 2.0,
            "round": self.seconds,
            "measure_memory": None,
            "memory": 2**20,
        }[method]


def test_rounds_are_taken_in_turn():
    log: list = []
    results = rounds.race([Fake("drc_jax", log), Fake("torch", log)], "prior", 3, pytest.fail)
    assert [name for name, method in log if method == "round"] == ["drc_jax", "torch"] * 3
    assert [result.program for result in results] == ["drc_jax", "torch"]
    assert results[0].seconds == (0.1,) * 3 and results[0].peak_bytes == 2**20


def test_a_program_that_fails_is_named_and_left_out():
    said: list[str] = []
    runners = [Fake("drc_jax"), Fake("torch.compile", fails="first_run")]
    done: list[tuple[int, int]] = []
    results = rounds.race(runners, "train", 1, said.append, lambda *counts: done.append(counts))
    assert [result.program for result in results] == ["drc_jax"]
    assert said == ["torch.compile is left out of train: no compiler"]
    assert done == [(0, 4), (1, 4), (2, 3), (3, 3)]


def test_errors_are_relative_norms():
    expected = np.array([3.0, 4.0]), np.zeros((2, 2)) + 1.0
    errors = rounds.errors_against(expected, (np.array([3.0, 4.5]), np.ones((2, 2))))
    assert errors == {"energy": pytest.approx(0.1), "gradient": 0.0}


@pytest.mark.parametrize("wrong", [np.array([1.0, 1.01]), np.array([1.0, np.nan])])
def test_what_computes_something_else_is_not_timed(wrong):
    right = np.ones(2)
    said: list[str] = []
    runners = [Fake("torch", energies=right), Fake("torch.compile", fails="gradient")]
    good = rounds.check(runners, (right, right), "float32", said.append)
    assert good == {"torch": {"energy": 0.0, "gradient": 0.0}}
    assert said == ["torch.compile is left out: no compiler"]
    with pytest.raises(UserError, match=r"drc_jax's energy is off the float64"):
        rounds.check([Fake("drc_jax", energies=wrong)], (right, right), "float32", pytest.fail)


def result(part, program, *seconds, memory=2**20):
    return rounds.Result(part, program, 2.0, seconds, memory)


def test_ratios_of_minima_and_medians():
    of_part = [
        result("prior", "drc_jax", 0.1, 0.2, 0.4),
        result("prior", "torch", 0.3, 0.4, 0.5, memory=2**21),
    ]
    compared = rounds.ratios(of_part)["torch"]
    assert compared == {"fastest": pytest.approx(3), "median": pytest.approx(2), "memory": 2}
    lines = rounds.table(of_part, "prior step").splitlines()
    assert lines[1].split() == "drc_jax 2.0 s 100.00 ms 200.00 ms 1 MiB".split()
    assert lines[2].split()[-3:] == ["3.00", "2.00", "2.00"]
    assert rounds.ratios(of_part[1:]) == {}


def test_extrapolation_adds_the_lacking_steps_and_only_where_some_lack():
    setup = programs.Setup(TINY, pathlib.Path(), "cpu")
    results = {
        "posterior": [result("posterior", "drc_jax", 0.5)],
        "train": [result("train", "drc_jax", 4.0)],
    }
    assert rounds.extrapolated(results, setup, 40) == {"drc_jax": pytest.approx(4 + 37 * 0.5)}
    assert rounds.extrapolated(results, setup, 3) == {}
    assert rounds.extrapolated({"train": results["train"]}, setup, 40) == {}


def test_seconds_are_per_step_of_the_chain():
    assert [programs.steps_of_run(TINY, part) for part in programs.PARTS] == [2, 3, 1]

    class Counting(programs.Program):
        runs = 0

        def describe(self):
            return ""

        def gradient(self, images):
            raise NotImplementedError

        def run(self, part):
            self.runs += 1

    program = Counting(programs.Setup(TINY, pathlib.Path(), "cpu"))
    seconds = program.round("posterior")
    assert seconds * 3 * program.runs == pytest.approx(programs.SHORTEST_ROUND, rel=0.5)


def test_peak_memory_starts_anew():
    if not pathlib.Path("/proc/self/clear_refs").exists():
        pytest.skip("only Linux tells")
    held = np.ones(8 * 2**20)
    resident = programs._resident("VmRSS")  # read first: it may grow meanwhile
    assert programs._resident("VmHWM") >= resident > held.nbytes


@pytest.fixture(scope="module")
def setup(tmp_path_factory):
    pytest.importorskip("torch", reason="torch is absent: the PyTorch peer is an extra")
    folder = tmp_path_factory.mktemp("weights")
    return programs.Setup(TINY, folder / "weights.npz", "cpu")


def test_both_programs_do_the_same_work_in_processes_of_their_own(setup):
    said: list[str] = []
    with rounds.contestants(["referee", "nobody"], setup, said.append) as found:
        (referee,) = found
        assert said == ["nobody is left out: KeyError: 'nobody'"]
        assert "torch" in referee.description
        expected = referee.call("gradient", 2)
        with pytest.raises(rounds.ProgramFailure, match="no_such_method"):
            referee.call("no_such_method")
    assert expected[1].shape == (2, TINY.model.latent_dim) and expected[1].dtype == np.float64

    ours = programs.JaxProgram(setup)
    theirs = programs.TorchProgram(setup, channels_last=True)
    for program in (ours, theirs):
        errors = rounds.errors_against(expected, program.gradient(2))
        assert max(errors.values()) < 1e-5
        before = np.asarray(program._chains["prior"]).copy()
        program.run("prior")
        moved = np.asarray(program._chains["prior"]) - before
        assert moved.shape == (3, TINY.model.latent_dim) and np.abs(moved).min() > 0


def test_the_programs_help_and_refusals():
    assert "posterior_steps" in start("against_torch", "--help").stdout
    refused = start("against_torch", f"--json={__file__}/a.json")
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: cannot write a.json to ")
    assert "Traceback" not in refused.stderr


def test_setup_gives_every_process_the_same_inputs():
    setup = programs.Setup(TINY, pathlib.Path(), "cpu")
    for a, b in zip(setup.inputs(), dataclasses.replace(setup).inputs(), strict=True):
        np.testing.assert_array_equal(a, b)
