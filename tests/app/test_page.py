"""The page in a real browser: upload, run, slider, files, bad files, Stop, two visitors, the end.

Needs Gradio, Playwright (`pip install gradio playwright`) and Debian's Chromium (`apt-get install
chromium`); without one of them it is skipped.
"""

import contextlib
import dataclasses
import importlib.util
import io
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from drc_jax.runs import checkpoint
from drc_jax.runs.workdir import claimed
from tests.app.conftest import small_run
from tests.helpers import hostile

BROWSER = shutil.which("chromium")
ROOT = pathlib.Path(__file__).resolve().parents[2]
SECONDS = 120  # for whatever is waited for: programs are compiled beside other tests

for _name in ("gradio", "playwright"):
    if importlib.util.find_spec(_name) is None:
        pytest.skip(f"{_name} is not installed", allow_module_level=True)
if BROWSER is None:
    pytest.skip("there is no chromium on this machine", allow_module_level=True)

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


@pytest.fixture(scope="module")
def workdir(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("page") / "run"
    run = small_run(test_steps=5000)
    with (
        claimed(folder, run.config, "0"),
        checkpoint.CheckpointWriter(folder, keep=1) as writer,
    ):
        writer.save(1, Trained(run.params, np.int32(1)))
    (folder / "metrics.jsonl").write_text('{"step": 1, "loss": 2.5}\n{"step": 2, "loss": 1.5}\n')
    return folder


@pytest.fixture(scope="module")
def server(workdir, tmp_path_factory) -> Iterator[Server]:
    server = Server(workdir, tmp_path_factory.mktemp("temporary"))
    yield server
    if server.process.poll() is None:
        server.process.kill()
        server.process.communicate()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, server):
    """Opens the page as one more visitor; no browser may ask another host or see an error."""
    with contextlib.ExitStack() as stack:
        asked, errors = [], []

        def opened(**options):
            context = browser.new_context(accept_downloads=True, **options)
            stack.callback(context.close)
            page = context.new_page()
            page.set_default_timeout(SECONDS * 1000)
            page.on("request", lambda request: asked.append(request.url))
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.goto(server.address)
            page.wait_for_selector("#go")
            return page

        yield opened
        hosts = {url for url in asked if not url.startswith((server.address, "data:", "blob:"))}
        assert not hosts and not errors


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


def test_a_picture_is_run_scrubbed_and_extracted(open_page):
    page = open_page(viewport={"width": 1400, "height": 900})
    run_chain(page, rose__png=png(0), tulip__png=png(1))
    end = sources(page, "#panels")
    assert len(end) == 12 and len(set(end)) == 12
    assert page.locator("#curves svg").count() == 5

    set_number(page, "#shown", 0)
    wait_for_text(page, "#curves", "at step 0")
    start = sources(page, "#panels")
    assert start[0] == end[0] and start[1] != end[1]
    page.locator("#shown input[type=range]").fill("10")
    wait_for_text(page, "#curves", "at step 10")
    assert sources(page, "#panels")[1] not in (start[1], end[1])

    tab(page, "extract")
    page.get_by_label("along the picture's edges").check()
    page.click("#extract")
    wait_for_text(page, "#extracted", "40x30 pixels")
    for name, mode in (("mask", "L"), ("cut_out", "RGBA"), ("background", "RGB")):
        with page.expect_download() as download:
            page.locator(f'#made a[download="rose_{name}.png"]').click()
        with Image.open(download.value.path()) as image:
            assert image.size == (40, 30) and image.mode == mode

    tab(page, "sample")
    page.click("#sample")
    page.wait_for_selector("#samples img")
    tab(page, "move")
    page.click("#walk")
    page.wait_for_selector("#walked img")
    page.click("#swap")
    wait_for_text(page, "#swapped", "rose.png before the background of tulip.png")
    tab(page, "objects")
    page.click("#objects")
    wait_for_text(page, "#slots", "one slot for the foreground")


def test_the_recording_plays_without_a_network(open_page, browser, tmp_path):
    page = open_page()
    run_chain(page)
    page.get_by_text("Make one HTML file that plays this").click()
    with page.expect_download() as download:
        page.locator('a[download="rose.html"]').first.click()
    path = tmp_path / "rose.html"
    download.value.save_as(path)
    context = browser.new_context(offline=True, viewport={"width": 420, "height": 800})
    with contextlib.closing(context):
        player, errors = context.new_page(), []
        player.on("pageerror", lambda error: errors.append(str(error)))
        player.goto(path.as_uri())
        wait_for_text(player, "#told", "step 20 of 20")
        read = "c => [...c.getContext('2d').getImageData(0, 0, 8, 8).data].join()"
        end = player.locator("canvas").nth(1).evaluate(read)
        player.locator("#step").fill("0")
        wait_for_text(player, "#told", "step 0 of 20")
        assert player.locator("canvas").nth(1).evaluate(read) != end
        player.click("#play")
        wait_for_text(player, "#told", "step 20 of 20")
        wait_for_text(player, "#play", "Play")
        assert player.locator("canvas").nth(1).evaluate(read) == end and not errors
        too_wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
        assert not player.evaluate(too_wide)


