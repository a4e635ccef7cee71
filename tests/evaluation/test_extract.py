"""Extraction: files of every size and kind, names and failures."""

import contextlib
import pathlib
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from drc_jax.data.pictures.decode import EXTENSIONS, read_mask, read_picture
from drc_jax.data.pictures.files import Problem, list_files, output_stems
from drc_jax.errors import UserError
from drc_jax.evaluation.cutouts import from_square, to_square
from drc_jax.evaluation.extract import extract, write_failures
from drc_jax.evaluation.regions import block_size
from tests.helpers import hostile
from tests.helpers.halves import half_red, opened

SIDE = 8
ENDINGS = (".png", ".webp", ".jpg")


def red_is_foreground(images):
    """In the place of a model: pi_f is the red channel, the background is all blue."""
    pi_f = images[..., 0].astype(np.float32) / 255
    blue = np.broadcast_to(np.float32([-1, -1, 1]), images.shape)
    return SimpleNamespace(
        pi=np.stack([pi_f, 1 - pi_f], axis=1),
        images=np.stack([blue, blue], axis=1),
        reconstruction=blue,
        foreground_weight=pi_f,
    )


def run(source, output, **options):
    settings = dict(image_size=SIDE) | options
    result = extract(red_is_foreground, source, output, **settings)
    write_failures(result, output)
    return result


def test_the_files_of_a_picture(tmp_path):
    photo = half_red(32, 16)
    photo[..., 1] = np.arange(16)[:, None] * 10  # details that the model does not see
    Image.fromarray(photo).save(tmp_path / "a.png")
    result = run(tmp_path / "a.png", tmp_path / "out")
    assert (result.num_done, result.failed, result.ignored) == (1, [], [])
    out = tmp_path / "out"
    mode, mask = opened(out / "masks/a.png")
    assert mode == "L" and set(np.unique(mask)) == {0, 255}
    np.testing.assert_array_equal(mask == 255, photo[..., 0] == 255)
    mode, cut_out = opened(out / "cutouts/a.png")
    assert mode == "RGBA"
    np.testing.assert_array_equal(cut_out[..., :3], photo)
    alpha = cut_out[..., 3].astype(int)
    assert (alpha[:, :8] == 255).all() and (alpha[:, 24:] == 0).all()
    assert ((0 < alpha[:, 14:18]) & (alpha[:, 14:18] < 255)).all()  # soft between
    mode, background = opened(out / "backgrounds/a.png")
    assert mode == "RGB"
    assert (background[mask == 255] == (0, 0, 255)).all()  # generated where the object was
    np.testing.assert_array_equal(background[:, 24:], photo[:, 24:])  # the picture elsewhere
    mode, row = opened(out / "side_by_side/a.jpg")
    assert mode == "RGB" and row.shape[1] > 4 * 32
    assert not (out / "failed.txt").exists()


def test_soft_masks_and_webp(tmp_path):
    Image.fromarray(half_red(32, 16)).save(tmp_path / "a.png")
    run(tmp_path / "a.png", tmp_path / "out", soft=True, file_format="webp")
    _, mask = opened(tmp_path / "out/masks/a.webp")
    mode, cut_out = opened(tmp_path / "out/cutouts/a.webp")
    assert mode == "RGBA" and len(np.unique(mask)) > 2
    np.testing.assert_array_equal(mask[..., 0] if mask.ndim == 3 else mask, cut_out[..., 3])
    np.testing.assert_array_equal(cut_out[..., :3], half_red(32, 16))


