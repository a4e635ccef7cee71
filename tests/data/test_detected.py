"""Detected masks, their review, and what a person changes in it, with a detector made by hand."""

import json
import sys
import types

import numpy as np
import pytest
from PIL import Image

from drc_jax.data.masks import detect, detected, review
from drc_jax.data.masks.detect import Detection
from drc_jax.data.masks.filters import MaskFilter, Verdict
from drc_jax.data.packed.format import open_split, splits
from drc_jax.data.published import builders
from drc_jax.errors import UserError

SIZE = 16
RULES = MaskFilter("dog", max_share=0.9, max_person=0.05)
# What the detector sees in the picture with this red value.
KINDS = {"good": 10, "faint": 20, "nothing": 30, "huge": 40}
NAMES = {"train": ["good", "faint", "nothing", "huge"], "test": ["good"]}


def mask_of(kind):
    mask = np.zeros((SIZE, SIZE), np.float32)
    if kind == "huge":
        mask[:] = 1
    else:
        mask[4:12, 2 : 3 + KINDS[kind] // 10 * 4] = 0.9
    return mask


class FakeDetector:
    """Tells the kinds apart by their colour; counts what it was asked."""

    def __init__(self):
        self.calls = 0
        self.break_after = None

    def __call__(self, image):
        if self.calls == self.break_after:
            raise KeyboardInterrupt
        self.calls += 1
        assert image.shape == (SIZE, SIZE, 3)
        kind = {value: kind for kind, value in KINDS.items()}[int(image[0, 0, 0])]
        if kind == "nothing":
            return []
        return [Detection("dog", 0.3 if kind == "faint" else 0.9, mask_of(kind), (0, 0, 9, 9))]


def convert(split, name):
    image = np.zeros((30, 40, 3), np.uint8)
    image[:] = (KINDS[name], 100, 200)
    return detected.Boxed(f"{split}/{name}.jpg", image, (10.0, 5.0, 30.0, 25.0))


PUBLISHED = detected.Published(
    name="dogs",
    builder="stanford_dogs",
    downloads=True,
    unique_names=True,
    picture_name=lambda split, name: f"{split}/{name}.jpg",
    convert=convert,
    rules=RULES,
)


@pytest.fixture
def detector(monkeypatch):
    """In the place of the detector and of the builder, which `test_official` runs."""
    builder = types.SimpleNamespace(info=types.SimpleNamespace(full_name="stanford_dogs/0.2.0"))
    monkeypatch.setattr(builders, "prepared_builder", lambda *args, **options: builder)
    monkeypatch.setattr(builders, "num_examples", lambda builder, split: len(NAMES[split]))
    monkeypatch.setattr(builders, "examples", lambda builder, split, encoded: iter(NAMES[split]))
    fake = FakeDetector()
    monkeypatch.setattr(detect, "mask_rcnn", lambda weights: fake)
    return fake


def run(root, **changed):
    options = dict(masks=None, weights=None, max_damaged=0.0, overwrite=False)
    detected.prepare(PUBLISHED, root, source="", size=SIZE, **{**options, **changed})
    return {split: open_split(root, split).names for split in splits(root)}


def test_what_is_kept_and_told(tmp_path, detector):
    kept = run(tmp_path)
    assert kept == {"train": ["train/good.jpg"], "test": ["test/good.jpg"]}
    data = open_split(tmp_path, "train")
    np.testing.assert_array_equal(data.require_masks()[0], mask_of("good") > 0)
    np.testing.assert_array_equal(data.images[0, 0, 0], (10, 100, 200))
    lines = (tmp_path / "review" / "train.txt").read_text().splitlines()
    assert [line for line in lines if not line.startswith("#")] == [
        "keep\tok\ttrain/good.jpg",
        "drop\tlow-score\ttrain/faint.jpg",
        "drop\tnone\ttrain/nothing.jpg",
        "drop\tlarge\ttrain/huge.jpg",
    ]
    assert sorted(p.name for p in (tmp_path / "review").glob("train*.jpg")) == [
        "train.dropped-large.001.jpg",
        "train.dropped-low-score.001.jpg",
        "train.dropped-none.001.jpg",
        "train.kept.001.jpg",
    ]
    with Image.open(tmp_path / "review" / "train.kept.001.jpg") as sheet:
        page = np.asarray(sheet).astype(int)
    inside, outside = page[6 + 48, 6 + 20], page[6 + 90, 6 + 90]
    np.testing.assert_allclose(inside, (10, 100, 200), atol=12)
    np.testing.assert_allclose(outside, (132, 70, 120), atol=12)  # half red


def test_nothing_is_done_twice(tmp_path, detector):
    run(tmp_path)
    before = open_split(tmp_path, "train").info
    run(tmp_path)
    run(tmp_path, overwrite=True)
    assert detector.calls == 5 and open_split(tmp_path, "train").info == before


def test_an_interrupted_detection_goes_on(tmp_path, detector):
    detector.break_after = 2
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "a")
    assert splits(tmp_path / "a") == []
    verdicts = tmp_path / "a" / "review" / "train.jsonl"
    whole = verdicts.read_bytes()
    assert len(whole.splitlines()) == 3
    verdicts.write_bytes(whole[:-5])  # as a kill in the middle of a line leaves it
    detector.break_after = None
    run(tmp_path / "a")
    assert detector.calls == 2 + 4
    run(tmp_path / "b")
    for split in NAMES:
        assert open_split(tmp_path / "a", split).info == open_split(tmp_path / "b", split).info
        name = f"review/{split}.jsonl"
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def edit(root, old, new, split="train"):
    path = root / "review" / f"{split}.txt"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_person_overrules(tmp_path, detector):
    run(tmp_path)
    edit(tmp_path, "drop\tlow-score", "keep   low-score")
    edit(tmp_path, "keep\tok", "drop\tok")
    kept = run(tmp_path)
    assert kept == {"train": ["train/faint.jpg"], "test": ["test/good.jpg"]}
    assert detector.calls == 5
    text = (tmp_path / "review" / "train.txt").read_text()
    assert "keep\tlow-score\ttrain/faint.jpg" in text and "drop\tok\ttrain/good.jpg" in text
    sheets = {p.name for p in (tmp_path / "review").glob("train*.jpg")}
    assert {"train.kept-by-hand.001.jpg", "train.dropped-by-hand.001.jpg"} < sheets
    assert "train.kept.001.jpg" not in sheets
    run(tmp_path)  # with the list as it is: nothing to do
    edit(tmp_path, "drop\tok", "keep\tok")
    edit(tmp_path, "keep\tlow-score", "drop\tlow-score")
    assert run(tmp_path)["train"] == ["train/good.jpg"]


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("drop\tnone", "keep\tnone", r"line 5 of .* keeps train/nothing.jpg, in which no mask was"),
        ("keep\tok", "kepe\tok", r"line 3 of .* must be keep or drop, .* got 'kepe\\tok"),
        ("\ttrain/huge.jpg", "", r"line 6 of .* must be keep or drop, a reason and a name"),
    ],
)
def test_mistakes_in_the_list_are_told(tmp_path, detector, old, new, message):
    run(tmp_path)
    edit(tmp_path, old, new)
    with pytest.raises(UserError, match=message):
        run(tmp_path)


