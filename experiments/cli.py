"""What every program in this folder shares: clear errors and clean exits."""

import contextlib
import inspect
import logging as python_logging
import os
import pathlib
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence

import jax
from absl import app, flags, logging
from tqdm import tqdm

import drc_jax
from drc_jax import files
from drc_jax.baselines import grabcut
from drc_jax.config import LARGEST_SEED
from drc_jax.config.fields import nearest
from drc_jax.config.model import MASK_SOURCES
from drc_jax.errors import UserError
from drc_jax.evaluation.refine import REFINEMENTS
from drc_jax.evaluation.regions import Watched, block_size
from drc_jax.model import posterior
from drc_jax.runs.trained import Run, load_run
from drc_jax.runtime import signals
from drc_jax.zoo import models
from experiments import config_flag

# So that a program's --help lists the flags defined here as its own.
flags.disclaim_key_flags()

_INTERRUPTED = 128 + signal.SIGINT


def seed_flag(text: str = "Seed of the chains.") -> flags.FlagHolder[int]:
    """Defines ``--seed``; call it once, at a program's top level."""
    return flags.DEFINE_integer("seed", 0, text, lower_bound=0, upper_bound=LARGEST_SEED)


def steps_flag(text: str) -> flags.FlagHolder[int]:
    """Defines ``--steps``, 0 for the config's; call it once, at a program's top level."""
    return flags.DEFINE_integer("steps", 0, text, lower_bound=0, upper_bound=2**31 - 1)


def batch_size_flag() -> None:
    """Defines ``--batch_size``, which command lines of older versions have; nothing reads it."""
    flags.DEFINE_integer(
        "batch_size",
        None,
        "Without effect: images go through the method in blocks of one size, so that the result "
        "for an image depends on no setting of this kind.",
        lower_bound=1,
    )


class ImageBar:
    """A progress bar over images, with rate and remaining time; use as a context manager.

    Inside a block of images it moves with the steps of their chains.
    """

    def __init__(self, work: str, steps: int, unit: str = "image") -> None:
        description = f"{work}, {steps} steps" if steps else work
        self._bar = tqdm(unit=unit, desc=description, delay=0.5)
        self._done = 0

    def __enter__(self) -> "ImageBar":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._bar.close()

    def images(self, done: int, total: int, work: str = "") -> None:
        """Takes the numbers of images done and in all, after a block of them, and what is next."""
        self._done, self._bar.total = done, total
        if work:
            self._bar.set_description(work, refresh=False)
        self._bar.update(done - self._bar.n)

    def steps(self, done: int, total: int) -> None:
        """Takes the numbers of steps done and in all, of the chains of the block in work."""
        left = (self._bar.total or self._done) - self._done
        reached = self._done + min(block_size(), left) * done // total
        self._bar.update(reached - self._bar.n)


