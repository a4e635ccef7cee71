"""Comparisons with made-up inference: groups, tables, figures, the page, and what goes wrong."""

import base64
import csv
import html.parser
import io
import json
import re
import types

import numpy as np
import pytest
from PIL import Image

from drc_jax.data.packed.format import PackedSplit, Record, open_split
from drc_jax.data.packed.writing import write_split
from drc_jax.errors import UserError
from drc_jax.evaluation import compare_figures, compare_page, compare_tables, mask_failures, metrics
from drc_jax.evaluation.compare import COLUMNS, Comparison, Entrant, Spread, compare

SIZE, COUNT = 8, 12
HOSTILE = '<script>alert("1")</script>|=1+1\n`x`'


@pytest.fixture(scope="module")
def masks() -> np.ndarray:
    """bool [N, S, S], rectangles of less than half of the image."""
    rng = np.random.default_rng(0)
    masks = np.zeros((COUNT, SIZE, SIZE), bool)
    for i in range(COUNT):
        top, left = rng.integers(0, 4, 2)
        masks[i, top : top + 4, left : left + 3] = True
    return masks


@pytest.fixture(scope="module")
def split(tmp_path_factory, masks) -> PackedSplit:
    """Images whose first pixel is their index."""
    root = tmp_path_factory.mktemp("data")
    records = []
    for i in range(COUNT):
        image = np.repeat(200 * masks[i][..., None].astype(np.uint8), 3, axis=2)
        image[0, 0, 0] = i
        records.append(Record(image, masks[i].astype(np.uint8), HOSTILE))
    write_split(root, "test", records, image_size=SIZE, has_masks=True, source={"kind": "made up"})
    return open_split(root, "test")


def entrant(predicted: np.ndarray, path: str, **fields) -> Entrant:
    """Finds the masks bool [N, S, S] by the index in each image's first pixel."""

    def infer_batch(images):
        weight = predicted[images[:, 0, 0, 0]].astype(np.float32)
        observed = images.astype(np.float32) / 127.5 - 1
        return types.SimpleNamespace(
            pi=np.stack([weight, 1 - weight], axis=1),
            images=np.stack([observed, observed], axis=1),
            reconstruction=observed,
            foreground_weight=None if fields.get("method") == "slots" else weight,
            outcomes=images[:, 0, 0, 0],
        )

    fields = {"method": "drc", "config": "a", "settings": {}, **fields}
    return Entrant(path=path, infer_batch=infer_batch, **fields)


@pytest.fixture(scope="module")
def found(split, masks) -> Comparison:
    shifted = np.roll(masks, 1, axis=2)
    return compare(
        [
            entrant(masks, "runs/drc_0", seed=0, num_parameters=1234567, training_seconds=100.0),
            entrant(~masks, "runs/redo", method="redo", column="set", figure="channels"),
            entrant(shifted, "runs/drc_1", seed=1, num_parameters=1234567, training_seconds=140.0),
            entrant(shifted, HOSTILE, config="b", changed=["sampler=<b>"]),
            entrant(~masks, "runs/slots", method="slots"),
            entrant(
                masks,
                "configs/grabcut.py",
                method="grabcut",
                figure="cut-outs",
                summary=lambda outcomes: f"the images {outcomes.tolist()}",
            ),
            entrant(np.full(masks.shape, np.nan), "runs/diverged", method="bad"),
        ],
        split,
        mean_train_mask=np.full((SIZE, SIZE), 0.4),
    )


def test_runs_that_differ_in_their_seed_are_one_group(found, masks):
    names = ["drc 1", "redo", "drc 2", "slots", "grabcut"]
    assert [group.name for group in found.groups] == names
    assert [len(group.results) for group in found.groups] == [2, 1, 1, 1, 1]
    ((path, why),) = found.failed
    assert path == "runs/diverged" and "not finite" in why
    shifted = metrics.iou(np.roll(masks, 1, axis=2), masks).mean()
    spread = found.groups[0].spread(lambda report: report.reported.iou)
    assert spread == pytest.approx(((1 + shifted) / 2, np.std([1, shifted], ddof=1)))
    assert found.groups[0].training_seconds == pytest.approx((120, np.std([100, 140], ddof=1)))
    assert found.groups[1].training_seconds is None
    assert Spread.of([3.0]) == (3.0, None)


def rows(table):
    heading, *others = table
    return {row[0]: dict(zip(heading, row, strict=True)) for row in others}


def test_the_table_of_means(found):
    table = rows(compare_tables.means(found))
    drc = table["drc 1"]
    assert re.fullmatch(r"\d\d\.\d ± \d\d\.\d / \d\d\.\d ± \d\d\.\d \*", drc["fixed"])
    assert drc["runs"] == "2"
    redo = table["redo"]
    assert (redo["fixed"], redo["best per set"]) == ("0.0 / 0.0", "100.0 / 100.0 *")
    slots = table["slots"]
    assert (slots["fixed"], slots["best per set"]) == ("-", "100.0 / 100.0 *")
    assert slots["best per image"] == "100.0 / 100.0"
    share = found.report.true_share
    assert table["all foreground (floor)"]["fixed"].startswith(f"{100 * share:.1f} / ")
    assert table["mean mask (floor)"]["fixed"] == "0.0 / 0.0"
    assert "FG-ARI" not in drc  # the data have no labels
    text = compare_tables.to_text(found).splitlines()
    assert len(text) == 9 + 6 + 1 and "± " in text[1]


