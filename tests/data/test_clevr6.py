"""CLEVR6: small files in the published form through TensorFlow's own parser."""

import gzip
import logging

import numpy as np
import pytest

from drc_jax.data.packed.format import open_split, splits
from drc_jax.data.prepare import prepare
from drc_jax.data.published import clevr6
from drc_jax.errors import UserError
from tests.helpers import official_archives as archives

tf = pytest.importorskip("tensorflow", reason="the extra `data` is not installed")

SIZE = 64  # a third of the crop
OBJECTS = (6, 7, 3, 10, 6)


def image(number):
    return np.ascontiguousarray(archives.picture(320, 240, number))


def masks(number):
    """uint8 [11, 240, 320, 1]: object k lies below k - 1 and reaches farther right."""
    entities = np.zeros((11, 240, 320, 1), np.uint8)
    for k in range(1, OBJECTS[number] + 1):
        entities[k, 29 + 12 * k : 38 + 12 * k, 64 + 15 * number : 73 + 15 * k] = 255
    entities[0] = 255 - entities.max(axis=0)
    return entities


def scene(number, **changed):
    """A record: every number of an image or mask is a string of one byte."""
    visibility = np.zeros(11, np.float32)
    visibility[: OBJECTS[number] + 1] = 1
    values = {"image": image(number), "mask": masks(number), "visibility": visibility, **changed}
    features = {}
    for name, value in values.items():
        if value.dtype == np.uint8:
            strings = [bytes([v]) for v in value.ravel().tolist()]
            features[name] = tf.train.Feature(bytes_list=tf.train.BytesList(value=strings))
        else:
            floats = tf.train.FloatList(value=value.ravel().tolist())
            features[name] = tf.train.Feature(float_list=floats)
    example = tf.train.Example(features=tf.train.Features(feature=features))
    return example.SerializeToString()


def write(folder, records):
    path = folder / "clevr_with_masks_train.tfrecords"
    with tf.io.TFRecordWriter(str(path), "GZIP") as file:
        for record in records:
            file.write(record)
    return path


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clevr")
    write(folder, [scene(number) for number in range(len(OBJECTS))])
    return folder


def test_scenes_with_up_to_six_objects_are_cropped(tmp_path, source):
    prepare("clevr6", tmp_path, source=str(source), size=SIZE, num_train=4, num_test=1)
    names = {"train": ["clevr/000000", "clevr/000002"], "test": ["clevr/000004"]}
    assert splits(tmp_path) == ["test", "train"]
    for split, expected in names.items():
        data = open_split(tmp_path, split)
        assert data.names == expected
        for i, name in enumerate(expected):
            number = int(name[-1])
            crop = image(number)[29:221, 64:256]
            np.testing.assert_array_equal(data.images[i], archives.resized(crop, SIZE))
            foreground = np.zeros((SIZE, SIZE), np.uint8)
            for k in range(1, OBJECTS[number] + 1):
                foreground[4 * k : 4 * k + 3, 5 * number : 3 + 5 * k] = 1
            np.testing.assert_array_equal(data.require_masks()[i], foreground)


def test_every_object_has_its_label(source):
    (record,) = clevr6._records(source / clevr6.FILE, 2, 3, SIZE, 0.0)
    np.testing.assert_array_equal(record.labels > 0, record.mask == 1)
    assert set(np.unique(record.labels)) == set(range(OBJECTS[2] + 1))
    for k in range(1, OBJECTS[2] + 1):
        assert (record.labels[4 * k : 4 * k + 3, 10 : 3 + 5 * k] == k).all()


def test_a_file_may_be_given_and_the_test_split_left_out(tmp_path, source):
    path = source / "clevr_with_masks_train.tfrecords"
    prepare("clevr6", tmp_path, source=str(path), size=8, num_train=1, num_test=0)
    assert splits(tmp_path) == ["train"]


def test_damaged_records_are_named_and_skipped(tmp_path, caplog):
    good = scene(0)
    few = np.ones(10, np.float32)
    write(tmp_path, [good, scene(1, visibility=few), good, scene(2, mask=masks(2)[:1])])
    options = dict(source=str(tmp_path), size=8, num_train=4, num_test=0)
    with pytest.raises(UserError, match="1 of 4 images are damaged, the last being clevr/000001"):
        prepare("clevr6", tmp_path / "out", **options)
    with caplog.at_level(logging.WARNING):
        prepare("clevr6", tmp_path / "out", **options, max_damaged=0.5)
    assert open_split(tmp_path / "out", "train").names == ["clevr/000000", "clevr/000002"]
    assert "skipped clevr/000001: has no valid visibility" in caplog.text
    assert "skipped clevr/000003: has no valid mask" in caplog.text


def test_wrong_files_are_told(tmp_path, source):
    def fails(message, folder=tmp_path, **options):
        with pytest.raises(UserError, match=message):
            prepare("clevr6", tmp_path / "out", source=str(folder), size=8, **options)
        assert splits(tmp_path / "out") == []

    fails("there is no file .*/clevr_with_masks_train.tfrecords; download it from https://")
    fails("has no record 5, but 0 to 69999 were asked for", source)
    fails("num_train must be at least 1 .* got 0 and 1", source, num_train=0, num_test=1)
    path = tmp_path / clevr6.FILE
    whole = (source / clevr6.FILE).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    fails("is damaged at record [1-4]", num_train=5, num_test=0)
    path.write_bytes(gzip.compress(b"no records" * 9))
    fails("is damaged at record 0", num_train=5, num_test=0)
