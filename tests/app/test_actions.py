"""What the buttons do, without a browser: pictures of any kind, chains, extraction, moves."""

import base64
import io
import json
import pathlib
import re

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import drc_jax
from drc_jax.app import actions, chains, moves, pictures, run_folder
from drc_jax.app.actions import Actions
from drc_jax.data.pictures.decode import read_picture
from drc_jax.evaluation.extract import extract
from tests.app.conftest import small_run
from tests.helpers import hostile

SETTINGS = chains.Settings(steps=9)


def images(html: str) -> list[str]:
    return re.findall(r'src="(data:image/png;base64,[^"]+)"', html)


def pixels(address: str) -> np.ndarray:
    with Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))) as image:
        return np.asarray(image)


@pytest.fixture
def act(run, tmp_path) -> Actions:
    (tmp_path / "made").mkdir()
    return Actions(run, tmp_path / "made")


@pytest.fixture
def recording(act, photos):
    *_, (recording, _) = act.watch([str(path) for path in photos], SETTINGS)
    return recording


def test_three_hundred_files_of_all_kinds_are_shown_or_named(act, tmp_path):
    root = tmp_path / "hostile"
    root.mkdir()
    expected = hostile.write(root)
    for name in expected.good:
        problems, seen = act.look([str(root / name)], "stretch")
        assert not problems and len(images(seen)) == 1, name
        assert pixels(images(seen)[0]).shape == (8, 8, 3)
    for name in (*expected.damaged, *(n for n in expected.ignored if (root / n).is_file())):
        problems, seen = act.look([str(root / name)], "stretch")
        assert not seen, name
        (sentence,) = re.findall(r'<p class="problem">(.*?)</p>', problems)
        assert re.fullmatch(r"[^\n<>]{5,400}\.", sentence), sentence
        with pytest.raises(drc_jax.UserError):
            act.watch([str(root / name)], SETTINGS)
    assert list((tmp_path / "made").iterdir()) == []


@pytest.mark.parametrize(
    "name",
    [
        "<script>alert(1)</script>.png",
        '" onerror="alert(1).png',
        "${alert(1)}.png",
        "{{constructor}}.png",
        "`${1}`.png",
        "two\nlines.png",
    ],
)
def test_a_name_is_never_markup(act, tmp_path, photos, name):
    name = name.replace("/", "\u2044")
    path = tmp_path / name
    path.write_bytes(photos[0].read_bytes())
    _, seen = act.look([str(path)], "stretch")
    *_, (recording, view) = act.watch([str(path), str(photos[1])], SETTINGS)
    html, files = act.extract(recording, 0, False, "png")
    page = pathlib.Path(act.player_file(recording, 0)).read_text()
    for text in (seen, view.panels, view.curves, html, moves.swap(act.run, recording, 0, 1)):
        for sign in ("<script", '" on', "${", "{{", "`", "\n"):
            assert sign not in text, text[:300]
    assert "<script>alert" not in page and '" onerror' not in page
    assert all(pathlib.Path(file).parent.parent == act.folder for file in files)


def test_a_chain_is_watched_frame_by_frame(act, photos):
    views = list(act.watch([str(path) for path in photos], SETTINGS))
    recording, last = views[-1]
    assert recording.steps() == list(range(10))
    assert "Step 9 of 9: done" in last.status and "Step 3 of 9." in views[3][1].status
    # Beside the picture: reconstruction, foreground, background, mask, responsibilities.
    assert len(images(last.panels)) == 3 * 6
    for name in ("rose.png", "tulip.png", "thistle.png"):
        assert name in last.panels
    assert last.curves.count("<svg") == 5  # no cost of slots with one
    assert act.view(recording, 3).panels == views[3][1].panels
    assert act.view(recording, 9).panels == last.panels
    assert act.view(recording, 3).panels != last.panels
    assert "rose.png" in last.curves and "tulip.png" in act.view(recording, 9, 1).curves


def test_restarts_show_the_chain_of_lowest_energy(act, photos):
    paths = [str(path) for path in photos]
    *_, (recording, view) = act.watch(paths, SETTINGS._replace(restarts=4))
    ends = np.array([shots[-1].energies["energy"] for shots in recording.restarts])
    best = ends.argmin(axis=0)
    assert (best < 3).any()  # the one that ran last is not everyone's
    assert view.panels == act.view(recording, 9).panels
    assert "Step 9 of 9, restart 4 of 4: done. Shown is the chain of lowest energy" in view.status
    for i, restart in enumerate(best):
        kept = recording.restarts[restart][-1]
        assert recording.shots(i)[-1].energies["energy"][i] == ends[:, i].min()
        mask = pixels(images(view.panels)[6 * i + 4])
        np.testing.assert_array_equal(mask, kept.panels["mask"][i])


