"""Evaluation with made-up inference, so that every score is known beforehand."""

import csv
import json
import types

import numpy as np
import pytest
from PIL import Image

from drc_jax.data.packed.format import PackedSplit, Record, open_split
from drc_jax.data.packed.writing import write_split
from drc_jax.errors import UserError
from drc_jax.evaluation import figures, metrics, report
from drc_jax.evaluation.evaluate import evaluate
from drc_jax.evaluation.report import Report, Score
from drc_jax.evaluation.saturation import saturation_masks

SIZE = 16
COUNT = 13
FILES = {
    *("test.json", "test.csv", "test_grid.png", "test_best.png", "test_worst.png"),
    *("test_300steps.json", "test_300steps.csv"),
}


@pytest.fixture
def data() -> tuple[np.ndarray, np.ndarray]:
    """Images whose first pixel is their index, and random masks."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (COUNT, SIZE, SIZE, 3), np.uint8)
    images[:, 0, 0, 0] = np.arange(COUNT)
    masks = (rng.random((COUNT, SIZE, SIZE)) < 0.3).astype(np.uint8)
    return images, masks


def _open(root, images, masks) -> PackedSplit:
    masks = [None] * len(images) if masks is None else masks
    records = [
        Record(image, mask, f"image {i}, quoted")
        for i, (image, mask) in enumerate(zip(images, masks, strict=True))
    ]
    has_masks = masks[0] is not None
    write_split(
        root, "test", records, image_size=SIZE, has_masks=has_masks, source={"kind": "made up"}
    )
    return open_split(root, "test")


@pytest.fixture
def split(tmp_path, data) -> PackedSplit:
    return _open(tmp_path / "data", *data)


class Inference:
    """Knows the masks to infer by the index in each image's first pixel."""

    def __init__(self, pi_foreground: np.ndarray) -> None:
        self.pi_foreground = pi_foreground  # [N, S, S], or [N, K - 1, S, S]
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, images):
        self.shapes.append(images.shape)
        index = images[:, 0, 0, 0]
        foreground = self.pi_foreground[index].astype(np.float32)
        if foreground.ndim == 3:
            foreground = foreground[:, None]
        pi = np.concatenate([foreground, 1 - foreground.sum(1, keepdims=True)], axis=1)
        painted = np.empty((*pi.shape, 3), np.float32)
        for k in range(pi.shape[1]):
            painted[:, k] = -0.5 if k == pi.shape[1] - 1 else 0.25 * k
        # Off by 0.01 times the index, on half of the pixels.
        observed = images.astype(np.float32) / 127.5 - 1
        offset = np.zeros_like(observed)
        offset[:, : SIZE // 2] = 0.01 * index[:, None, None, None]
        return types.SimpleNamespace(
            pi=pi,
            images=painted,
            reconstruction=observed + offset,
            foreground_weight=foreground.sum(1),
        )


def _evaluate(inference, split, folder, **options):
    evaluation = evaluate(inference, split, **options)
    folder.mkdir(parents=True, exist_ok=True)
    report.write_numbers(evaluation, folder, "test_300steps")
    figures.write(evaluation, folder)
    return evaluation.report


def test_report_csv_and_json_agree_with_the_metrics_and_each_other(tmp_path, data, split) -> None:
    masks = data[1] == 1
    pred = masks.copy()
    pred[:, : SIZE // 4] ^= True
    pred[4] = ~masks[4]
    # On the fence is background: strictly more than one half is needed.
    pi = np.where(pred, 0.6, 0.5)
    inference = Inference(pi)
    seen = []
    mean_mask = np.linspace(0, 1, SIZE * SIZE).reshape(SIZE, SIZE)
    found = _evaluate(
        inference,
        split,
        tmp_path / "out" / "deep",
        mean_train_mask=mean_mask,
        settings={"steps": 300, "seed": 1},
        progress=lambda done, total: seen.append((done, total)),
    )
    assert inference.shapes == [(8, SIZE, SIZE, 3)] * 2
    assert seen == [(0, 13), (8, 13), (13, 13)]

    columns = metrics.columns(pred, masks)
    for name in ("fixed", "dataset_flip", "oracle"):
        expected = getattr(columns, name)
        assert found.scores[name].iou == pytest.approx(expected.iou.mean())
        assert found.scores[name].dice == pytest.approx(expected.dice.mean())
    assert found.scores["oracle"].iou > found.scores["fixed"].iou
    assert not found.is_flipped
    floor = found.floors["mean_train_mask"]
    assert floor is not None
    expected = metrics.iou(np.broadcast_to(mean_mask > 0.5, masks.shape), masks).mean()
    assert floor.iou == pytest.approx(expected)
    all_foreground = found.floors["all_foreground"]
    assert all_foreground is not None and all_foreground.iou == pytest.approx(masks.mean())
    saturation = found.floors["saturation"]
    assert saturation is not None
    expected = metrics.iou(saturation_masks(np.asarray(split.images)), masks).mean()
    assert saturation.iou == pytest.approx(expected)
    assert found.true_share == pytest.approx(masks.mean())
    assert found.predicted_share == pytest.approx(pred.mean())
    assert found.reconstruction_error == pytest.approx(0.005 * np.arange(COUNT).mean(), abs=1e-6)

    folder = tmp_path / "out" / "deep"
    assert {path.name for path in folder.iterdir()} == FILES
    stored = json.loads((folder / "test.json").read_text())
    assert stored["num_images"] == COUNT and stored["settings"] == {"steps": 300, "seed": 1}
    assert stored["scores"]["oracle"]["dice"] == found.scores["oracle"].dice
    assert stored["floors"]["mean_train_mask"]["iou"] == floor.iou

    with open(folder / "test.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == split.names
    assert [int(row["index"]) for row in rows] == list(range(COUNT))
    table = {k: np.array([float(row[k]) for row in rows]) for k in list(rows[0])[2:]}
    for column in ("fixed", "oracle"):
        for score in ("iou", "dice"):
            mean = stored["scores"][column][score]
            assert table[f"{column}_{score}"].mean() == pytest.approx(mean, abs=1e-6)
            best = np.maximum(table[f"fixed_{score}"], table[f"flipped_{score}"])
            np.testing.assert_array_equal(table[f"oracle_{score}"], best)
    np.testing.assert_allclose(table["fixed_iou"], columns.fixed.iou, atol=1e-6)
    np.testing.assert_allclose(table["true_share"], masks.mean((1, 2)), atol=1e-6)
    np.testing.assert_allclose(table["predicted_share"], pred.mean((1, 2)), atol=1e-6)
    np.testing.assert_allclose(table["reconstruction_error"], 0.005 * np.arange(COUNT), atol=2e-6)


def test_exchanged_regions_show_in_the_flip_columns_only(tmp_path, data, split) -> None:
    found = _evaluate(Inference(1.0 - data[1]), split, tmp_path)
    assert found.is_flipped
    assert found.scores["fixed"] == Score(0, 0)
    assert found.bad_masks == {"sides exchanged": COUNT}
    assert f"IoU below 50: {COUNT} images: sides exchanged ({COUNT})" in report.format_table(found)
    assert found.scores["dataset_flip"] == found.scores["oracle"] == Score(1, 1)
    assert found.floors["mean_train_mask"] is None
    assert json.loads((tmp_path / "test.json").read_text())["floors"]["mean_train_mask"] is None


def test_several_foregrounds_are_summed(tmp_path, data, split) -> None:
    shares = np.stack([0.3 * data[1], 0.4 * data[1]], axis=1)
    found = _evaluate(Inference(shares), split, tmp_path)
    assert found.scores["fixed"] == Score(1, 1)
    # The grid shows both, the larger first: the second, which paints 0.25 and weighs 0.4.
    picture = _picture(tmp_path / "test_grid.png")
    cut_out = _cell(picture, 2, 3, rows=7, columns=10)
    expected = np.where(data[1][3], round(0.4 * round(1.25 * 127.5) + 0.6 * 128), 128)
    np.testing.assert_array_equal(cut_out[..., 0], expected)


def _picture(path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def _cell(picture, row, column, *, rows, columns) -> np.ndarray:
    """One image of a grid at its own size: 16 pixels are shown as 112, cells are 4 apart."""
    y = picture.shape[0] - (rows - row) * 116
    x = picture.shape[1] - (columns - column) * 116
    return picture[y : y + 112 : 7, x : x + 112 : 7]


def test_pictures_show_the_right_images(tmp_path, data, split) -> None:
    images, masks = data
    # Image i gets one wrong column of pixels more than the image before.
    pred = masks.copy()
    for i in range(COUNT):
        pred[i, :, :i] ^= 1
    _evaluate(Inference(pred), split, tmp_path)

    grid = _picture(tmp_path / "test_grid.png")
    for i in (0, 4, 5, 9):
        cells = [_cell(grid, row, i, rows=6, columns=10) for row in range(6)]
        np.testing.assert_array_equal(cells[0], images[i])
        assert abs(cells[1].astype(int) - images[i]).max() <= np.ceil(0.01 * i * 127.5)
        np.testing.assert_array_equal(cells[2], 128)  # the foreground's 0.0 and grey are both 128
        np.testing.assert_array_equal(cells[3], 64)
        np.testing.assert_array_equal(cells[4][..., 1], 255 * masks[i])
        np.testing.assert_array_equal(cells[5][..., 2], 255 * pred[i])

    order = np.argsort(metrics.iou(pred == 1, masks == 1))
    for name, ranked in (("best", order[::-1]), ("worst", order)):
        picture = _picture(tmp_path / f"test_{name}.png")
        for column in range(8):
            image = ranked[column]
            cells = [_cell(picture, row, column, rows=3, columns=8) for row in range(3)]
            np.testing.assert_array_equal(cells[0], images[image])
            np.testing.assert_array_equal(cells[1][..., 0], 255 * masks[image])
            np.testing.assert_array_equal(cells[2][..., 0], 255 * pred[image])


def test_fewer_images_than_a_batch_or_a_grid(tmp_path, data) -> None:
    split = _open(tmp_path / "few", data[0][:2], data[1][:2])
    found = _evaluate(Inference(data[1]), split, tmp_path)
    assert found.num_images == 2 and found.scores["fixed"].iou == 1


def _never(*_):
    raise AssertionError("inference must not start")


def test_mistakes_are_named_before_any_inference(tmp_path, data, split) -> None:
    bare = _open(tmp_path / "bare", data[0], None)
    with pytest.raises(UserError, match="no masks"):
        _evaluate(_never, bare, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match=r"mean training mask is \(8, 8\).*\(16, 16\)"):
        _evaluate(_never, split, tmp_path / "out", mean_train_mask=np.zeros((8, 8)))
    with pytest.raises(TypeError, match="JSON"):
        _evaluate(_never, split, tmp_path / "out", settings={"array": np.zeros(2)})


def test_values_that_are_not_finite_name_their_image(tmp_path, data, split) -> None:
    pi = data[1].astype(np.float32)
    pi[7, 2, 3] = np.nan
    with pytest.raises(UserError, match=r"not finite for image 7 \(image 7, quoted\)"):
        _evaluate(Inference(pi), split, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_wrong_shapes_are_named(tmp_path, split) -> None:
    with pytest.raises(ValueError, match=r"K >= 2 .*\(8, 2, 9, 9\)"):
        _evaluate(
            lambda images: types.SimpleNamespace(
                pi=np.zeros((8, 2, 9, 9)),
                images=np.zeros((8, 2, 9, 9, 3)),
                reconstruction=np.zeros((8, 9, 9, 3)),
                foreground_weight=np.zeros((8, 9, 9)),
            ),
            split,
            tmp_path,
        )


def test_every_stem_is_kept_and_the_newest_has_the_splits_name(tmp_path, data, split) -> None:
    first = evaluate(Inference(data[1]), split, settings={"seed": 0})
    second = evaluate(Inference(1.0 - data[1]), split, settings={"seed": 1})
    report.write_numbers(first, tmp_path, "test_seed0")
    report.write_numbers(second, tmp_path, "test_seed1")
    for ending in (".json", ".csv"):
        kept = [(tmp_path / f"test_seed{i}{ending}").read_bytes() for i in range(2)]
        assert kept[0] != kept[1] == (tmp_path / f"test{ending}").read_bytes()
    assert json.loads((tmp_path / "test_seed0.json").read_text())["settings"] == {"seed": 0}


def test_names_that_a_spreadsheet_would_compute_or_that_are_no_utf8(tmp_path, data) -> None:
    names = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "a=1", "b\udcff.jpg", "", 'c,"d"']
    records = [Record(data[0][i], data[1][i], name) for i, name in enumerate(names)]
    source = {"kind": "made up"}
    write_split(tmp_path, "test", records, image_size=SIZE, has_masks=True, source=source)
    split = open_split(tmp_path, "test")
    _evaluate(Inference(data[1]), split, tmp_path / "out")
    with open(tmp_path / "out/test.csv", newline="", encoding="utf-8") as file:
        found = [row["name"] for row in csv.DictReader(file)]
    assert found[:4] == [f"'{name}" for name in names[:4]]
    assert found[4:] == ["\\t=1", "\\r=1", "a=1", "b\\udcff.jpg", "", 'c,"d"']
    pi = data[1].astype(np.float32)
    pi[7] = np.nan
    with pytest.raises(UserError, match=r"image 7 \(b\\udcff.jpg\)"):
        evaluate(Inference(pi), split)


def test_a_full_disk_is_named_and_spares_what_was_there(
    tmp_path, data, split, file_size_limit
) -> None:
    good = evaluate(Inference(data[1]), split)
    report.write_numbers(good, tmp_path, "good")
    before = (tmp_path / "test.json").read_bytes()
    other = evaluate(Inference(1.0 - data[1]), split)
    with file_size_limit(100), pytest.raises(UserError, match=r"other.json: File too large"):
        report.write_numbers(other, tmp_path, "other")
    assert (tmp_path / "test.json").read_bytes() == before
    assert not list(tmp_path.glob("*partial*")) + list(tmp_path.glob(".*"))
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(UserError, match=r"folder.json: Is a directory"):
        report.write_numbers(other, tmp_path, "folder")


def test_the_table_names_what_the_numbers_depend_on(data, split) -> None:
    settings = {"method": "drc", "data": "data/x", "langevin_steps": 300, "seed": 1}
    found = evaluate(Inference(data[1]), split, settings=settings).report
    last = report.format_table(found).splitlines()[-1]
    assert last == "method drc, data data/x, langevin_steps 300, seed 1"


def test_format_table() -> None:
    found = Report(
        split="test",
        num_images=1000,
        scores={
            "fixed": Score(0.78812, 0.87549),
            "dataset_flip": Score(0.789, 0.876),
            "oracle": Score(1.0, 1.0),
        },
        is_flipped=True,
        floors={
            "all_foreground": Score(0.1, 0.2),
            "mean_train_mask": None,
            "saturation": Score(0.3, 0.4),
        },
        reconstruction_error=0.04321,
        true_share=0.2,
        predicted_share=0.25,
        settings={},
    )
    lines = report.format_table(found).splitlines()
    assert lines[2].split() == ["IoU", "78.8", "78.9", "100.0", "|", "10.0", "-", "30.0"]
    assert lines[3].split() == ["Dice", "87.5", "87.6", "100.0", "|", "20.0", "-", "40.0"]
    # Numbers end under the last letter of their heading.
    ends = [lines[1].index(name) + len(name) for name in ("fixed", "flip", "oracle", "ground")]
    assert all(lines[2][end - 2] == "." for end in ends)
    assert "complemented" in lines[4] and "25.0% (truth 20.0%)" in lines[4]
    assert max(map(len, lines)) <= 80
