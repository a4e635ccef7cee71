"""Preparation by name: archives, resuming, what is refused, and the program."""

import io
import pathlib
import zipfile

import numpy as np
import pytest

from drc_jax.data.generated import scenes
from drc_jax.data.packed.format import open_split, splits
from drc_jax.data.pictures.images import resize_image, resize_labels, resize_mask
from drc_jax.data.prepare import prepare, prepare_synthetic
from drc_jax.errors import UserError
from tests.helpers.starting import start

COUNT, SIZE = 20, 8
SMALL = dict(size=8, num_train=3, num_test=2)


def arrays(count=COUNT):
    rng = np.random.default_rng(0)
    return {
        "images": rng.integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8),
        "masks": rng.integers(0, 2, (count, SIZE, SIZE), dtype=np.uint8),
        "names": np.array([f"photo {i}" for i in range(count)]),
    }


@pytest.fixture
def archive(tmp_path):
    np.savez(tmp_path / "photos.npz", **arrays())
    return str(tmp_path / "photos.npz")


def test_an_archive_is_divided_without_loss(tmp_path, archive):
    prepare("npz", tmp_path / "a", source=archive, test_fraction=0.3)
    train, test = open_split(tmp_path / "a", "train"), open_split(tmp_path / "a", "test")
    assert (len(train), len(test)) == (14, 6)
    assert sorted(train.names + test.names) == sorted(arrays()["names"])
    for split in (train, test):
        for i, name in enumerate(split.names):
            place = int(name.split()[1])
            np.testing.assert_array_equal(split.images[i], arrays()["images"][place])
            np.testing.assert_array_equal(split.require_masks()[i], arrays()["masks"][place])
    prepare("npz", tmp_path / "b", source=archive, test_fraction=0.3)
    assert open_split(tmp_path / "b", "test").info == test.info
    prepare("npz", tmp_path / "c", source=archive, test_fraction=0.3, seed=1)
    assert open_split(tmp_path / "c", "test").names != test.names


@pytest.mark.parametrize(
    "fraction, expected",
    [(0.0, {"train": 20}), (1.0, {"test": 20}), (0.01, {"train": 19, "test": 1})],
)
def test_extreme_fractions(tmp_path, archive, fraction, expected):
    prepare("npz", tmp_path / "a", source=archive, test_fraction=fraction)
    root = tmp_path / "a"
    assert {split: len(open_split(root, split)) for split in splits(root)} == expected


def test_masks_and_names_are_optional(tmp_path):
    np.savez(tmp_path / "bare.npz", images=arrays()["images"])
    prepare("npz", tmp_path / "a", source=str(tmp_path / "bare.npz"))
    split = open_split(tmp_path / "a", "train")
    assert split.masks is None and split.names[0].startswith("bare/")