def test_other_settings_are_refused(tmp_path, detector):
    run(tmp_path)
    weights = tmp_path / "weights.pth"
    weights.write_bytes(b"others")
    with pytest.raises(UserError, match="made with weights 'torchvision maskrcnn"):
        run(tmp_path, weights=str(weights))
    with pytest.raises(UserError, match=r"train.jsonl was made with other settings or weights"):
        run(tmp_path, weights=str(weights), overwrite=True)
    with pytest.raises(UserError, match=r"there is no file .*nothing; --weights must name"):
        run(tmp_path, weights=str(tmp_path / "nothing"))


def test_many_pictures_take_several_pages(tmp_path):
    sheets = review.Sheets(tmp_path, "train")
    verdict = Verdict("ok", "0.90", np.ones((8, 8), np.uint8))
    for i in range(97):
        line = review.Line("keep", "ok", f"{i}.jpg")
        sheets.add(np.zeros((8, 8, 3), np.uint8), verdict, line)
    assert [p.name for p in tmp_path.iterdir()] == ["train.kept.001.jpg"]
    sheets.close()
    for number, size in ((1, (12 * 102 + 6, 8 * 126 + 6)), (2, (102 + 6, 126 + 6))):
        with Image.open(tmp_path / f"train.kept.{number:03d}.jpg") as page:
            assert page.size == size


def test_verdicts_are_json(tmp_path, detector):
    run(tmp_path)
    lines = (tmp_path / "review" / "train.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["rules"]["max_share"] == "0.9"
    assert [json.loads(line)["reason"] for line in lines[1:]] == [
        "ok", "low-score", "none", "large",
    ]  # fmt: skip


def test_a_missing_torchvision_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(UserError, match="needs the extra `masks`; install it with"):
        detect.mask_rcnn()