def test_the_table_of_costs_and_the_remarks(found):
    table = rows(compare_tables.costs(found))
    assert list(table) == [group.name for group in found.groups]
    drc = table["drc 1"]
    assert (drc["parameters"], drc["training time"]) == ("1.23 M", "2 min 00 s")
    assert re.fullmatch(r"\S+ m?s", drc["inference of an image"])
    assert table["grabcut"]["training time"] == table["grabcut"]["parameters"] == "-"
    # Of the images alone, not of those that fill up the last block.
    remark = f"configs/grabcut.py: the images {list(range(COUNT))}."
    assert compare_tables.remarks(found) == [remark]
    assert compare_tables.to_text(found).endswith(remark)


def test_one_block_of_images_has_no_time(tmp_path, split, masks):
    records = [Record(split.images[i], masks[i].astype(np.uint8), str(i)) for i in range(8)]
    write_split(tmp_path, "test", records, image_size=SIZE, has_masks=True, source={"kind": "a"})
    found = compare([entrant(masks, "run")], open_split(tmp_path, "test"))
    assert found.groups[0].seconds_per_image is None
    assert rows(compare_tables.costs(found))["drc"]["inference of an image"] == "-"
    two = compare([entrant(masks, "run")], split).groups[0].seconds_per_image
    assert two.mean > 0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(3.14, "3.1 s"), (61, "1 min 01 s"), (7261, "2 h 01 min"), (360000, "100 h 00 min")],
)
def test_durations(seconds, text):
    assert compare_tables.duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.00123, "1.2 ms"), (0.0456, "46 ms"), (0.123, "0.12 s"), (2.5, "2.5 s")]
)
def test_short_times(seconds, text):
    assert compare_tables.milliseconds(seconds) == text


def test_csv_and_json_agree(found):
    lines = list(csv.DictReader(io.StringIO(compare_tables.to_csv(found))))
    values = json.loads(compare_tables.to_json(found))
    assert len(lines) == len(values["runs"]) == 6
    for line, run in zip(lines, values["runs"], strict=True):
        assert line["method"] == run["method"]
        assert line["seed"] == ("" if run["seed"] is None else str(run["seed"]))
        scores = run["report"]["scores"]
        if run["method"] != "slots":
            assert float(line["fixed_iou"]) == pytest.approx(scores["fixed"]["iou"], abs=1e-6)
        else:
            assert line["fixed_iou"] == "" and float(line["set_iou"]) == 1
        seconds = run["seconds_per_image"]
        assert float(line["seconds_per_image"]) == pytest.approx(seconds, abs=1e-5)
    assert values["runs"][5]["remark"].startswith("the images [0, 1")
    group = values["groups"][0]
    assert group["seeds"] == [0, 1] and group["runs"] == ["runs/drc_0", "runs/drc_1"]
    fixed = [float(line["fixed_iou"]) for line in lines if line["group"] == "drc 1"]
    assert group["scores"]["fixed"]["iou"]["mean"] == pytest.approx(np.mean(fixed), abs=1e-6)
    assert values["floors"]["mean_train_mask"]["iou"] == 0
    assert values["failed"][0]["run"] == "runs/diverged"
    assert [line["run"] for line in lines][3] == HOSTILE.replace("\n", "\\n")


