"""Birds, dogs, cars and pets: small archives of the published layouts through the real builders."""

import logging

import numpy as np
import pytest

from drc_jax.data.masks import detect
from drc_jax.data.masks.detect import Detection
from drc_jax.data.packed.format import open_split, splits
from drc_jax.data.prepare import prepare
from drc_jax.data.published import birds, official
from drc_jax.errors import UserError
from tests.helpers import official_archives as archives

pytest.importorskip("tensorflow_datasets", reason="the extra `data` is not installed")

SIZE = 20


@pytest.fixture(autouse=True)
def quiet():
    import tensorflow_datasets as tfds

    tfds.disable_progress_bar()


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "archives"
    folder.mkdir()
    return folder


def by_name(root, split):
    data = open_split(root, split)
    return {name: (data.images[i], data.require_masks()[i]) for i, name in enumerate(data.names)}


def bird(i):
    return f"CUB_200_2011/images/{archives.BIRDS[i][0]}.jpg"


# Half sides 30, 22, 37, 120 around (80, 50), (15, 10), (175, 105), (100, 60), clipped to 200x120.
BIRD_WINDOWS = {
    0: (50, 20, 110, 80),
    1: (0, 0, 37, 32),
    2: (138, 68, 200, 120),
    3: (0, 0, 200, 120),
}


def test_birds(tmp_path, source, monkeypatch):
    archives.write_birds(source)
    archives.trust(monkeypatch, "caltech_birds2011", source)
    prepare("birds", tmp_path / "out", source=str(source), size=SIZE)
    found = {split: by_name(tmp_path / "out", split) for split in splits(tmp_path / "out")}
    assert {split: set(birds) for split, birds in found.items()} == {
        "train": {bird(0), bird(2)},
        "test": {bird(1), bird(3)},
    }
    everything = {**found["train"], **found["test"]}
    for i, data in enumerate(archives.bird_images()):
        left, top, right, bottom = BIRD_WINDOWS[i]
        expected = archives.resized(archives.decoded(data)[top:bottom, left:right], SIZE)
        np.testing.assert_array_equal(everything[bird(i)][0], expected)
    # The block of columns 62:98 and rows 29:71 in a window of 60 pixels from (50, 20), by 3.
    block = np.zeros((SIZE, SIZE), np.uint8)
    block[3:17, 4:16] = 1
    np.testing.assert_array_equal(everything[bird(0)][1], block)
    # Levels from 153 on, which begin at column 30 of a window of 37: 30 * 20 / 37 = 16.2.
    stripes = np.zeros((SIZE, SIZE), np.uint8)
    stripes[:, 16:] = 1
    np.testing.assert_array_equal(everything[bird(1)][1], stripes)


def test_the_streaming_builder_writes_what_the_published_one_does(source, monkeypatch):
    import tensorflow_datasets as tfds

    archives.write_birds(source)
    archives.trust(monkeypatch, "caltech_birds2011", source)
    published = tfds.builder_cls("caltech_birds2011")
    streaming = birds.streaming_builder(published)
    written = []
    for number, kind in enumerate((published, streaming)):
        builder = kind(data_dir=source / str(number), file_format="array_record")
        builder.download_and_prepare(
            download_dir=source / str(number),
            download_config=tfds.download.DownloadConfig(manual_dir=source),
        )
        written.append(builder.as_data_source())
    assert written[0].keys() == written[1].keys() == {"train", "test"}
    for split in written[0]:
        assert len(written[0][split]) == len(written[1][split]) == 2
        for expected, found in zip(*(data[split] for data in written), strict=True):
            assert expected.keys() == found.keys()
            for feature in expected:
                np.testing.assert_array_equal(found[feature], expected[feature])


