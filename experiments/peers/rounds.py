"""Runs programs side by side: each in its own process, their rounds taken in turn.

A B A B ...: what else the machine does meanwhile hits all of them alike.
"""

import contextlib
import dataclasses
import multiprocessing
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from drc_jax.errors import UserError
from experiments.peers.programs import Setup, serve, steps_of_run

# Largest relative errors of (energies, gradients) with which a program is timed at all. Rounding
# moves a few of the millions of activations and sampled places across a kink, where the slope
# jumps: at full size float32 gradients of either program are off by 1e-4 to 3e-3 for that alone.
LIMITS = {"float32": (1e-4, 1e-2), "tf32": (1e-2, 3e-1), "bfloat16": (2e-2, 5e-1)}
OURS = "drc_jax"


class ProgramFailure(Exception):
    """A program could not do what it was told; the message says why."""


class Contestant:
    """A program in its own process.

    Args:
      name: one of ``programs.PROGRAMS``.
      setup: what all share.

    Raises:
      ProgramFailure: here and in ``call``, where the program ends with an error.
    """

    def __init__(self, name: str, setup: Setup) -> None:
        self.name = name
        context = multiprocessing.get_context("spawn")
        self._connection: Connection
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, name, setup), daemon=True)
        self._process.start()
        theirs.close()
        self.description: str = self._receive()

    def call(self, method: str, *arguments: Any) -> Any:
        """What the program's method returns."""
        self._connection.send((method, arguments))
        return self._receive()

    def _receive(self) -> Any:
        try:
            succeeded, result = self._connection.recv()
        except EOFError:
            self._process.join()
            raise ProgramFailure(f"it ended with status {self._process.exitcode}") from None
        if not succeeded:
            raise ProgramFailure(result)
        return result

    def close(self) -> None:
        """Ends the process."""
        self._connection.close()
        self._process.join(timeout=5)
        if self._process.is_alive():
            self._process.terminate()
            self._process.join()


@dataclasses.dataclass(frozen=True)
class Result:
    """One part of one program.

    Attributes:
      part: ``prior``, ``posterior`` or ``train``.
      program: its name.
      first_run_seconds: of the first run, compiling included.
      seconds: one entry per round, of one Langevin step of the chain or of one iteration.
      peak_bytes: most memory held during the timed rounds: of the device; on a CPU of the process,
        beyond what its libraries took; 0 where the system does not tell.
    """

    part: str
    program: str
    first_run_seconds: float
    seconds: tuple[float, ...]
    peak_bytes: int

    @property
    def fastest(self) -> float:
        """The minimum of ``seconds``."""
        return min(self.seconds)

    @property
    def median(self) -> float:
        """The median of ``seconds``."""
        return statistics.median(self.seconds)


@contextlib.contextmanager
def contestants(
    names: Sequence[str], setup: Setup, report: Callable[[str], None]
) -> Iterator[list[Contestant]]:
    """Starts programs, one after the other; one that cannot start is reported and left out."""
    started = []
    try:
        for name in names:
            try:
                started.append(Contestant(name, setup))
            except ProgramFailure as failure:
                report(f"{name} is left out: {failure}")
        yield started
    finally:
        for contestant in started:
            contestant.close()


def errors_against(
    expected: tuple[np.ndarray, np.ndarray], actual: tuple[np.ndarray, np.ndarray]
) -> dict[str, float]:
    """Relative errors, in norm, of (energies [n], gradients [n, D])."""
    return {
        name: float(np.linalg.norm(a.astype(np.float64) - e) / np.linalg.norm(e))
        for name, a, e in zip(("energy", "gradient"), actual, expected, strict=True)
    }