class _Parser(html.parser.HTMLParser):
    """Collects what a browser would load or run, and the text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data):
        self.text += data


def test_the_page_needs_no_other_file_and_escapes_names(tmp_path, found):
    compare_page.write(found, tmp_path)
    text = (tmp_path / "index.html").read_text()
    parser = _Parser()
    parser.feed(text)
    assert "script" not in parser.tags and "link" not in parser.tags
    # As the name of a run and as that of every image.
    assert parser.text.count('<script>alert("1")</script>|=1+1\\n`x`') > 40
    assert "runs/diverged has no scores: inference gave values that are not finite" in parser.text
    assert f"configs/grabcut.py: the images {list(range(COUNT))}." in parser.text
    for word in (*COLUMNS.values(), "saturation", "error", *mask_failures.KINDS):
        assert f"<dt>{word}</dt>" in text, word
    assert "<dt>FG-ARI</dt>" not in text and "No FG-ARI: the data have no instance labels" in text
    assert "IoU / Dice is 100.0 / 100.0 where all but slot 1 of 2 is foreground, " in parser.text
    assert "What its config sets: sampler=<b>." in parser.text
    assert "Mask 2 is the foreground that is scored, always." in parser.text  # redo's
    # Overview, and regions and failures of five groups: the same pictures as in the folder.
    assert len(parser.sources) == 11
    pictures = sorted(path.name for path in tmp_path.glob("*.png"))
    assert pictures[:3] == ["1_failures.png", "1_regions.png", "2_failures.png"]
    inside = {base64.b64decode(source.split(",")[1]) for source in parser.sources}
    assert inside == {path.read_bytes() for path in tmp_path.glob("*.png")}
    assert "prefers-color-scheme: dark" in text and "width=device-width" in text
    markdown = (tmp_path / "table.md").read_text()
    assert "<script" not in markdown and "\\|=1+1\\\\n\\`x\\`" in markdown
    rows = [line for line in markdown.splitlines() if line.startswith("| ")]
    cells = {len(re.findall(r"(?<!\\)\|", row)) for row in rows}
    assert len(cells) <= 3  # of three tables
    assert {"table.csv", "table.json"} < {path.name for path in tmp_path.iterdir()}


def cell(picture, row, column, num_rows, num_columns):
    """One image of a grid: 8 pixels are shown as 112, cells are 4 apart."""
    y = picture.shape[0] - (num_rows - row) * 116
    x = picture.shape[1] - (num_columns - column) * 116
    return picture[y : y + 112 : 14, x : x + 112 : 14]


def test_the_figures_show_what_the_paper_reports(found, split, masks):
    picture = compare_figures.overview(found)
    white = 255 * masks.astype(np.uint8)
    for column in (0, 9):
        image = cell(picture, 0, column, 7, 10)
        np.testing.assert_array_equal(image, split.images[column])
        # True masks, redo turned over, slots without their background, and GrabCut.
        for row in (1, 3, 5, 6):
            shown = cell(picture, row, column, 7, 10)[..., 0]
            np.testing.assert_array_equal(shown, white[column], err_msg=str(row))
    channels = compare_figures.channels(found.groups[1].first.evaluation)
    np.testing.assert_array_equal(cell(channels, 1, 3, 4, 10)[..., 0], 255 - white[3])
    np.testing.assert_array_equal(cell(channels, 2, 3, 4, 10)[..., 0], white[3])
    cut = compare_figures.cut_outs(found.groups[4].first.evaluation)
    shown = cell(cut, 1, 3, 4, 10)
    expected = np.where(masks[3][..., None], split.images[3], np.uint8(128))
    np.testing.assert_array_equal(shown, expected)


def test_images_above_a_half_are_no_failures(found):
    assert compare_figures.failure_summary(found.groups[1].first) == (
        "0 of 12 images have an IoU below 50."
    )


def test_one_image_is_enough(tmp_path, split, masks):
    record = Record(split.images[0], masks[0].astype(np.uint8), "only")
    source = {"kind": "made up"}
    write_split(tmp_path, "test", [record], image_size=SIZE, has_masks=True, source=source)
    found = compare([entrant(masks, "run")], open_split(tmp_path, "test"))
    compare_page.write(found, tmp_path)
    assert "These are #0 only." in (tmp_path / "index.html").read_text()


def test_the_worst_images_come_first(split, masks):
    pred = masks.copy()
    pred[7], pred[2] = ~masks[7], False
    result = compare([entrant(pred, "run")], split).groups[0].first
    picture = compare_figures.failures(result)
    for column, index in ((0, 2), (1, 7), (2, 0)):
        shown = cell(picture, 2, column, 3, 8)[..., 0]
        np.testing.assert_array_equal(shown, 255 * pred[index])
    assert compare_figures.failure_summary(result) == (
        "2 of 12 images have an IoU below 50: nothing found (1); sides exchanged (1)."
    )


def never(*_):
    raise AssertionError("inference must not start")


def test_mistakes_are_named_before_any_inference(tmp_path, split, masks):
    started = entrant(masks, "run")._replace(infer_batch=never)
    with pytest.raises(UserError, match=r"\./run/ is given twice"):
        compare([started, started._replace(path="./run/")], split)
    with pytest.raises(UserError, match=r"copy is the same as run: .* seed; give one of them"):
        compare([started, started._replace(path="copy")], split)
    with pytest.raises(UserError, match="nothing to compare"):
        compare([], split)
    record = Record(split.images[0], None, "bare")
    source = {"kind": "made up"}
    write_split(tmp_path, "test", [record], image_size=SIZE, has_masks=False, source=source)
    with pytest.raises(UserError, match="has no masks"):
        compare([started], open_split(tmp_path, "test"))
    with pytest.raises(UserError, match="no entrant has any scores; run: inference gave"):
        compare([entrant(np.full(masks.shape, np.nan), "run")], split)


def test_progress_names_the_entrant(split, masks):
    seen = []
    compare(
        [entrant(masks, "a", seed=1), entrant(masks, "b", seed=2)],
        split,
        progress=lambda path, done, total: seen.append((path, done, total)),
    )
    done = (0, 8, 12)
    assert seen == [("a", n, 12) for n in done] + [("b", n, 12) for n in done]


def test_pictures_of_the_folder_open(tmp_path, found):
    compare_page.write(found, tmp_path)
    for path in tmp_path.glob("*.png"):
        with Image.open(path) as picture:
            assert picture.width > 300 and picture.mode == "RGB"
