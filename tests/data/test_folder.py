"""Folders of photographs: hostile files, crops, boxes, masks, the division and the report."""

import json
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from drc_jax.data import folder
from drc_jax.data.packed.format import open_split, splits
from drc_jax.data.pictures import boxes, crops
from drc_jax.data.pictures.files import Problem, list_files, printable
from drc_jax.data.prepare import prepare
from drc_jax.errors import UserError
from tests.helpers import hostile


def report(root):
    return json.loads((root / "report.json").read_text(encoding="utf-8"))


def examples(root):
    """Name to image and mask, over all splits."""
    found = {}
    for split in (open_split(root, name) for name in splits(root)):
        for i, name in enumerate(split.names):
            assert name not in found
            found[name] = (split.images[i], None if split.masks is None else split.masks[i])
    return found


def test_a_hostile_folder(tmp_path, capsys):
    photos, root = tmp_path / "photos", tmp_path / "packed"
    photos.mkdir()
    what = hostile.write(photos)
    assert sum(map(len, what)) >= 300
    with pytest.raises(UserError, match=r"cannot be used, more than the share max_damaged 0.1"):
        prepare("folder", root, source=str(photos), size=8)
    assert splits(root) == [] and len(report(root)["damaged"]) == len(what.damaged)

    prepare("folder", root, source=str(photos), size=8, max_damaged=0.5)
    found = report(root)
    assert sorted(examples(root)) == sorted(map(printable, what.good))
    assert found["kept"] == len(what.good)
    for kind in ("damaged", "duplicates", "ignored"):
        assert sorted(found[kind]) == sorted(map(printable, getattr(what, kind))), kind
    assert all(reason and "\n" not in reason for reason in found["damaged"].values())
    assert "shows the same as modes/PNG_RGB_17.png" in found["duplicates"]["zz/link.png"]
    assert f"{len(what.good)} pictures kept" in capsys.readouterr().out


def save(folder, name, array):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


@pytest.fixture
def photos(tmp_path):
    """Five pictures of 40x30 in two folders, all with masks, as arrays by name."""
    rng = np.random.default_rng(0)
    images = {
        name: rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)
        for name in ("a.png", "b.png", "sub/a.png", "sub/c.bmp", "sub/d.png")
    }
    for name, image in images.items():
        save(tmp_path / "photos", name, image)
        save(
            tmp_path / "masks", name.replace(".bmp", ".png"), (image[..., 0] > 127) * np.uint8(255)
        )
    return images


@pytest.mark.parametrize("crop", ["centre", "letterbox", "boxes"])
def test_pictures_and_masks_are_cropped_alike(tmp_path, photos, crop):
    options = {"crop": crop}
    box = (30.0, 10.0, 50.0, 20.0)
    if crop == "boxes":
        lines = [f"{name},30,10,50,20\n" for name in photos]
        (tmp_path / "boxes.csv").write_text("name,xmin,ymin,xmax,ymax\n" + "".join(lines))
        options = {"boxes": str(tmp_path / "boxes.csv")}
    prepare(
        "folder",
        tmp_path / "packed",
        source=str(tmp_path / "photos"),
        masks=str(tmp_path / "masks"),
        size=16,
        **options,
    )
    found = examples(tmp_path / "packed")
    assert sorted(found) == sorted(photos)
    for name, image in photos.items():
        mask = (image[..., 0] > 127).astype(np.uint8)
        expected = {
            "centre": lambda m=mask, i=image: (
                crops.centre_crop(i, 16),
                crops.centre_crop_mask(m, 16),
            ),
            "letterbox": lambda m=mask, i=image: (
                crops.letterbox(i, 16),
                crops.letterbox_mask(m, 16),
            ),
            "boxes": lambda m=mask, i=image: (
                crops.square_crop(i, box, 16),
                crops.square_crop_mask(m, box, 16),
            ),
        }[crop]()
        np.testing.assert_array_equal(found[name][0], expected[0])
        np.testing.assert_array_equal(found[name][1], expected[1])


