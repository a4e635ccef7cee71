"""What every program in this folder shares: clear errors and clean exits."""

import sys
from collections.abc import Callable, Sequence

from absl import app

from drc_jax.errors import UserError


def run(main: Callable[[Sequence[str]], int | None]) -> None:
    """Runs ``main`` under absl; a UserError ends it with one line on stderr and status 2."""

    def guarded(argv: Sequence[str]) -> int | None:
        if len(argv) > 1:
            print(f"error: unexpected argument {argv[1]!r}; see --help", file=sys.stderr)
            return 2
        try:
            return main(argv)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2

    app.run(guarded)