def check(
    runners: Sequence[Contestant],
    expected: tuple[np.ndarray, np.ndarray],
    precision: str,
    report: Callable[[str], None],
) -> dict[str, dict[str, float]]:
    """``errors_against`` of every program; one that fails is reported and has none.

    Raises:
      UserError: where a program computes something else, so that its time says nothing.
    """
    errors = {}
    for runner in runners:
        try:
            found = errors_against(expected, runner.call("gradient", len(expected[0])))
        except ProgramFailure as failure:
            report(f"{runner.name} is left out: {failure}")
            continue
        for (what, error), limit in zip(found.items(), LIMITS[precision], strict=True):
            if not error <= limit:
                raise UserError(
                    f"{runner.name}'s {what} is off the float64 reference by {error:.1e}, over "
                    f"{limit:g}: the programs do not compute the same, so they are not timed"
                )
        errors[runner.name] = found
    return errors


def race(
    runners: Sequence[Contestant],
    part: str,
    rounds: int,
    report: Callable[[str], None],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Result]:
    """Times one part of all programs, in turn.

    Args:
      runners: at least one; one that fails is reported and left out.
      part: one of ``programs.PARTS``.
      rounds: timed rounds of each, after a first run that is not counted.
      report: takes lines on what was left out.
      progress: called with the numbers of runs done and in all, the first runs included.

    Returns:
      Results in the order of ``runners``.
    """
    first: dict[str, float] = {}
    seconds: dict[str, list[float]] = {}
    alive = []
    for i, runner in enumerate(runners):
        progress(i, len(runners) * (1 + rounds))
        try:
            first[runner.name] = runner.call("first_run", part)
            runner.call("measure_memory")
        except ProgramFailure as failure:
            report(f"{runner.name} is left out of {part}: {failure}")
            continue
        seconds[runner.name] = []
        alive.append(runner)
    first_runs, total = len(runners), len(runners) + rounds * len(alive)
    progress(first_runs, total)
    for i in range(rounds):
        for j, runner in enumerate(alive):
            seconds[runner.name].append(runner.call("round", part))
            progress(first_runs + i * len(alive) + j + 1, total)
    return [
        Result(part, r.name, first[r.name], tuple(seconds[r.name]), r.call("memory")) for r in alive
    ]


def ratios(results: Sequence[Result]) -> dict[str, dict[str, float]]:
    """How often ours goes into each other program's time and memory, for results of one part.

    Empty where ours was left out.
    """
    ours = next((result for result in results if result.program == OURS), None)
    if ours is None:
        return {}
    return {
        other.program: {
            "fastest": other.fastest / ours.fastest,
            "median": other.median / ours.median,
            "memory": other.peak_bytes / max(ours.peak_bytes, 1),
        }
        for other in results
        if other is not ours
    }


def table(results: Sequence[Result], title: str) -> str:
    """The results of one part as lines of text."""
    compared = ratios(results)
    lines = [
        f"{title:<44}{'first run':>10}{'min':>11}{'median':>11}{'memory':>11}"
        f"{'x min':>8}{'x median':>10}{'x memory':>10}"
    ]
    for result in results:
        line = (
            f"  {result.program:<42}{result.first_run_seconds:>8.1f} s"
            f"{1e3 * result.fastest:>8.2f} ms{1e3 * result.median:>8.2f} ms"
            f"{result.peak_bytes / 2**20:>7.0f} MiB"
        )
        if other := compared.get(result.program):
            line += f"{other['fastest']:>8.2f}{other['median']:>10.2f}{other['memory']:>10.2f}"
        lines.append(line)
    return "\n".join(lines)


def extrapolated(
    results: Mapping[str, Sequence[Result]], setup: Setup, full_steps: int
) -> dict[str, float]:
    """Seconds of a training iteration with ``full_steps`` posterior steps, by program.

    The timed iteration plus the steps it lacks at the median of the posterior chain's. Empty where
    nothing lacks, or one of the two was not timed.
    """
    lacking = full_steps - steps_of_run(setup.config, "posterior")
    if lacking <= 0 or not {"posterior", "train"} <= results.keys():
        return {}
    step = {result.program: result.median for result in results["posterior"]}
    return {
        result.program: result.median + lacking * step[result.program]
        for result in results["train"]
        if result.program in step
    }
