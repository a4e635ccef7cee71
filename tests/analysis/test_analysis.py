"""Statistics of three tiny pictures that a pencil can check, and the page made of them."""

import base64
import html.parser
import io
import json
import pathlib
import re

import numpy as np
import pytest
from PIL import Image

from drc_jax.analysis import plots, report, statistics
from drc_jax.data.packed.format import Record, open_split
from drc_jax.data.packed.writing import write_split
from drc_jax.errors import UserError
from tests.helpers.starting import start

ROOT = pathlib.Path(__file__).resolve().parents[2]

# Foreground: the left half, the top row, the left column of 4x4 pixels.
MASKS = np.zeros((3, 4, 4), np.uint8)
MASKS[0, :, :2] = MASKS[1, 0] = MASKS[2, :, 0] = 1
FOREGROUND = np.array([[0, 100, 200], [4, 100, 200], [255, 100, 200]], np.uint8)
BACKGROUND = np.array([3, 100, 10], np.uint8)
IMAGES = np.where(MASKS[..., None] == 1, FOREGROUND[:, None, None], BACKGROUND).astype(np.uint8)
LARGE = (IMAGES.repeat(2, 1).repeat(2, 2), MASKS.repeat(2, 1).repeat(2, 2))


def make(root, split="train", images=IMAGES, masks=MASKS):
    records = [
        Record(image, None if masks is None else masks[i], f"image {i}")
        for i, image in enumerate(images)
    ]
    write_split(
        root,
        split,
        records,
        image_size=images.shape[1],
        has_masks=masks is not None,
        source={"kind": "made up"},
    )
    return open_split(root, split)


def test_histograms(tmp_path):
    found = statistics.analyse(make(tmp_path))
    foreground, background = np.zeros((2, 3, 64))
    # 8, 4 and 4 of 16 foreground pixels; all 32 of the background have one colour.
    foreground[0, [0, 1, 63]] = 8 / 16, 4 / 16, 4 / 16
    foreground[1, 25] = foreground[2, 50] = 1
    background[0, 0] = background[1, 25] = background[2, 2] = 1
    np.testing.assert_array_equal(found.foreground, foreground)
    np.testing.assert_array_equal(found.background, background)
    # Red has half in common, green everything, blue nothing.
    assert found.colour_overlap == pytest.approx((0.5 + 1 + 0) / 3)
    assert statistics.intersection(foreground, foreground) == 1


def test_heat_map_and_shares(tmp_path):
    found = statistics.analyse(make(tmp_path))
    expected = np.array([[3, 2, 1, 1], *3 * [[2, 1, 0, 0]]]) / 3
    np.testing.assert_allclose(found.heat_map, expected)
    np.testing.assert_array_equal(found.shares, [0.5, 0.25, 0.25])
    histogram = np.zeros(20)
    histogram[[5, 10]] = 2 / 3, 1 / 3
    np.testing.assert_allclose(found.share_histogram(), histogram)


def test_floors_from_own_masks(tmp_path):
    found = statistics.analyse(make(tmp_path))
    # Dice of all foreground is 2 s / (1 + s) at a share of s.
    everything = found.floors["all_foreground"]
    assert everything.iou == pytest.approx(1 / 3)
    assert everything.dice == pytest.approx((2 / 3 + 0.4 + 0.4) / 3)
    # In most masks: the left column and the pixel right of its top, five in all.
    constant = found.floors["mean_mask"]
    assert constant.iou == pytest.approx((5 / 8 + 2 / 7 + 4 / 5) / 3)
    assert constant.dice == pytest.approx((10 / 13 + 4 / 9 + 8 / 9) / 3)
    assert found.mean_mask_split == "train"


def test_floor_of_another_split_takes_the_training_masks(tmp_path):
    make(tmp_path, "train", IMAGES[1:2], MASKS[1:2])
    make(tmp_path, "test")
    (found,) = statistics.analyse_folders([tmp_path], "test").values()
    # The top row against the left half, itself and the left column.
    assert found.floors["mean_mask"].iou == pytest.approx((2 / 10 + 1 + 1 / 7) / 3)
    assert (found.split, found.mean_mask_split) == ("test", "train")
    np.testing.assert_allclose(found.heat_map[0], [1, 2 / 3, 1 / 3, 1 / 3])


def test_a_training_split_without_masks_is_no_reference(tmp_path):
    make(tmp_path, "train", masks=None)
    make(tmp_path, "test")
    (found,) = statistics.analyse_folders([tmp_path], "test").values()
    assert found.mean_mask_split == "test"