def test_an_example_and_the_encoder(open_page):
    page = open_page()
    page.locator("img").first.click()
    wait_for_text(page, "#seen", r"scene_1\.png")
    page.get_by_text("More settings").click()
    page.get_by_label("encoder").check()
    set_number(page, "#steps", 3)
    page.click("#go")
    wait_for_text(page, "#status", "Step 3 of 3: done")


def test_bad_files_get_a_sentence(open_page):
    page = open_page()
    page.click("#go")
    page.get_by_text("Drop a picture first").first.wait_for()
    give(page, words__png=b"no picture", huge__png=hostile.png(60_000, 60_000), none__jpg=b"\xff")
    told = wait_for_text(page, "#problems", r"huge\.png")
    assert "words.png is no readable JPEG" in told and "none.jpg" in told
    assert "declares" in told and not sources(page, "#seen")
    page.click("#go")
    page.get_by_text("words.png is no readable").nth(1).wait_for()
    page.reload()
    page.wait_for_selector("#go")
    run_chain(page, rose__png=png(), words__png=b"no picture")
    assert "words.png is no readable JPEG" in page.locator("#problems").inner_text()
    assert len(sources(page, "#panels")) == 6


def test_stop_in_the_middle_of_a_chain_and_two_visitors(open_page):
    first, second = open_page(), open_page()
    run_chain(second)  # compiled, and done
    give(first, rose__png=png())
    wait_for_text(first, "#seen", "What the model sees")
    set_number(first, "#steps", 10_000)
    first.click("#go")
    wait_for_text(first, "#status", r"Step [1-9]\d+ of 10000\.")
    second.click("#go")
    wait_for_text(second, "#status", "queue: 1/1")
    first.click("#stop")
    told = wait_for_text(first, "#status", "Stopped")
    step = int(re.findall(r"Step (\d+) of 10000\. Stopped\.", told)[0])
    assert 0 < step < 10_000
    wait_for_text(second, "#status", "Step 20 of 20: done")
    assert f"Step {step} of 10000. Stopped." in first.locator("#status").inner_text()
    set_number(first, "#shown", 0)
    wait_for_text(first, "#curves", "at step 0")
    # A visitor who leaves in the middle holds up nobody.
    first.click("#go")
    wait_for_text(first, "#status", r"Step [1-9]\d+ of 10000\.")
    first.close()
    set_number(second, "#steps", 30)
    second.click("#go")
    wait_for_text(second, "#status", "Step 30 of 30: done")


def test_a_run_is_shown_as_it_grows(open_page, workdir):
    page = open_page()
    tab(page, "run")
    wait_for_text(page, "#run", "1.5 at step 2")
    with (workdir / "metrics.jsonl").open("a") as log:
        log.write('{"step": 3, "loss": 1.25}\n')
    (workdir / "images").mkdir()
    Image.new("RGB", (30, 20), "green").save(workdir / "images" / "step_0000003.png")
    wait_for_text(page, "#run", "1.25 at step 3")
    assert "training images after 3 iterations" in page.locator("#run").inner_text()


@pytest.mark.parametrize("width", [420, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_the_screen(open_page, width, scheme):
    page = open_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    run_chain(page)
    too_wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
    assert not page.evaluate(too_wide)
    colours = "e => [getComputedStyle(e).color, getComputedStyle(document.body).backgroundColor]"
    ink, paper = (
        sum(int(part) for part in re.findall(r"\d+", colour)[:3])
        for colour in page.locator("#panels figcaption").first.evaluate(colours)
    )
    assert (ink > paper + 300) if scheme == "dark" else (ink + 300 < paper)


def test_no_file_but_its_own_is_served_and_large_ones_are_refused(server, workdir):
    def status(path: str, body: bytes | None = None, kind: str = "") -> int:
        request = urllib.request.Request(f"{server.address}{path}", body)
        if kind:
            request.add_header("Content-Type", kind)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code

    assert status("/") == 200
    for path in ("/etc/passwd", ROOT / "README.md", workdir / "config.json", ROOT / "setup.cfg"):
        assert status(f"/gradio_api/file={path}") in (403, 404)
    with urllib.request.urlopen(f"{server.address}/gradio_api/info", timeout=60) as answer:
        assert json.load(answer) == {"named_endpoints": {}, "unnamed_endpoints": {}}
        assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
    edge = "b0undary"
    head = f'--{edge}\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    large = head.encode() + bytes(65 << 20) + f"\r\n--{edge}--\r\n".encode()
    assert status("/gradio_api/upload", large, f"multipart/form-data; boundary={edge}") == 413


def test_the_end_leaves_nothing_and_nobody_was_asked(server, open_page):
    page = open_page()
    give(page, rose__png=png())
    wait_for_text(page, "#seen", "What the model sees")
    set_number(page, "#steps", 10_000)
    page.click("#go")
    wait_for_text(page, "#status", r"Step [1-9]\d+ of 10000\.")
    assert list(server.temporary.glob("drc_jax_app_*"))
    output = server.stop(signal.SIGINT)
    assert server.process.returncode == 0, output
    assert "stopped; its temporary files are removed" in output
    assert "ASKED" not in output and "Traceback" not in output, output
    left = [path for path in server.temporary.rglob("*") if path.is_file()]
    assert not [path for path in left if path.suffix in (".png", ".html", ".webp", "")], left
    assert not list(pathlib.Path(tempfile.gettempdir()).glob("gradio")), "Gradio's own folder"