def test_pictures_without_a_usable_mask_or_box_are_named(tmp_path, photos):
    masks = tmp_path / "masks"
    (masks / "a.png").unlink()
    save(masks, "b.png", np.zeros((40, 30), np.uint8))
    (masks / "sub/a.png").write_bytes(b"")
    save(masks, "sub/c.gif", np.zeros((30, 40), np.uint8))
    (masks / "sub/d.xml").write_text("annotations beside the mask do no harm")
    (tmp_path / "boxes.csv").write_text("sub/d.png,0,0,10,10\nsub/e.png,0,0,1,1\na.png,90,0,95,5\n")
    root = tmp_path / "packed"
    common = dict(source=str(tmp_path / "photos"), size=8, max_damaged=0.9)
    prepare("folder", root, masks=str(masks), **common)
    assert report(root)["damaged"] == {
        "a.png": "has no mask a.*",
        "b.png": "has a mask of 30x40 pixels, but is 40x30",
        "sub/a.png": "has a mask, a.png, that is empty (0 bytes)",
        "sub/c.bmp": "has several masks: sub/c.gif, sub/c.png",
    }
    assert list(examples(root)) == ["sub/d.png"]

    prepare("folder", root, boxes=str(tmp_path / "boxes.csv"), overwrite=True, **common)
    assert report(root)["damaged"] == {
        "a.png": "cannot be cropped: the box (90, 0, 95, 5) lies outside the 40x30 picture",
        **dict.fromkeys(["b.png", "sub/a.png", "sub/c.bmp"], "has no box"),
    }
    assert report(root)["ignored"] == {"sub/e.png": "has a box, but no picture"}


def test_a_closed_sub_folder_counts_as_damage(tmp_path, photos, monkeypatch, capsys):
    def listed(*arguments):
        return list_files(*arguments)._replace(closed=[Problem("sub/x", "cannot be entered")])

    monkeypatch.setattr(folder, "list_files", listed)
    options = dict(source=str(tmp_path / "photos"), size=8)
    with pytest.raises(UserError, match="1 of 6 pictures cannot be used"):
        prepare("folder", tmp_path / "packed", **options)
    assert "damaged: sub/x cannot be entered" in capsys.readouterr().out
    prepare("folder", tmp_path / "packed", max_damaged=0.2, **options)
    assert report(tmp_path / "packed")["damaged"] == {"sub/x": "cannot be entered"}


def test_masks_and_output_inside_the_folder_are_no_pictures(tmp_path, photos):
    root = tmp_path / "packed"
    options = dict(source=str(tmp_path), masks=str(tmp_path / "photos"), size=8)
    (tmp_path / "photos/masks").mkdir()
    for name in photos:
        target = tmp_path / "photos/masks" / name
        target.parent.mkdir(exist_ok=True)
        (tmp_path / "photos" / name).rename(target)
    prepare("folder", root, **options)
    assert sorted(examples(root)) == sorted(
        f"masks/{name.replace('.bmp', '.png')}" for name in photos
    )
    before = open_split(root, "train").info
    prepare("folder", root, **options)  # nothing to do: the output is not read as pictures
    assert open_split(root, "train").info == before and report(root)["ignored"] == {}


def test_division_and_resuming(tmp_path):
    for i in range(20):
        save(tmp_path / "photos", f"{i:02d}.png", np.full((9, 9, 3), i, np.uint8))
    options = dict(source=str(tmp_path / "photos"), size=8, test_fraction=0.25)
    prepare("folder", tmp_path / "a", **options)
    prepare("folder", tmp_path / "b", **options, seed=1)
    test = {name: open_split(tmp_path / name, "test") for name in "ab"}
    assert len(test["a"]) == 5 and test["a"].names != test["b"].names
    assert test["a"].names == sorted(test["a"].names) and len(examples(tmp_path / "a")) == 20
    for name, (image, mask) in examples(tmp_path / "a").items():
        assert (image == int(name[:2])).all() and mask is None

    # One split of two is there, as after a kill.
    for path in (tmp_path / "a/test").iterdir():
        path.unlink()
    (tmp_path / "a/test").rmdir()
    prepare("folder", tmp_path / "a", **options)
    assert open_split(tmp_path / "a", "test").info == test["a"].info
    with pytest.raises(UserError, match="was made with seed 0 instead of 1"):
        prepare("folder", tmp_path / "a", **options, seed=1)
    save(tmp_path / "photos", "99.png", np.full((9, 9, 3), 99, np.uint8))
    with pytest.raises(UserError, match=r"was made from other files \(pictures differ\)"):
        prepare("folder", tmp_path / "a", **options)
    prepare("folder", tmp_path / "a", **options, overwrite=True)
    assert len(examples(tmp_path / "a")) == 21


