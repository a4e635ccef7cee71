"""What every program in this folder shares: clear errors and clean exits."""

import logging as python_logging
import os
import pathlib
import sys
from collections.abc import Callable, Sequence

import jax
from absl import app, flags, logging

from drc_jax.errors import UserError
from experiments import config_flag

_INTERRUPTED = 130


def run(main: Callable[[Sequence[str]], int | None]) -> None:
    """Runs ``main`` under absl; a UserError ends it with one line on stderr and status 2."""

    def guarded(argv: Sequence[str]) -> int | None:
        if len(argv) > 1:
            return _fail(f"unexpected argument {argv[1]!r}; see --help")
        _quieten_logs()
        try:
            return main(argv)
        except UserError as error:
            return _fail(str(error))
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return _INTERRUPTED

    app.run(guarded, flags_parser=_parse)


def _quieten_logs() -> None:
    """Shows warnings alone: under absl, Orbax tells dozens of lines about every checkpoint."""
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)
        formatter = python_logging.Formatter("%(levelname)s: %(message)s")
        logging.get_absl_handler().setFormatter(formatter)


def _fail(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2


def _parse(argv: Sequence[str]) -> list[str]:
    """Parses the flags; a mistake in them is one line too."""
    try:
        if "config" in flags.FLAGS:
            config_flag.check_arguments(argv)
        return flags.FLAGS(argv)
    except (flags.Error, UserError) as error:
        sys.exit(_fail(f"{error}; see --help"))


def cache_compiled_programs() -> None:
    """Keeps XLA's output between runs, so that only a program's first start waits for it.

    It goes to ``~/.cache/drc_jax``, or to where ``JAX_COMPILATION_CACHE_DIR`` says.
    """
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        folder = pathlib.Path.home() / ".cache" / "drc_jax"
        jax.config.update("jax_compilation_cache_dir", str(folder))
