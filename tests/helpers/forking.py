"""A process that has imported what the programs import, and forks to start one of them.

    python -m tests.helpers.forking

Reads a request per line from stdin, a JSON object: ``program``, what Python does; ``arguments``;
``environment``; ``stdout`` and ``stderr``, files. Writes a line with the exit status of each.
"""

import gc
import json
import os
import sys

from drc_jax.data import training_images  # noqa: F401
from drc_jax.evaluation import report  # noqa: F401
from drc_jax.training import loop  # noqa: F401
from experiments import cli, config_flag  # noqa: F401


def main() -> str:
    """Forks for every request; returns in the child alone, which then is the program returned."""
    gc.freeze()  # or the end of every child would look through all that was imported
    for line in sys.stdin:
        request = json.loads(line)
        if child := os.fork():
            _, status = os.waitpid(child, 0)
            print(os.waitstatus_to_exitcode(status), flush=True)
            continue
        for number, name, flags in (
            (0, os.devnull, os.O_RDONLY),
            (1, request["stdout"], os.O_WRONLY),
            (2, request["stderr"], os.O_WRONLY),
        ):
            os.dup2(os.open(name, flags), number)
        os.environ.clear()
        os.environ.update(request["environment"])
        # Python reads it when it starts, and this process has started.
        sys.path[:0] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
        sys.argv = ["-c", *request["arguments"]]
        return request["program"]
    sys.exit()


if __name__ == "__main__":
    exec(main())
