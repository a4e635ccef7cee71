"""The page in a real browser: upload, run, slider, files, bad files, Stop, two visitors, the end.

Needs Gradio, Playwright (`pip install gradio playwright`) and Debian's Chromium (`apt-get install
chromium`); without one of them it is skipped. With DRC_JAX_VIDEOS=FOLDER every visit is filmed.
"""

import contextlib
import importlib.util
import json
import pathlib
import re
import shutil
import signal
import tempfile
import urllib.error
import urllib.request

import pytest
from PIL import Image

from tests.helpers import hostile
from tests.helpers.page import give, png, run_chain, set_number, sources, tab, wait_for_text
from tests.helpers.starting import ROOT

for _name in ("gradio", "playwright"):
    if importlib.util.find_spec(_name) is None:
        pytest.skip(f"{_name} is not installed", allow_module_level=True)
if shutil.which("chromium") is None:
    pytest.skip("there is no chromium on this machine", allow_module_level=True)


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
    page.get_by_label("along edges").check()
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