def test_a_chain_that_was_stopped_can_be_looked_at(act, photos):
    seen = act.watch([str(photos[0])], SETTINGS._replace(steps=10_000))
    for _ in range(3):
        recording, _ = next(seen)
    seen.close()
    assert act.stopped(None).startswith("Stopped. ")
    assert act.stopped(recording) == "Step 200 of 10000. Stopped."
    assert len(images(act.view(recording, 200).panels)) == 6
    assert moves.objects(recording, 0) and act.extract(recording, 0, False, "png")[1]


def test_nothing_to_run_on_is_a_sentence(act, photos, tmp_path):
    for paths, message in (
        (None, "Drop a picture first"),
        ([], "Drop a picture first"),
        ([str(tmp_path / "gone.png")], "gone.png cannot be read: No such file"),
    ):
        with pytest.raises(drc_jax.UserError, match=message):
            act.watch(paths, SETTINGS)
    for action in (
        lambda: act.extract(None, 0, False, "png"),
        lambda: act.player_file(None, 0),
        lambda: moves.walk(act.run, None, 0, "foreground", 0),
        lambda: moves.swap(act.run, None, 0, 1),
        lambda: moves.objects(None, 0),
    ):
        with pytest.raises(drc_jax.UserError, match="Run a chain first"):
            action()
    assert "Run a chain first" in act.view(None).panels


def test_more_pictures_than_there_is_room_for(act, photos):
    problems, seen = act.look([str(photos[0])] * 9, "stretch")
    assert len(images(seen)) == pictures.MOST == 8 and "8 pictures at once" in problems


def test_a_good_picture_runs_beside_a_bad_file(act, photos, tmp_path):
    bad = tmp_path / "words.png"
    bad.write_text("no picture")
    problems, _ = act.look([str(bad), str(photos[0])], "stretch")
    assert "words.png is no readable JPEG" in problems
    *_, (recording, _) = act.watch([str(bad), str(photos[0])], SETTINGS)
    assert recording.names == ["rose.png"]


@pytest.mark.parametrize("crop", ["stretch", "centre", "letterbox"])
@pytest.mark.parametrize("kind", ["png", "webp"])
@pytest.mark.parametrize("refine", ["", "edges"])
def test_what_is_extracted_is_what_the_program_extracts(act, photos, tmp_path, crop, kind, refine):
    *_, (recording, _) = act.watch([str(photos[0])], SETTINGS._replace(crop=crop))
    html, files = act.extract(recording, 0, True, kind, refine)
    assert "40x30 pixels" in html and len(images(html)) == 4
    regions = act.run.infer_batch(0, num_steps=9)(recording.squares)
    np.testing.assert_array_equal(recording.regions().pi, regions.pi)
    out = tmp_path / "out"
    extract(
        lambda squares: drc_jax.Regions(*(jnp.repeat(a, len(squares), 0) for a in regions)),
        photos[0],
        out,
        image_size=8,
        crop=crop,
        soft=True,
        file_format=kind,
        refine=refine,
    )
    for folder, file in zip(("masks", "cutouts", "backgrounds"), files, strict=True):
        assert pathlib.Path(file).read_bytes() == (out / folder / f"rose.{kind}").read_bytes()
        with Image.open(file) as image:
            assert image.size == (40, 30)
    assert [pathlib.Path(file).name for file in files] == [
        f"rose_mask.{kind}", f"rose_cut_out.{kind}", f"rose_background.{kind}"
    ]  # fmt: skip


def test_a_picture_that_is_gone_cannot_be_extracted(act, photos, recording):
    photos[1].unlink()
    with pytest.raises(drc_jax.UserError, match=r"tulip\.png cannot be read"):
        act.extract(recording, 1, False, "png")


def test_old_files_to_download_are_removed(act, recording, monkeypatch):
    old = pathlib.Path(act.player_file(recording, 0))
    assert old.is_file()
    monkeypatch.setattr(actions, "LONGEST", -1.0)
    new = pathlib.Path(act.player_file(recording, 0))
    assert new.is_file() and not old.parent.exists()


def test_samples_of_the_prior(act):
    html = moves.sample(act.run, 3, 2, 0)
    assert len(images(html)) == 3 * 4
    assert images(moves.sample(act.run, 2, 2, 0)) == images(html)[:8]
    assert images(moves.sample(act.run, 3, 2, 1)) != images(html)
    for arguments, message in (((0, 2, 0), "samples must be"), ((1, 0, 0), "steps must be")):
        with pytest.raises(drc_jax.UserError, match=message):
            moves.sample(act.run, *arguments)