@pytest.mark.parametrize("text", ["1 0\n2 2\n3 0\n4 1\n", "0\n2\n0\n1\n", "4 1\n3 0\n2 2\n1 0\n"])
def test_birds_as_divided_by_redo(tmp_path, source, monkeypatch, text):
    archives.write_birds(source)
    archives.trust(monkeypatch, "caltech_birds2011", source)
    (source / "train_val_test_split.txt").write_text(text)
    prepare("birds", tmp_path / "out", source=str(source), size=SIZE)
    assert {split: set(by_name(tmp_path / "out", split)) for split in splits(tmp_path / "out")} == {
        "train": {bird(0), bird(2)},
        "val": {bird(3)},
        "test": {bird(1)},
    }


@pytest.mark.parametrize(
    "text, message",
    [
        ("1 0\n2 3\n3 0\n4 1\n", "line 2 .* a code 0, 1 or 2, got '2 3'"),
        ("1 0\n2 0\n2 0\n4 1\n", "line 3 .* another of the images 1 to 4, got 2"),
        ("1 0\n2 0\n", "must divide all 4 images, got 2"),
        ("0\n" * 5, "line 5 .* another of the images 1 to 4, got 5"),
        ("a b.jpg 0\n", "line 1 .* got 'a b.jpg 0'"),
    ],
)
def test_wrong_divisions_are_told(tmp_path, source, monkeypatch, text, message):
    archives.write_birds(source)
    archives.trust(monkeypatch, "caltech_birds2011", source)
    (source / "train_val_test_split.txt").write_text(text)
    with pytest.raises(UserError, match=message):
        prepare("birds", tmp_path / "out", source=str(source), size=SIZE)