def test_memory_does_not_grow_with_the_number_of_pictures(tmp_path):
    for i in range(40):
        save(tmp_path / "photos", f"{i:02d}.bmp", np.full((4, 4, 3), i, np.uint8))
    tracemalloc.start()
    try:
        prepare("folder", tmp_path / "packed", source=str(tmp_path / "photos"), size=256)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10 * 256 * 256 * 3  # of 40 images


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"source": "nowhere"}, "--source=nowhere is not a folder"),
        ({"masks": "nowhere"}, "--masks=nowhere is not a folder"),
        ({"masks": "{photos}"}, "folder of the pictures"),
        ({"crop": "round"}, "crop must be one of centre, boxes, letterbox; got 'round'"),
        ({"crop": "boxes"}, "crop 'boxes' and boxes None do not fit"),
        ({"crop": "centre", "boxes": "b.csv"}, "crop 'centre' and boxes 'b.csv' do not fit"),
        ({"boxes": "nowhere.csv"}, "cannot read --boxes=nowhere.csv: No such file"),
        ({"size": 0}, "size must be at least 1"),
        ({"test_fraction": 1.5}, "test_fraction must be from 0 to 1"),
        ({"max_damaged": -0.1}, "max_damaged must be from 0 to 1"),
    ],
)
def test_useless_arguments(tmp_path, options, words):
    (tmp_path / "photos").mkdir()
    options = {k: v.format(photos=tmp_path / "photos") if isinstance(v, str) else v
               for k, v in options.items()}  # fmt: skip
    with pytest.raises(UserError, match=words):
        prepare("folder", tmp_path / "out", **{"source": str(tmp_path / "photos"), **options})
    assert not (tmp_path / "out").exists()


def test_a_folder_without_pictures(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/notes.txt").write_text("words")
    with pytest.raises(UserError, match="there are no pictures"):
        prepare("folder", tmp_path / "out", source=str(tmp_path / "photos"))
    assert report(tmp_path / "out")["ignored"] == {"notes.txt": "is not a picture"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has no lines"),
        ("name,xmin,ymin,xmax,ymax\n", "has no lines"),
        ("a.jpg,1,2,3\n", r"line 1 of .* must be name,xmin,ymin,xmax,ymax"),
        ("a.jpg,1,2,3,4\nb.jpg,1,2,x,4\n", r"line 2 of .* four finite numbers"),
        ("a.jpg,1,2,1,4\n", "xmin < xmax"),
        ("a.jpg,1,2,nan,4\n", "finite"),
        ("a.jpg,1,2,3,4\na.jpg,1,2,3,5\n", "second box for 'a.jpg'"),
    ],
)
def test_boxes_of_no_use(tmp_path, text, words):
    (tmp_path / "boxes.csv").write_text(text)
    with pytest.raises(UserError, match=words):
        boxes.load(tmp_path / "boxes.csv")


def test_boxes_as_spreadsheets_write_them(tmp_path):
    text = '\ufeffname,xmin,ymin,xmax,ymax\r\n"a, b.jpg", 1,2.5,3,4e1\r\n\r\n'
    (tmp_path / "boxes.csv").write_text(text, encoding="utf-8", newline="")
    assert boxes.load(tmp_path / "boxes.csv") == {"a, b.jpg": (1.0, 2.5, 3.0, 40.0)}
    (tmp_path / "latin.csv").write_bytes(b"\xe4.jpg,1,2,3,4\n")
    with pytest.raises(UserError, match="UTF-8"):
        boxes.load(tmp_path / "latin.csv")