def test_every_slot_of_a_slot_method_is_cut_out(tmp_path):
    """Slot 1 is red, slot 2 the rest of the upper half, slot 3 the rest."""
    photo = half_red(32, 16)
    Image.fromarray(photo).save(tmp_path / "a.png")

    def infer_batch(images):
        red = images[..., 0].astype(np.float32) / 255
        upper = np.where(np.arange(SIDE)[:, None] < SIDE // 2, np.float32(1), np.float32(0)) - red
        upper = np.maximum(upper, 0)
        pi = np.stack([red, upper, 1 - red - upper], axis=1)
        painted = np.zeros((*pi.shape, 3), np.float32)
        return SimpleNamespace(
            pi=pi, images=painted, reconstruction=painted[:, 0], foreground_weight=None
        )

    out = tmp_path / "out"
    result = extract(infer_batch, tmp_path / "a.png", out, image_size=SIDE)
    assert result.num_done == 1 and not result.failed
    assert {path.name for path in out.iterdir()} == {"masks", "cutouts", "side_by_side"}
    masks = [opened(out / f"masks/slot_{k}/a.png")[1] == 255 for k in (1, 2, 3)]
    np.testing.assert_array_equal(masks[0], photo[..., 0] == 255)
    assert (np.sum(masks, axis=0)[2:-2, 2:-2] <= 1).all() and np.sum(masks) > 0.9 * masks[0].size
    assert masks[1][:6, 20:].all() and masks[2][10:, 20:].all()
    mode, cut_out = opened(out / "cutouts/slot_1/a.png")
    assert mode == "RGBA" and (cut_out[:, :8, 3] == 255).all() and (cut_out[:, 24:, 3] == 0).all()
    np.testing.assert_array_equal(cut_out[..., :3], photo)
    row = opened(out / "side_by_side/a.jpg")[1]
    assert row.shape[1] > 5 * 32


def test_every_object_of_several_slots_is_cut_out(tmp_path):
    """Of three slots the first has a row on the left, the second nothing, the third the rest."""
    photo = half_red(32, 16)
    Image.fromarray(photo).save(tmp_path / "a.png")

    def infer_batch(images):
        found = red_is_foreground(images)
        first = np.where(np.arange(SIDE)[:, None] < 1, found.foreground_weight, np.float32(0))
        slots = [first, np.zeros_like(first), found.foreground_weight - first]
        pi = np.stack([*slots, found.pi[:, 1]], axis=1)
        images = np.repeat(found.images[:, -1:], 4, axis=1)
        return SimpleNamespace(**{**vars(found), "pi": pi, "images": images})

    result = extract(infer_batch, tmp_path / "a.png", tmp_path / "out", image_size=SIDE)
    assert result.num_done == 1 and not result.failed
    out = tmp_path / "out"
    # The largest first, and none for what holds no pixel.
    assert {path.name for path in (out / "objects").iterdir()} == {"1", "2"}
    alphas = []
    for k in (1, 2):
        mode, cut_out = opened(out / f"objects/{k}/a.png")
        assert mode == "RGBA"
        np.testing.assert_array_equal(cut_out[..., :3], photo)
        alphas.append(cut_out[..., 3].astype(int))
    rest, row = alphas
    assert (rest[4:, :8] == 255).all() and (row[:1, :8] == 255).all()
    assert (rest[:1] == 0).all() and (row[4:] == 0).all()
    _, whole = opened(out / "cutouts/a.png")  # of all objects
    np.testing.assert_allclose(rest + row, whole[..., 3], atol=1)


@pytest.mark.parametrize("crop", ["stretch", "centre", "letterbox"])
@pytest.mark.parametrize("size", [(8, 8), (48, 16), (16, 48), (4, 4), (33, 21)])
def test_a_mask_lies_where_its_object_is(tmp_path, crop, size):
    width, height = size
    photo = half_red(width, height, vertical=width < height)
    Image.fromarray(photo).save(tmp_path / "a.png")
    run(tmp_path / "a.png", tmp_path / "out", crop=crop)
    mask = read_mask(tmp_path / "out/masks/a.png")
    expected = photo[..., 0] > 127
    if crop == "centre" and width != height:
        margin, side = abs(width - height) // 2, min(size)
        seen = np.zeros_like(expected)
        part = (slice(margin, margin + side), slice(None))
        seen[part if height > width else part[::-1]] = True
        expected &= seen
    # Only pixels on the edge of the halves may differ, by how coarse the model sees.
    assert mask.shape == expected.shape
    assert np.mean(mask != expected) <= 0.08


def test_to_and_from_square_are_inverse():
    smooth = np.linspace(0, 255, 64, dtype=np.uint8)
    photo = np.stack(np.broadcast_arrays(smooth[None, :], smooth[:40, None], np.uint8(9)), axis=2)
    for crop in ("stretch", "letterbox"):
        square = Image.fromarray(to_square(photo, 32, crop))
        back = np.asarray(from_square(square, 64, 40, crop)).astype(int)
        assert np.abs(back - photo)[2:-2, 2:-2].max() <= 6, crop
    square = Image.fromarray(to_square(photo, 40, "centre"))
    back = np.asarray(from_square(square, 64, 40, "centre"))
    np.testing.assert_array_equal(back[:, 12:52], photo[:, 12:52])
    assert not back[:, :12].any() and not back[:, 52:].any()


def test_a_hostile_folder(tmp_path):
    photos, out = tmp_path / "photos", tmp_path / "photos/out"
    photos.mkdir()
    what = hostile.write(photos)
    shapes = set()

    def infer_batch(images):
        shapes.add(images.shape)
        return red_is_foreground(images)

    seen = []
    options = dict(image_size=SIDE, progress=lambda *counts: seen.append(counts))
    result = extract(infer_batch, photos, out, **options)
    write_failures(result, out)
    assert shapes == {(block_size(), SIDE, SIDE, 3)}
    assert [problem.name for problem in result.failed] == what.damaged
    assert [problem.name for problem in result.ignored] == what.ignored
    good = sorted(what.good + what.duplicates)
    assert result.num_done == len(good)
    for kind in ("masks", "cutouts", "backgrounds", "side_by_side"):
        assert sum(path.is_file() for path in (out / kind).rglob("*")) == len(good), kind
    assert len((out / "failed.txt").read_text().splitlines()) == len(what.damaged)
    assert seen[-1][1] == len(good) + len(what.damaged) + len(what.ignored) - 4  # not entered: 4
    with Image.open(photos / "turned/6.jpg") as stored:
        assert opened(out / "masks/turned/6.jpg.png")[1].shape == stored.size  # turned


@pytest.mark.parametrize("in_memory", [2**28, 1000])
def test_every_picture_is_decoded_once(tmp_path, monkeypatch, in_memory):
    monkeypatch.setattr("drc_jax.evaluation.extract._PHOTOS_IN_MEMORY", in_memory)
    (tmp_path / "photos").mkdir()
    photos = {f"{i}.png": half_red(20 + i, 31 - i) for i in range(10)}
    for name, photo in photos.items():
        Image.fromarray(photo).save(tmp_path / "photos" / name)
    decoded = []
    read = read_picture

    def counted(path):
        decoded.append(pathlib.Path(path).name)
        return read(path)

    monkeypatch.setattr("drc_jax.data.pictures.decode.read_picture", counted)
    assert run(tmp_path / "photos", tmp_path / "out").num_done == 10
    assert sorted(decoded) == sorted(photos)
    for name, photo in photos.items():
        np.testing.assert_array_equal(opened(tmp_path / "out/cutouts" / name)[1][..., :3], photo)


def test_a_full_disk_fails_picture_by_picture(tmp_path, file_size_limit):
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    for i in range(3):
        Image.fromarray(half_red(64, 64)).save(photos / f"{i}.png")
    with contextlib.ExitStack() as full:

        def infer_batch(images):
            full.enter_context(file_size_limit(50))  # after the check at the start
            return red_is_foreground(images)

        result = extract(infer_batch, photos, out, image_size=SIDE)
        assert result.num_done == 0
        assert all("File too large" in problem.reason for problem in result.failed)
        with pytest.raises(UserError, match=r"cannot write .*failed.txt: File too large"):
            write_failures(result, out)
        with pytest.raises(UserError, match=r"cannot write cut-outs to .*File too large"):
            extract(infer_batch, photos, out, image_size=SIDE)
    write_failures(result, out)
    assert len((out / "failed.txt").read_text().splitlines()) == 3


def test_a_closed_sub_folder_is_a_failure(tmp_path, monkeypatch):
    (tmp_path / "photos").mkdir()
    Image.fromarray(half_red(20, 16)).save(tmp_path / "photos/a.jpg")

    def listed(*arguments):
        return list_files(*arguments)._replace(closed=[Problem("sub", "cannot be entered")])

    monkeypatch.setattr("drc_jax.evaluation.extract.list_files", listed)
    steps: list[tuple[int, int]] = []
    result = run(tmp_path / "photos", tmp_path / "out", progress=lambda *step: steps.append(step))
    assert result == (1, [Problem("sub", "cannot be entered")], []) and steps == [(0, 1), (1, 1)]
    assert (tmp_path / "out/failed.txt").read_text() == "sub: cannot be entered\n"


def test_what_the_inference_or_the_disk_fails_at_is_named(tmp_path):
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    for name in "abc":
        Image.fromarray(half_red(16, 16)).save(photos / f"{name}.png")
    (out / "masks/b.png").mkdir(parents=True)

    def infer_batch(images):
        regions = red_is_foreground(images)
        regions.foreground_weight[0] = np.nan
        return regions

    result = extract(infer_batch, photos, out, image_size=SIDE)
    assert result.num_done == 1 and (out / "masks/c.png").is_file()
    reasons = dict(result.failed)
    assert "not finite" in reasons["a.png"] and "cannot be written" in reasons["b.png"]
    (out / "masks/b.png").rmdir()
    assert run(photos, out).num_done == 3 and not (out / "failed.txt").exists()


@pytest.mark.parametrize(
    ("source", "output", "words"),
    [
        ("nowhere", "out", "no picture or folder"),
        ("empty", "out", "no files in"),
        ("photos", "photos", "the folder of the pictures"),
        ("photos", "photos/a.png", "cannot write cut-outs to"),
        ("photos", "taken", "cannot replace .*failed.txt: Is a directory"),
    ],
)
def test_useless_folders(tmp_path, source, output, words):
    (tmp_path / "empty").mkdir()
    (tmp_path / "photos").mkdir()
    (tmp_path / "taken/failed.txt").mkdir(parents=True)
    Image.fromarray(half_red(16, 16)).save(tmp_path / "photos/a.png")
    with pytest.raises(UserError, match=words):
        run(tmp_path / source, tmp_path / output)


def test_output_names_never_meet():
    names = ["a.jpg", "a.png", "A.JPEG", "b.jpg", "b.txt", "b", "c.jpg", "c.png/d.jpg", "a.jpg.png",
             "sub/a.jpg", "\u00e9.jpg", "e\u0301.png", "x" * 251 + ".jpg", "x" * 250 + "y.jpg",
             "犬" * 80 + ".jpg", "x.y.z.jpg"]  # fmt: skip
    stems = output_stems(names, EXTENSIONS, ENDINGS)
    assert stems["sub/a.jpg"] == "sub/a" and stems["x.y.z.jpg"] == "x.y.z"
    assert stems["b.jpg"] == "b" and stems["b.txt"] == "b.txt"  # a caption changes no names
    assert stems["a.jpg"] == "a.jpg" and stems["A.JPEG"] == "A.JPEG"
    assert stems["c.jpg"] != "c"  # c.png is a folder
    paths = [stem + ".png" for stem in stems.values()]
    assert len({path.casefold() for path in paths}) == len(names)
    assert all(len(path.encode()) <= 210 for path in paths)
    assert output_stems(names[::-1], EXTENSIONS, ENDINGS) == stems