def test_a_damaged_image_is_named_and_skipped(tmp_path, source, monkeypatch, caplog):
    images = archives.bird_images()
    images[2] = images[2][: len(images[2]) // 2]
    archives.write_birds(source, images)
    archives.trust(monkeypatch, "caltech_birds2011", source)
    with pytest.raises(UserError, match=r"1 of 2 images are damaged, the last being .*0002_1027"):
        prepare("birds", tmp_path / "out", source=str(source), size=SIZE)
    assert splits(tmp_path / "out") == []
    with caplog.at_level(logging.WARNING):
        prepare("birds", tmp_path / "out", source=str(source), size=SIZE, max_damaged=0.5)
    assert open_split(tmp_path / "out", "train").names == [bird(0)]
    assert f"skipped {bird(2)}: cannot be decoded" in caplog.text
    assert "skipped 1 damaged of 2 images" in caplog.text


def test_an_interrupted_preparation_starts_clean(tmp_path, source, monkeypatch):
    archives.write_birds(source)
    archives.trust(monkeypatch, "caltech_birds2011", source)
    prepare("birds", tmp_path / "whole", source=str(source), size=SIZE)
    # As a kill leaves it: the builder's unfinished folder, and a split that is not yet renamed.
    (source / "tfds" / "caltech_birds2011" / "0.2.0").rename(
        source / "tfds" / "caltech_birds2011" / "incomplete.ABCDEF_0.2.0"
    )
    prepare("birds", tmp_path / "again", source=str(source), size=SIZE)
    assert [p.name for p in (source / "tfds" / "caltech_birds2011").iterdir()] == ["0.2.0"]
    for split in ("train", "test"):
        assert (
            open_split(tmp_path / "again", split).info == open_split(tmp_path / "whole", split).info
        )


def test_other_archives_than_the_published_are_refused(tmp_path, source):
    archives.write_birds(source)
    with pytest.raises(UserError, match="caltech_birds2011 is damaged or not the published one"):
        prepare("birds", tmp_path / "out", source=str(source), size=SIZE)


def test_what_to_put_where_is_told(tmp_path, source, monkeypatch):
    from tensorflow_datasets.core.download import downloader

    def offline(*args, **kwargs):
        raise ConnectionError("no network")

    monkeypatch.setattr(downloader, "_open_url", offline)
    archives.write_birds(source)
    archives.trust(monkeypatch, "caltech_birds2011", source)
    (source / "segmentations.tgz").unlink()
    with pytest.raises(UserError) as told:
        prepare("birds", tmp_path / "out", source=str(source))
    message = str(told.value)
    assert f"{source}/segmentations.tgz (published at https://data.caltech.edu/" in message
    assert "CUB_200_2011.tgz" not in message and "\n" not in message
    masks = tmp_path / "masks"
    masks.mkdir()
    (masks / "a.png").write_bytes(archives.encoded(archives.pet_trimap(), "PNG"))
    with pytest.raises(UserError, match=r"addresses of cars196 are dead; .*/cars_test_annos_with"):
        prepare("cars", tmp_path / "out", source=str(source), masks=str(masks))
    with pytest.raises(UserError, match=r"there is no folder .*nothing; --source must name one"):
        prepare("pets", tmp_path / "out", source=str(tmp_path / "nothing"))


def test_dogs_with_given_masks(tmp_path, source, monkeypatch):
    archives.write_dogs(source)
    archives.trust(monkeypatch, "stanford_dogs", source)
    masks = tmp_path / "masks"
    (masks / "deeper").mkdir(parents=True)
    # Of the whole picture, and of the crop.
    whole = np.zeros((80, 100), np.uint8)
    whole[25:55, 35:65] = 255
    crop = np.zeros((SIZE, SIZE), np.uint8)
    crop[5:9, 2:4] = 255
    (masks / "n02085620_10074.png").write_bytes(archives.encoded(whole, "PNG"))
    (masks / "deeper" / "n02085620_10131.png").write_bytes(archives.encoded(crop, "PNG"))
    (masks / "deeper" / "n02086240_1059.png").write_bytes(archives.encoded(crop, "PNG"))
    prepare("dogs", tmp_path / "out", source=str(source), masks=str(masks), size=SIZE)
    train, test = by_name(tmp_path / "out", "train"), by_name(tmp_path / "out", "test")
    images = [archives.decoded(data) for data in archives.dog_images()]
    first = "Images/n02085620-Chihuahua/n02085620_10074.jpg"
    assert set(train) == {first}
    # Half side 30 around (50, 40): columns 20:80, rows 10:70; the mask's block by 3.
    np.testing.assert_array_equal(train[first][0], archives.resized(images[0][10:70, 20:80], SIZE))
    block = np.zeros((SIZE, SIZE), np.uint8)
    block[5:15, 5:15] = 1
    np.testing.assert_array_equal(train[first][1], block)
    # The larger of two boxes: half side 45 around (70, 55), clipped to columns 25:100, rows 10:80.
    second = "Images/n02085620-Chihuahua/n02085620_10131.jpg"
    np.testing.assert_array_equal(test[second][0], archives.resized(images[1][10:80, 25:100], SIZE))
    np.testing.assert_array_equal(test[second][1], crop // 255)
    assert set(test) == {second, "Images/n02086240-Shih-Tzu/n02086240_1059.jpg"}
    (masks / "n02086240_1011.png").write_bytes(archives.encoded(whole[1:], "PNG"))
    with pytest.raises(UserError, match=r"1 of 2 images are damaged, the last being .*_1011"):
        prepare("dogs", tmp_path / "b", source=str(source), masks=str(masks), size=SIZE)


def test_dogs_with_detected_masks(tmp_path, source, monkeypatch):
    archives.write_dogs(source)
    archives.trust(monkeypatch, "stanford_dogs", source)
    seen = []

    def detector(image):
        """Finds a dog in the upper half; in the second picture a person covers it."""
        seen.append(image)
        half = np.zeros((SIZE, SIZE), np.float32)
        half[: SIZE // 2] = 1
        people = [Detection("person", 0.9, half, (0, 0, 9, 9))] if len(seen) == 2 else []
        return [Detection("dog", 0.9, half, (0, 0, 9, 9)), *people]

    monkeypatch.setattr(detect, "mask_rcnn", lambda weights: detector)
    prepare("dogs", tmp_path / "out", source=str(source), size=SIZE)
    train, test = open_split(tmp_path / "out", "train"), open_split(tmp_path / "out", "test")
    assert (len(train), len(test)) == (1, 2)
    np.testing.assert_array_equal(seen[0], train.images[0])
    assert train.require_masks()[0].tolist() == [[1] * SIZE] * 10 + [[0] * SIZE] * 10
    listed = (tmp_path / "out" / "review" / "train.txt").read_text()
    assert f"keep\tok\t{train.names[0]}" in listed and "drop\tperson\tImages/" in listed


def test_cars_with_given_masks(tmp_path, source, monkeypatch):
    archives.write_cars(source)
    archives.trust(monkeypatch, "cars196", source)
    masks = tmp_path / "masks"
    blocks = {}
    for i, name in enumerate(["cars_train/00001", "cars_train/00002", "cars_test/00001"]):
        blocks[name] = np.zeros((SIZE, SIZE), np.uint8)
        blocks[name][i] = 1
        (masks / name).parent.mkdir(parents=True, exist_ok=True)
        (masks / f"{name}.png").write_bytes(archives.encoded(255 * blocks[name], "PNG"))
    (masks / "00002.png").write_bytes(archives.encoded(255 * blocks["cars_train/00002"], "PNG"))
    prepare("cars", tmp_path / "out", source=str(source), masks=str(masks), size=SIZE)
    found = {**by_name(tmp_path / "out", "train"), **by_name(tmp_path / "out", "test")}
    # 00002 of the test set has no mask: the one without a folder could be of either.
    assert set(found) == {f"{name}.jpg" for name in blocks}
    for name, block in blocks.items():
        np.testing.assert_array_equal(found[f"{name}.jpg"][1], block)
    images = archives.car_images("train") + archives.car_images("test")
    # Half sides 30, 88, 30 around (50, 40), (60, 45), (80, 55), clipped to 120x90.
    for name, data, (left, top, right, bottom) in (
        ("cars_train/00001.jpg", images[0], (20, 10, 80, 70)),
        ("cars_train/00002.jpg", images[1], (0, 0, 120, 90)),
        ("cars_test/00001.jpg", images[2], (50, 25, 110, 85)),
    ):
        expected = archives.resized(archives.decoded(data)[top:bottom, left:right], SIZE)
        np.testing.assert_array_equal(found[name][0], expected)


def test_pets(tmp_path, source, monkeypatch):
    archives.write_pets(source)
    archives.trust(monkeypatch, "oxford_iiit_pet", source)
    prepare("pets", tmp_path / "out", source=str(source), size=SIZE)
    for split, names in archives.PETS.items():
        found = by_name(tmp_path / "out", split)
        assert set(found) == {f"{name}.jpg" for name in names}
        for name in names:
            image, mask = found[f"{name}.jpg"]
            # The middle 60 columns, 15:75; the block of label 1 in them is 12:48 each way, by 3.
            expected = archives.resized(archives.decoded(archives.pet_image(name))[:, 15:75], SIZE)
            if name != "beagle_116":  # known to be damaged, so the builder encodes it again
                np.testing.assert_array_equal(image, expected)
            assert np.abs(image.astype(int) - expected).max() <= 8
            block = np.zeros((SIZE, SIZE), np.uint8)
            block[4:16, 4:16] = 1
            np.testing.assert_array_equal(mask, block)


def test_boxes_return_to_whole_pixels():
    rng = np.random.default_rng(0)
    for _ in range(2000):
        width, height = rng.integers(100, 4000, 2)
        xmin, ymin = rng.integers(0, 90, 2)
        xmax, ymax = rng.integers(xmin + 1, width + 1), rng.integers(ymin + 1, height + 1)
        shares = np.array([ymin / height, xmin / width, ymax / height, xmax / width], np.float32)
        assert official.pixel_box(shares, width, height) == (xmin, ymin, xmax, ymax)
