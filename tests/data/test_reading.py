"""Packed arrays in files: indexing, labels, and bytes that are not as they were written."""

import os

import numpy as np
import pytest

from drc_jax.data.packed.format import Record, open_split
from drc_jax.data.packed.writing import write_split
from drc_jax.errors import UserError
from tests.helpers import small_disk
from tests.helpers.starting import run_code

LARGE = 64


def write_large(root, has_labels=False):
    """Images too many for their every block to be sampled."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (60, LARGE, LARGE, 3), dtype=np.uint8)
    labels = rng.integers(0, 3, (60, LARGE, LARGE), dtype=np.uint8)
    records = [
        Record(image, label > 0, str(i), label if has_labels else None)
        for i, (image, label) in enumerate(zip(images, labels, strict=True))
    ]
    write_split(root, "train", records, image_size=LARGE, has_masks=True, source={})
    return images, labels


def alter(path, place):
    with path.open("r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 1]))


@pytest.mark.parametrize("name", ["images.u8", "masks.u8", "labels.u8"])
def test_a_single_byte_is_found_when_all_are_compared(tmp_path, name):
    write_large(tmp_path, has_labels=True)
    open_split(tmp_path, "train", verify=True)
    # Between the sampled blocks, of which there is one in 11000 bytes at most.
    size = (tmp_path / "train" / name).stat().st_size
    alter(tmp_path / "train" / name, 6000 if name == "images.u8" else size // 2)
    if name == "images.u8":
        open_split(tmp_path, "train")
    with pytest.raises(UserError, match=r"not as they were written: .*--overwrite"):
        open_split(tmp_path, "train", verify=True)


def test_sampled_blocks_are_compared_always(tmp_path):
    images, _ = write_large(tmp_path)
    path = tmp_path / "train" / "images.u8"
    open_split(tmp_path, "train")
    path.write_bytes((255 - images).tobytes())
    with pytest.raises(UserError, match="digest differs"):
        open_split(tmp_path, "train")
    path.write_bytes(images.tobytes())
    open_split(tmp_path, "train")
    alter(path, path.stat().st_size - 1)
    with pytest.raises(UserError, match="digest differs"):
        open_split(tmp_path, "train")


def test_labels_lie_beside_masks_and_leave_the_fingerprint(tmp_path):
    _, labels = write_large(tmp_path / "with", has_labels=True)
    write_large(tmp_path / "without")
    split, bare = (open_split(tmp_path / name, "train") for name in ("with", "without"))
    np.testing.assert_array_equal(split.labels, labels)
    np.testing.assert_array_equal(split.masks, labels > 0)
    np.testing.assert_array_equal(split[7]["labels"], labels[7])
    assert bare.labels is None and "labels" not in bare[7]
    assert split.info.fingerprint == bare.info.fingerprint
    assert split.labels.dtype == np.uint8 and split.labels.shape == (60, LARGE, LARGE)


def test_indexing_is_that_of_numpy(tmp_path):
    images, _ = write_large(tmp_path)
    found = open_split(tmp_path, "train").images
    rng = np.random.default_rng(1)
    for index in (
        5,
        -1,
        np.int64(7),
        slice(None),
        slice(3, 9),
        slice(50, 200),
        slice(9, 2, -3),
        slice(5, 5),
        rng.permutation(60)[:13],
        np.array([4, 4, 5, 6, -1]),
        np.array([[1, 2], [3, 40]]),
        rng.random(60) < 0.3,
        [2, 3],
        (slice(0, 4), ..., 1),
        (3, slice(1, 5), 2),
        (np.array([1, 8]), slice(None), slice(2), 0),
    ):
        np.testing.assert_array_equal(found[index], images[index], strict=True)
    assert found[2].flags.writeable and len(found) == 60 and found.ndim == 4
    assert found.nbytes == images.nbytes and np.mean(found) == images.mean()
    for index in (60, -61, np.array([0, 60])):
        with pytest.raises(IndexError):
            found[index]


def test_data_cut_short_while_in_use_are_one_line(tmp_path):
    """A memory map would end the process by SIGBUS."""
    program = (
        "import sys, os\n"
        "from drc_jax.data.packed.batches import train_batches\n"
        "from drc_jax.data.packed.format import open_split\n"
        "split = open_split(sys.argv[1], 'train')\n"
        "batches = train_batches(split, batch_size=8, seed=0, start_step=0, flip=False)\n"
        "next(batches)\n"
        "os.truncate(split.path / 'images.u8', 100)\n"
        "for _ in range(100): next(batches)\n"
    )
    write_large(tmp_path)
    process = run_code(program, str(tmp_path))
    assert process.returncode == 1, process.stderr
    assert "UserError: " in process.stderr and "was cut short while it was" in process.stderr


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path):
    with small_disk.mounted(tmp_path / "disk", "300k") as disk:
        with pytest.raises(UserError, match=r"cannot write the data set at .*: No space left on"):
            write_large(disk / "set")
        assert os.listdir(disk / "set") == []
    with (
        small_disk.mounted(tmp_path / "disk", "64k", read_only=True) as disk,
        pytest.raises(UserError, match=r"cannot write a data set to .*: Read-only file system"),
    ):
        write_large(disk / "set")