def test_a_walk_passes_through_the_picture_and_turns_one_part(act, recording):
    rendered = pixels(images(act.view(recording, 9).panels)[1])
    for part in moves.PARTS:
        found = [pixels(address) for address in images(moves.walk(act.run, recording, 0, part, 1))]
        assert len(found) == 18
        np.testing.assert_allclose(found[4].astype(int), rendered, atol=1)
        assert (found[0] != found[4]).any() and (found[8] != found[4]).any()
    with pytest.raises(drc_jax.UserError, match="part must be one of"):
        moves.walk(act.run, recording, 0, "sky", 1)


def test_backgrounds_swap(act, recording, run):
    found = [pixels(address) for address in images(moves.swap(act.run, recording, 0, 2))]
    z = recording.latents()
    own, other = z[0], z[2]
    size = run.config.model.zf_dim
    mixed = np.concatenate([own[:size], other[size:]])
    expected = drc_jax.render(
        run.config.model, run.params, jnp.asarray(mixed[None])
    ).reconstruction[0]
    expected = (np.clip(expected, -1, 1) + 1) * 127.5
    np.testing.assert_allclose(found[2].astype(float), expected, atol=1.01)
    with pytest.raises(drc_jax.UserError, match="two different pictures"):
        moves.swap(act.run, recording, 1, 1)
    with pytest.raises(drc_jax.UserError, match="have numbers up to 3"):
        moves.swap(act.run, recording, 1, 7)


def test_slots_are_taken_away(photos, tmp_path):
    (tmp_path / "made").mkdir()
    act = Actions(small_run(3), tmp_path / "made")
    *_, (recording, view) = act.watch([str(photos[0])], SETTINGS)
    html = moves.objects(recording, 0)
    assert len(images(html)) == 3 + 2 * 3 and "one slot" not in html
    assert [f"without slot {k}" in html for k in (1, 2, 3, 4)] == [True, True, True, False]
    assert len(images(view.panels)) == 6 and len(images(moves.sample(act.run, 1, 2, 0))) == 3


def test_one_slot_says_so(recording):
    html = moves.objects(recording, 0)
    assert "one slot for the foreground" in html and len(images(html)) == 5
    without = pixels(images(html)[4]).astype(float)
    background = (np.clip(recording.regions().images[0, -1], -1, 1) + 1) * 127.5
    np.testing.assert_allclose(without, background, atol=0.51)


def test_a_runs_folder_as_it_grows(tmp_path):
    html, count = run_folder.view(tmp_path)
    assert count == 0 and "Nothing is logged" in html
    log = tmp_path / "metrics.jsonl"
    lines = [
        {"step": i, "loss": 9.0 - i, "images_per_second": 2.0, "accuracy": 0.1 * i}
        for i in range(5)
    ]
    log.write_text("".join(f"{json.dumps(line)}\n" for line in lines) + '{"step": 5, "lo')
    found = run_folder.curves(tmp_path)
    assert list(found) == ["loss", "accuracy", "images_per_second"]
    assert found["loss"] == ([0, 1, 2, 3, 4], [9, 8, 7, 6, 5])
    log.write_text(log.read_text() + '[1]\n{"step": 6, "loss": NaN}\n\xff\n')
    assert len(run_folder.curves(tmp_path)["loss"][0]) in (5, 6)
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "notes.txt").write_text("none of it")
    for step in (10, 5):
        Image.new("RGB", (9, 9), (step, 0, 0)).save(folder / f"step_{step:07d}.png")
    newest, count = run_folder.view(tmp_path)
    older, _ = run_folder.view(tmp_path, back=1)
    assert count == 2 and newest.count("<svg") == 3
    assert pixels(images(newest)[0])[0, 0, 0] == 10 and pixels(images(older)[0])[0, 0, 0] == 5
    assert run_folder.view(tmp_path, back=99)[0] == older


def test_a_photograph_is_not_kept_at_its_full_size(tmp_path):
    path = tmp_path / "large.png"
    Image.new("RGB", (3000, 2000), "red").save(path)
    ((found,), problems) = pictures.read([str(path)], 8, "centre")
    assert found.square.shape == (8, 8, 3) and not problems
    assert read_picture(path).shape == (2000, 3000, 3)


def test_a_picture_has_a_most_of_pixels(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "MOST_PIXELS", 1_000_000)
    path = tmp_path / "large.png"
    Image.new("RGB", (3000, 2000)).save(path)
    found, (problem,) = pictures.read([str(path)], 8, "stretch")
    assert not found and problem == (
        "large.png has 6 million pixels, and 1 million are the most here."
    )
