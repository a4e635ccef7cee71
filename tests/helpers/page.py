"""The page's program as a server, and what a visitor does with its page in a browser."""

import dataclasses
import io
import os
import pathlib
import re
import subprocess
import sys
from typing import Any

import numpy as np
from PIL import Image

from drc_jax.runs import checkpoint
from drc_jax.runs.trained import Run
from drc_jax.runs.workdir import claimed
from tests.helpers.starting import ROOT

SECONDS = 120  # for whatever is waited for: programs are compiled beside other tests

# The program, in a process that prints every host beside this one that it asks for.
PROGRAM = """if True:
    import socket, sys
    from experiments import app, cli

    connect, find = socket.socket.connect, socket.getaddrinfo

    def watched(self, address):
        if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "localhost", "::1"):
            print("ASKED", address, flush=True)
        return connect(self, address)

    def looked_up(host, *arguments, **options):
        if host not in (None, "127.0.0.1", "localhost", "::1"):
            print("ASKED", host, flush=True)
        return find(host, *arguments, **options)

    socket.socket.connect, socket.getaddrinfo = watched, looked_up
    sys.argv = ["app", *sys.argv[1:]]
    cli.run(app.main)
"""


@dataclasses.dataclass
class Trained:
    """As much of a training state as the page reads."""

    params: Any
    step: Any


def write_run(folder: pathlib.Path, run: Run) -> None:
    """A training folder with the run's parameters after its first step, and two logged steps."""
    with (
        claimed(folder, run.config, "0"),
        checkpoint.CheckpointWriter(folder, keep=1) as writer,
    ):
        writer.save(1, Trained(run.params, np.int32(1)))
    (folder / "metrics.jsonl").write_text('{"step": 1, "loss": 2.5}\n{"step": 2, "loss": 1.5}\n')


class Server:
    """The program, started as its user does."""

    def __init__(self, workdir: pathlib.Path, temporary: pathlib.Path) -> None:
        self.temporary = temporary
        environment = {**os.environ, "TMPDIR": str(temporary), "HOME": str(temporary / "home")}
        (temporary / "home").mkdir(parents=True)
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, f"--workdir={workdir}"],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self.process.stdout is not None
        self.lines = []
        for line in self.process.stdout:
            self.lines.append(line)
            if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                self.address = found[0]
                return
        raise AssertionError("".join(self.lines))

    def stop(self, number: int) -> str:
        """Ends it by a signal; returns all that it printed."""
        self.process.send_signal(number)
        output, _ = self.process.communicate(timeout=60)
        return "".join(self.lines) + output


def png(seed: int = 0, size: tuple[int, int] = (40, 30)) -> bytes:
    rng = np.random.default_rng(seed)
    buffer = io.BytesIO()
    small = Image.fromarray(rng.integers(0, 256, (3, 4, 3), dtype=np.uint8))
    small.resize(size, Image.Resampling.NEAREST).save(buffer, "PNG")
    return buffer.getvalue()


def give(page, **files: bytes) -> None:
    """Uploads files: their names, with __ for a dot, to contents."""
    given = [
        {"name": name.replace("__", "."), "mimeType": "image/png", "buffer": content}
        for name, content in files.items()
    ]
    page.set_input_files("input[type=file]", given)


def set_number(page, element: str, value: int) -> None:
    field = page.locator(f"{element} input[type=number]")
    field.fill(str(value))
    field.press("Tab")


def wait_for_text(page, element: str, pattern: str) -> str:
    page.wait_for_function(
        "([element, pattern]) => new RegExp(pattern).test("
        "document.querySelector(element)?.innerText ?? '')",
        arg=[element, pattern],
    )
    return page.locator(element).inner_text()


def run_chain(page, steps: int = 20, **files: bytes) -> None:
    give(page, **(files or {"rose__png": png()}))
    wait_for_text(page, "#seen", "What the model sees")
    set_number(page, "#steps", steps)
    page.click("#go")
    wait_for_text(page, "#status", f"Step {steps} of {steps}: done")


def sources(page, element: str) -> list[str]:
    return page.eval_on_selector_all(f"{element} img", "all => all.map(each => each.src)")


def tab(page, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).click()