def test_pieces_do_not_change_the_numbers(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (11, 8, 8, 3), np.uint8)
    masks = rng.integers(0, 2, (11, 8, 8), np.uint8)
    split = make(tmp_path, images=images, masks=masks)
    whole, sizes = statistics.analyse(split), []
    monkeypatch.setattr(statistics, "_PIECE_PIXELS", 4 * 64)
    parts = statistics.analyse(split, progress=sizes.append)
    assert sizes == [4, 4, 3]
    assert report.to_json({"a": parts}) == report.to_json({"a": whole})
    # Against NumPy's own histogram of the selected pixels.
    for histograms, selected in ((whole.foreground, masks == 1), (whole.background, masks == 0)):
        for channel in range(3):
            counts, _ = np.histogram(images[selected][:, channel], 64, (0, 256))
            np.testing.assert_allclose(histograms[channel], counts / selected.sum())


def test_mistakes_are_named(tmp_path):
    make(tmp_path / "bare", masks=None)
    make(tmp_path / "good")
    make(tmp_path / "empty", masks=np.zeros_like(MASKS))
    make(tmp_path / "full", masks=np.ones_like(MASKS))
    large = make(tmp_path / "large", "train", *LARGE)
    for folders, message in (
        (["good", "bare"], r"bare/train has no masks"),
        (["good", "good/../good"], r"given more than once"),
        (["none"], r"no packed data set"),
        (["empty"], r"all masks of .*empty/train are empty"),
        (["full"], r"all masks of .*full/train are full"),
    ):
        with pytest.raises(UserError, match=message):
            statistics.analyse_folders([tmp_path / folder for folder in folders], "train")
    with pytest.raises(UserError, match=r"large/train has masks of \[8, 8\] but .* \[4, 4\]"):
        statistics.analyse(open_split(tmp_path / "good", "train"), large)


def test_sets_of_the_same_name_keep_apart(tmp_path):
    make(tmp_path / "a" / "birds")
    make(tmp_path / "b" / "birds")
    paths = [tmp_path / "a" / "birds", tmp_path / "b" / "birds"]
    assert list(statistics.analyse_folders(paths, "train")) == [str(path) for path in paths]


def test_white_backdrops_do_not_flatten_the_plot(tmp_path):
    images = np.full((1, 4, 4, 3), 255, np.uint8)
    images[0, :, 0], images[0, 0, 0] = 60, 90
    found = statistics.analyse(make(tmp_path, images=images, masks=MASKS[2:]))
    assert plots.colour_top(found) == pytest.approx(1.15 * 0.75)
    images = np.where(MASKS[2:, ..., None] == 1, 255, 0).astype(np.uint8).repeat(3, -1)
    found = statistics.analyse(make(tmp_path / "white", images=images, masks=MASKS[2:]))
    assert plots.colour_top(found) == pytest.approx(1.15)


class Tags(html.parser.HTMLParser):
    """Collects headings, cells, pictures and what is left open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.cells: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag == "img":
            self.sources.append(dict(attrs)["src"])
        elif tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "td":
            self.cells.append(data)


@pytest.mark.parametrize("num_sets", [1, 2])
def test_page_stands_alone(tmp_path, num_sets):
    make(tmp_path / "<b>$x_1$")
    make(tmp_path / "large", "train", *LARGE)
    folders = [tmp_path / "<b>$x_1$", tmp_path / "large"][:num_sets]
    results = statistics.analyse_folders(folders, "train")
    folder = tmp_path / "out"
    folder.mkdir()
    report.write(results, folder)
    assert sorted(path.name for path in folder.iterdir()) == ["analysis.html", "analysis.json"]

    text = (folder / report.HTML).read_text(encoding="utf-8")
    tags = Tags()
    tags.feed(text)
    assert tags.open == [] and "<link" not in text and "<script" not in text
    assert {"<b>$x_1$", "33.3 / 48.9", "57.0 / 70.1 (train)", "50.0 %"} <= set(tags.cells)
    assert len(tags.sources) == 4 * num_sets
    for source in tags.sources:
        (data,) = re.fullmatch(r"data:image/png;base64,(\S+)", source).groups()
        picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
        assert picture.shape[0] > 200 and picture.std() > 10
    assert ("compared between data sets" in text) == (num_sets == 2)

    numbers = json.loads((folder / report.JSON).read_text(encoding="utf-8"))
    found = numbers["sets"]["<b>$x_1$"]
    assert found["foreground_share"]["mean"] == pytest.approx(1 / 3)
    assert found["foreground_share"]["percentiles"]["50"] == 0.25
    assert found["histograms"]["foreground"]["red"][:2] == [0.5, 0.25]
    assert found["heat_map"][0] == [1, 0.6667, 0.3333, 0.3333]
    # Enlarged fourfold the second set has the same colours as the first.
    np.testing.assert_allclose(numbers["colour_intersection"]["foreground"], 1.0)
    assert np.shape(numbers["colour_intersection"]["background"]) == (num_sets, num_sets)


def test_program(tmp_path):
    make(tmp_path / "data")
    done = start("analyse", f"--data={tmp_path / 'data'}", f"--output={tmp_path / 'out'}")
    assert done.returncode == 0, done.stderr
    assert "33.3 / 48.9" in done.stdout
    assert (tmp_path / "out" / "analysis.html").is_file()
