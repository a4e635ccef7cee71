"""The recording: an animation, its frames and a page, whole and where they should be."""

import json
import pathlib
import re

import numpy as np
import pytest
from PIL import Image

import drc_jax
from drc_jax.app import chains, markup, pictures, player, strips, watch
from drc_jax.zoo import models
from tests.helpers.starting import start

CARD = dict.fromkeys(models.CARD, "of a test")


@pytest.fixture
def recording(run, photos):
    found, _ = pictures.read([str(photos[0])], 8, "stretch")
    *_, recording = chains.recorded(run, found, chains.Settings(steps=9), every=4)
    return recording


@pytest.fixture(scope="module")
def card(run, tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("card") / "small.json"
    models.export(run, path, CARD, "float32")
    return str(path)


def test_the_files(recording, tmp_path):
    written = watch.write(recording, tmp_path / "out", gif=True)
    assert [path.name for path in written] == ["rose.webp", "rose.gif", "rose.html"]
    steps = recording.steps()
    assert steps == [0, 2, 4, 8, 9]
    frames = sorted(path.name for path in (tmp_path / "out" / "frames").iterdir())
    assert frames == [f"rose_{step:05d}.png" for step in steps]
    for path in written[:2]:
        with Image.open(path) as animation:
            assert animation.n_frames == 5 and animation.info["loop"] == 0
            durations = []
            for i in range(5):
                animation.seek(i)
                animation.load()
                durations.append(animation.info["duration"])
            assert durations == [120] * 4 + [2000]
            last = np.asarray(animation.convert("RGB")).astype(int)
    drawn = np.asarray(Image.open(tmp_path / "out" / "frames" / frames[-1])).astype(int)
    assert drawn.shape == last.shape and np.abs(drawn - last).mean() < 3


def test_the_page_holds_every_frame_and_asks_for_nothing(recording, tmp_path):
    page = player.player(recording)
    data = json.loads(re.findall(r'id="data">(.*?)</script>', page, flags=re.DOTALL)[0])
    assert data["steps"] == [0, 2, 4, 8, 9] and len(data["frames"]) == 5
    energies = [shot.energies["energy"][0] for shot in recording.shots(0)]
    np.testing.assert_allclose(data["curves"][0], energies, rtol=1e-6)
    assert len(data["curves"]) == page.count("<svg") == 5
    assert "rose.png" in page and page.count("<canvas") == 6
    # Nothing but what is inside: no address beside data.
    outside = re.findall(r'(?:src|href|url\()\s*=?\s*["\']?(?!data:)(\w+:|//)', page)
    assert outside == [] and "http" not in page.replace("http-equiv", "")
    assert "prefers-color-scheme: dark" in page and "width=device-width" in page


def test_a_small_strip_is_exact(recording, tmp_path):
    shot = recording.shots(0)[-1]
    strip = strips.strip(recording, 0, shot)
    assert strip.shape == (8, 48, 3)
    np.testing.assert_array_equal(strip[:, :8], recording.squares[0])
    (tmp_path / "strip.webp").write_bytes(strips.encoded_strip(strip))
    with Image.open(tmp_path / "strip.webp") as image:
        np.testing.assert_array_equal(np.asarray(image), strip)


def test_energies_that_are_no_numbers_leave_gaps():
    nan = float("nan")
    svg = markup.chart("loss", [0, 1, 2, 3], [4.0, nan, 2.0, float("inf")])
    assert "nan" not in svg and "inf" not in svg
    assert "2 at step 2" in svg and len(re.findall(r"[\d.]+,[\d.]+", svg)) == 2
    assert "<svg" not in markup.chart("loss", [0], [nan])


def test_the_program(card, photos, tmp_path):
    out = tmp_path / "out"
    done = start(
        "watch", f"--model={card}", f"--input={photos[0]}", f"--output={out}",
        "--steps=6", "--every=3", "--restarts=2", "--start=encoder", "--crop=centre",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"wrote {out}/rose.webp, {out}/rose.html; its frames are in")
    assert len(list((out / "frames").iterdir())) == 3
    assert not list(out.rglob("*.gif")) and not list(out.rglob("*.partial"))


def test_the_program_refuses_before_it_works(card, photos, tmp_path):
    words = tmp_path / "words.png"
    words.write_text("no picture")
    taken = tmp_path / "taken"
    taken.write_text("a file")
    for flags, message in (
        ([f"--input={words}", f"--output={tmp_path / 'o'}"], "words.png is no readable JPEG"),
        ([f"--input={tmp_path}", f"--output={tmp_path / 'o'}"], "must be a picture's file"),
        ([f"--input={photos[0]}", f"--output={taken}"], "cannot write the recording to"),
        ([f"--input={photos[0]}", f"--output={tmp_path}", "--restarts=99"], "--restarts=99"),
    ):
        done = start("watch", f"--model={card}", *flags)
        assert done.returncode == 2, done.stderr
        assert message in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "o").exists()


def test_an_output_that_cannot_be_written_is_refused(recording, tmp_path):
    taken = pathlib.Path(tmp_path / "taken")
    taken.write_text("a file")
    with pytest.raises(drc_jax.UserError, match="cannot write the recording"):
        watch.check(taken)