@contextlib.contextmanager
def progress_bar(work: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """A bar with rate and remaining time; yields what takes the numbers done and in all."""
    with tqdm(unit=unit, desc=work, delay=0.5) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield progress


def start_flag() -> flags.FlagHolder[str]:
    """Defines ``--start``; call it once, at a program's top level."""
    return flags.DEFINE_enum(
        "start",
        "prior",
        posterior.STARTS,
        "Where chains begin: at noise, or at the answer of the encoder that was trained beside the "
        "model (--config.encoder.enabled=True), which takes fewer steps.",
    )


def chains_flag() -> flags.FlagHolder[int]:
    """Defines ``--chains``, for `Run.sampler_chains`; call it once, at a program's top level."""
    return flags.DEFINE_integer(
        "chains",
        0,
        "Chains per image, whose regions are averaged: better masks, at so many times the cost; 0 "
        "takes the config's.",
        lower_bound=0,
        upper_bound=1_000,
    )


def mask_flag() -> flags.FlagHolder[str]:
    """Defines ``--mask_from``, for `Run.mask_source`; call it once, at a program's top level."""
    return flags.DEFINE_enum(
        "mask_from",
        "",
        ("", *MASK_SOURCES),
        "Masks of the mixing weights (pi, the paper), or of the responsibilities for the image's "
        "own pixels (gamma), which follow its edges; empty takes the config's.",
    )


def refine_flag() -> flags.FlagHolder[str]:
    """Defines ``--refine``, for `refine.refined`; call it once, at a program's top level."""
    return flags.DEFINE_enum(
        "refine",
        "",
        ("", *REFINEMENTS),
        "Masks that follow pictures larger than the model's: edges moves outlines to edges nearby "
        "(a guided filter); colours cuts again by colours, beginning at the model's mask (GrabCut; "
        "needs pip install 'drc_jax[baselines]').",
    )


def slots_flag() -> flags.FlagHolder[int]:
    """Defines ``--num_slots``, for `Run.with_slots`; call it once, at a program's top level."""
    return flags.DEFINE_integer(
        "num_slots",
        0,
        "Foreground slots of DRC, another number than it was trained with; 0 takes the config's.",
        lower_bound=0,
        upper_bound=256,
    )


def model_flag() -> flags.FlagHolder[str]:
    """Defines ``--model``, for `open_run`; call it once, at a program's top level."""
    return flags.DEFINE_string(
        "model",
        "",
        f"A trained model instead of a run: {', '.join(models.names())}, or the card, *.json, that "
        "experiments.weights has written.",
    )


def open_run(workdir: str | None, model: str) -> Run:
    """What ``--workdir`` or ``--model`` names.

    Raises:
      UserError: if both are given or neither, or it cannot be opened.
    """
    if bool(workdir) == bool(model):
        raise UserError(
            "give --workdir, the folder of an `experiments.train` run, or --model, one of "
            f"{', '.join(models.names())}"
        )
    return models.load_pretrained(model) if model else load_run(str(workdir))


def say_outcomes(watched: Watched, count: int) -> None:
    """Prints how the masks of the first ``count`` images were found, where a method says it."""
    outcomes = watched.outcomes(count)
    if len(outcomes):
        print(grabcut.summary(outcomes))


def run(main: Callable[[Sequence[str]], int | None]) -> None:
    """Runs ``main`` under absl, and ends the process with its status.

    What the user can mend ends it with one line on stderr and status 2: a UserError, a file that
    cannot be read or written, too little memory. Ctrl-C ends it at once with status 130, unless
    ``main`` catches signals itself.
    """

    def guarded(argv: Sequence[str]) -> int | None:
        if len(argv) > 1:
            return _fail(f"unexpected argument {argv[1]!r}; see --help")
        _quieten_logs()
        try:
            with _leaving_at_once():
                return main(argv)
        except UserError as error:
            return _fail(str(error))
        except OSError as error:
            if error.errno is None:
                raise
            place = f"{files.shown(str(error.filename))}: " if error.filename is not None else ""
            return _fail(f"cannot read or write {place or 'a file: '}{files.reason(error)}")
        except MemoryError as error:
            return _fail(f"there is too little memory ({error}); lower the sizes or the batch")
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            return _fail(
                f"the device has too little memory ({str(error).splitlines()[0][:200]}); lower the "
                "sizes or the batch"
            )

    app.run(guarded, flags_parser=_parse)


@contextlib.contextmanager
def _leaving_at_once() -> Iterator[None]:
    """While its block runs, Ctrl-C ends the process at once, with a line and status 130.

    Python would raise KeyboardInterrupt when a compile or a computation is over, and XLA crashes
    where a process ends while it compiles. Nothing has to be cleaned up: files are written whole or
    not at all, and workers end with their parent.
    """

    def leave(number: int) -> None:
        os.write(2, b"\ninterrupted\n")
        os._exit(_INTERRUPTED)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with signals.watching((signal.SIGINT,), leave):
        yield


def _quieten_logs() -> None:
    """Shows warnings alone: under absl, Orbax tells dozens of lines about every checkpoint."""
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)
        formatter = python_logging.Formatter("%(levelname)s: %(message)s")
        logging.get_absl_handler().setFormatter(formatter)


def _fail(message: str) -> int:
    # A value that is repeated in it may have lines of its own.
    print("error: " + message.replace("\n", "\\n"), file=sys.stderr)
    return 2


def _parse(argv: Sequence[str]) -> list[str]:
    """Parses the flags; a mistake is one line too, and ``--help`` and ``--version`` are none."""
    if "--version" in argv[1:]:
        print(drc_jax.__version__)
        sys.exit(0)
    program = sys.modules["__main__"]
    program.__doc__ = examples_first(program.__doc__ or "")  # which absl shows as the help
    try:
        if "config" in flags.FLAGS:
            text = config_flag.field_help(argv)
            if text is not None:
                print(text, flush=True)
                sys.exit(0)
            argv = config_flag.check_arguments(argv)
        return flags.FLAGS(argv)
    except (flags.Error, UserError) as error:
        sys.exit(_fail(f"{error}{_nearest_value(str(error))}; see --help"))
    except BrokenPipeError:  # as of `--help | head`
        os._exit(0)
    except SystemExit:  # absl has printed the help, and would end with status 1
        sys.exit(0)


def _nearest_value(message: str) -> str:
    """The choice that absl's refusal of a value may mean, or nothing."""
    refused = re.search(r"=(.*): value should be one of <(.*)>", message)
    return nearest(refused[1], refused[2].split("|")) if refused else ""


def examples_first(doc: str) -> str:
    """A program's docstring with its first block of commands, which is indented, in front."""
    summary, *rest = inspect.cleandoc(doc).split("\n\n")
    for i, paragraph in enumerate(rest):
        if paragraph.startswith("    "):
            rest[i : i + 1] = [summary]
            return "\n\n".join([paragraph, *rest])
    return doc


def cache_compiled_programs() -> None:
    """Keeps XLA's output between runs, so that only a program's first start waits for it.

    It goes to ``~/.cache/drc_jax``, or to where ``JAX_COMPILATION_CACHE_DIR`` says.
    """
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        folder = pathlib.Path.home() / ".cache" / "drc_jax"
        jax.config.update("jax_compilation_cache_dir", str(folder))