def test_resizing():
    mask = np.zeros((8, 8), np.uint8)
    mask[2:6, 2:8] = 1
    np.testing.assert_array_equal(resize_mask(mask, 4), mask[::2, ::2])
    checks = (np.indices((64, 64)).sum(axis=0) % 2).astype(np.uint8)
    grey = resize_image(np.repeat(255 * checks[..., None], 3, axis=2), 16)
    assert np.abs(grey.astype(int) - 128).max() <= 12  # antialiased: not black, not white
    # Dithering would turn a slope of shares into noise; a threshold cuts it in one place.
    ramp = np.tile(np.arange(64) % 4 < np.arange(64) // 13, (64, 1))
    small = resize_mask(ramp, 16)
    assert (small == small[0]).all() and (np.diff(small[0].astype(int)) >= 0).all()
    image = arrays()["images"][0]
    np.testing.assert_array_equal(resize_image(image, SIZE), image)


def test_labels_are_resized_with_their_union():
    labels = np.zeros((8, 8), np.uint8)
    labels[:4, :4], labels[:4, 4:7], labels[7, 7] = 5, 2, 9
    small = resize_labels(labels, 4)
    np.testing.assert_array_equal(small > 0, resize_mask(labels > 0, 4) == 1)
    # Object 9 has gone; the others are numbered anew in their order.
    expected = np.zeros((4, 4), np.uint8)
    expected[:2, :2], expected[:2, 2:] = 2, 1
    expected *= resize_mask(labels > 0, 4)
    np.testing.assert_array_equal(small, expected)
    same = np.select([labels == 2, labels == 5, labels == 9], [1, 2, 3])
    np.testing.assert_array_equal(resize_labels(labels, 8), same)
    assert not resize_labels(np.zeros((8, 8), np.uint8), 4).any()
    assert (resize_labels(np.full((8, 8), 3, np.uint8), 4) == 1).all()


def test_archives_are_resized(tmp_path, archive):
    prepare("npz", tmp_path / "a", source=archive, size=16)
    split = open_split(tmp_path / "a", "train")
    assert split.images.shape == (18, 16, 16, 3)
    assert split.require_masks().shape == (18, 16, 16)


@pytest.mark.parametrize(
    ("size", "nearest"), [(50, "32 or 64"), (100, "64 or 128"), (9, "8 or 16"), (4, "8")]
)
def test_sizes_that_no_model_takes_are_refused(tmp_path, size, nearest):
    with pytest.raises(UserError, match=rf"such as 32, 64 or 128; got {size}, try {nearest}$"):
        prepare("scenes", tmp_path / "a", size=size)
    assert not (tmp_path / "a").exists()


def test_an_archive_keeps_its_own_size_whatever_it_is(tmp_path):
    np.savez(tmp_path / "odd.npz", images=np.zeros((2, 5, 5, 3), np.uint8))
    prepare("npz", tmp_path / "a", source=str(tmp_path / "odd.npz"), test_fraction=0.0)
    assert open_split(tmp_path / "a", "train").images.shape == (2, 5, 5, 3)


def test_the_program_says_where_no_model_takes_the_size(tmp_path):
    np.savez(tmp_path / "odd.npz", images=np.zeros((4, 5, 5, 3), np.uint8))
    options = ["--dataset=npz", f"--source={tmp_path / 'odd.npz'}"]
    done = start("prepare", *options, f"--output={tmp_path / 'a'}")
    assert done.returncode == 0, done.stderr
    assert "note: DRC takes no images of 5x5; for it give --size=8\n" in done.stdout
    fitting = start("prepare", *options, f"--output={tmp_path / 'b'}", "--size=8")
    assert fitting.returncode == 0 and "note" not in fitting.stdout
    again = start("prepare", *options, f"--output={tmp_path / 'b'}", "--size=16")
    assert again.returncode == 2 and "`python -m experiments.prepare --overwrite`" in again.stderr


def test_a_full_disk_is_one_line_and_leaves_no_split(tmp_path, file_size_limit):
    with file_size_limit(10_000), pytest.raises(UserError, match=r"data set at .*: File too large"):
        prepare("scenes", tmp_path, size=64, num_train=3, num_test=1)
    assert splits(tmp_path) == []
    prepare("scenes", tmp_path, size=64, num_train=3, num_test=1)
    assert splits(tmp_path) == ["test", "train"]


GOOD = arrays(2)
BAD = {
    "no images": ({"masks": GOOD["masks"]}, "no array 'images'"),
    "float images": ({"images": GOOD["images"] / 255}, "must be uint8"),
    "grey images": ({"images": GOOD["images"][..., 0]}, r"got uint8 \[2, 8, 8\]"),
    "oblong images": ({"images": GOOD["images"][:, 1:]}, r"got uint8 \[2, 7, 8, 3\]"),
    "none": ({"images": GOOD["images"][:0]}, "at least one image"),
    "grey masks": ({**GOOD, "masks": 255 * GOOD["masks"]}, "0 and 1 only, got 255"),
    "other masks": ({**GOOD, "masks": GOOD["masks"][:1]}, r"must be uint8 or bool \[2, 8, 8\]"),
    "few names": ({**GOOD, "names": np.array(["a"])}, "one name per image: 2, got 1"),
    "pickled": ({**GOOD, "names": np.array(["a", None])}, "not a readable .npz"),
}


@pytest.mark.parametrize("bad", BAD)
def test_wrong_archives_are_told(tmp_path, bad):
    contents, message = BAD[bad]
    np.savez(tmp_path / "bad.npz", **contents)
    with pytest.raises(UserError, match=message):
        prepare("npz", tmp_path / "a", source=str(tmp_path / "bad.npz"))


def test_wrong_files_are_told(tmp_path, archive):
    (tmp_path / "text.npz").write_text("hello")
    (tmp_path / "empty.npz").write_text("")
    (tmp_path / "cut.npz").write_bytes(pathlib.Path(archive).read_bytes()[:1000])
    np.save(tmp_path / "array.npy", arrays()["images"])
    for name in ("text.npz", "empty.npz", "cut.npz", "array.npy"):
        with pytest.raises(UserError, match=f"{name} is not a readable"):
            prepare("npz", tmp_path / "a", source=str(tmp_path / name))
    with pytest.raises(UserError, match="there is no file"):
        prepare("npz", tmp_path / "a", source=str(tmp_path / "nothing.npz"))
    with pytest.raises(UserError, match="test_fraction must be from 0 to 1, got 2"):
        prepare("npz", tmp_path / "a", source=archive, test_fraction=2)


def test_photographs(tmp_path, shared):
    source = shared / "data" / "dogs25.npz"
    prepare("npz", tmp_path, source=str(source), size=32)
    assert len(open_split(tmp_path, "train")) == 23
    split = open_split(tmp_path, "test")
    with np.load(source) as original:
        place = original["names"].tolist().index(split.names[0])
        mean = original["masks"][place].mean()
        pooled = original["images"][place].reshape(32, 4, 32, 4, 3).mean(axis=(1, 3))
    assert abs(split.require_masks()[0].mean() - mean) < 0.02
    assert np.abs(split.images[0] - pooled).mean() < 6


def test_generated_data_are_made_once(tmp_path, monkeypatch):
    prepare_synthetic("scenes", tmp_path, **SMALL)
    before = {split: (tmp_path / split).stat() for split in ("train", "test")}
    monkeypatch.setattr(scenes.synthetic, "example_rng", None)
    prepare_synthetic("scenes", tmp_path, **SMALL)
    assert {split: (tmp_path / split).stat() for split in ("train", "test")} == before
    split = open_split(tmp_path, "train")
    assert len(split) == 3 and split.info.source["dataset"] == "scenes"


@pytest.mark.parametrize(
    "change, message",
    [
        ({"seed": 1}, "made with seed 0 instead of 1"),
        ({"size": 16}, "made with image_size 8 instead of 16"),
        ({"num_test": 3}, "test was made with count 2 instead of 3"),
        ({"dataset": "tm_dsprites"}, "made with dataset 'scenes' instead of 'tm_dsprites'"),
        ({"shading": "flat"}, "made without shading 'flat'"),
        ({"objects": (1, 3)}, r"made without objects \[1, 3\]"),
    ],
)
def test_other_settings_are_refused_and_can_replace(tmp_path, change, message):
    settings = {"dataset": "scenes", **SMALL}
    prepare_synthetic(output=tmp_path, **settings)
    info = open_split(tmp_path, "train").info
    with pytest.raises(UserError, match=message):
        prepare_synthetic(output=tmp_path, **{**settings, **change})
    assert open_split(tmp_path, "train").info == info
    prepare_synthetic(output=tmp_path, **{**settings, **change}, overwrite=True)
    prepare_synthetic(output=tmp_path, **{**settings, **change})


def test_scene_options_belong_to_the_source(tmp_path):
    options = dict(objects=(2, 3), shading="flat", touching=True, two_tone=True, one_hue=True)
    options["floor"] = "coloured"
    prepare("scenes", tmp_path / "a", **SMALL, **options)
    prepare("scenes", tmp_path / "a", **SMALL, **options)
    source = open_split(tmp_path / "a", "train").info.source
    assert source == {
        "dataset": "scenes", "generator_version": 1, "seed": 0, **options, "objects": [2, 3]
    }  # fmt: skip
    with pytest.raises(UserError, match=r"with objects \[2, 3\], and none is asked for"):
        prepare("scenes", tmp_path / "a", **SMALL)
    prepare("scenes", tmp_path / "b", **SMALL, objects=(1, 2), shading="shaded", touching=False)
    prepare("scenes", tmp_path / "c", **SMALL)
    plain = open_split(tmp_path / "c", "train").info
    assert open_split(tmp_path / "b", "train").info == plain
    assert set(plain.source) == {"dataset", "generator_version", "seed"}
    with pytest.raises(UserError, match="tm_dsprites takes no touching"):
        prepare("tm_dsprites", tmp_path / "d", **SMALL, touching=True)


def test_a_preparation_that_broke_off_goes_on(tmp_path, monkeypatch):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    prepare_synthetic("scenes", whole, **SMALL)
    draw = scenes.synthetic.example_rng

    def interrupted(seed, split, index):
        if (split, index) == ("test", 1):
            raise KeyboardInterrupt
        return draw(seed, split, index)

    with monkeypatch.context() as patch:
        patch.setattr(scenes.synthetic, "example_rng", interrupted)
        with pytest.raises(KeyboardInterrupt):
            prepare_synthetic("scenes", broken, **SMALL)
    assert splits(broken) == ["train"]
    prepare_synthetic("scenes", broken, **SMALL)
    for split in ("train", "test"):
        assert open_split(broken, split).info == open_split(whole, split).info


def test_unfitting_requests_are_told(tmp_path, archive):
    with pytest.raises(UserError, match="unknown dataset 'birdz'; use one of tm_dsprites"):
        prepare("birdz", tmp_path)
    with pytest.raises(UserError, match="scenes takes no source; its options are size"):
        prepare("scenes", tmp_path, source=archive)
    with pytest.raises(UserError, match="npz needs the option source"):
        prepare("npz", tmp_path)
    with pytest.raises(UserError, match="'birds' cannot be generated"):
        prepare_synthetic("birds", tmp_path)
    prepare("npz", tmp_path / "a", source=archive)
    with pytest.raises(UserError, match="also holds the split 'test'"):
        prepare("npz", tmp_path / "a", source=archive, test_fraction=0.0, overwrite=True)


def test_the_program_takes_scene_options(tmp_path):
    small = ("--dataset=scenes", "--size=8", "--num_train=3", "--num_test=2")
    done = start("prepare", *small, f"--output={tmp_path}", "--objects=3,3", "--shading=flat")
    assert done.returncode == 0, done.stderr
    assert open_split(tmp_path, "train").info.source["objects"] == [3, 3]
    assert open_split(tmp_path, "train").info.source["shading"] == "flat"
    refused = start("prepare", *small, f"--output={tmp_path / 'b'}", "--objects=1,many")
    assert refused.stderr.startswith("error: --objects must be two numbers, as in 1,3; got 1,many")


def test_the_program(tmp_path):
    output = f"--output={tmp_path}"
    done = start("prepare", "--dataset=scenes", output, "--size=8", "--num_train=3", "--num_test=2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"{tmp_path}/test: 2 images, 8x8, with masks",
        f"{tmp_path}/train: 3 images, 8x8, with masks",
    ]
    refused = start(
        "prepare", "--dataset=scenes", output, "--size=16", "--num_train=3", "--num_test=2"
    )
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: ") and len(refused.stderr.splitlines()) == 1


def test_an_archive_that_declares_more_than_it_holds_is_refused_before_it_gets_memory(tmp_path):
    good = io.BytesIO()
    np.lib.format.write_array(good, arrays()["images"])
    forged = io.BytesIO()
    shape = (100_000_000, 50, 50, 3)
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(forged, header)
    forged.write(bytes(1000))
    for name, compression in (("stored", zipfile.ZIP_STORED), ("packed", zipfile.ZIP_DEFLATED)):
        path = tmp_path / f"{name}.npz"
        with zipfile.ZipFile(path, "w", compression) as archive:
            archive.writestr("images.npy", forged.getvalue())
        with pytest.raises(UserError, match="declares 750,000,000,000 bytes, and the file holds"):
            prepare("npz", tmp_path / "a", source=str(path))
    with zipfile.ZipFile(tmp_path / "masks.npz", "w") as archive:
        archive.writestr("images.npy", good.getvalue())
        archive.writestr("masks.npy", forged.getvalue())
    with pytest.raises(UserError, match=r"'masks' of .* declares"):
        prepare("npz", tmp_path / "a", source=str(tmp_path / "masks.npz"))
    assert not (tmp_path / "a").exists()


def test_generated_labels_are_packed(tmp_path):
    prepare("scenes", tmp_path, size=16, num_train=3, num_test=1)
    split = open_split(tmp_path, "train", verify=True)
    assert split.labels is not None and split.labels[:].max() >= 1
    np.testing.assert_array_equal(split.labels[:] > 0, split.masks[:] == 1)
