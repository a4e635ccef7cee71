"""The packed format: exact round trips, damage told, and nothing half written."""

import hashlib
import json
import pathlib
import pickle
import signal

import numpy as np
import pytest

from drc_jax.data.packed.format import Record, open_split, splits
from drc_jax.data.packed.writing import write_split
from drc_jax.errors import UserError
from tests.helpers.starting import run_code

SIZE = 4


def make_records(count=5, seed=0, has_masks=True):
    rng = np.random.default_rng(seed)
    return [
        Record(
            rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8),
            rng.random((SIZE, SIZE)) < 0.5 if has_masks else None,
            f"näme {i}",
        )
        for i in range(count)
    ]


def write(root, records, has_masks=True, **options):
    return write_split(
        root, "train", records, image_size=SIZE, has_masks=has_masks, source={"a": 1}, **options
    )


def visible_and_hidden(root):
    return sorted(p.name for p in pathlib.Path(root).iterdir())


def test_round_trip(tmp_path):
    records = make_records()
    info = write(tmp_path / "new" / "set", iter(records))
    split = open_split(tmp_path / "new" / "set", "train")
    assert split.info == info
    assert (info.count, info.image_size, info.has_masks) == (5, SIZE, True)
    assert info.source == {"a": 1}
    assert split.names == [r.name for r in records]
    np.testing.assert_array_equal(split.images, np.stack([r.image for r in records]))
    np.testing.assert_array_equal(split.require_masks(), np.stack([r.mask for r in records]))
    assert split.images.dtype == split.require_masks().dtype == np.uint8
    digest = hashlib.sha256()
    for record in records:
        digest.update(record.image.tobytes() + record.mask.astype(np.uint8).tobytes())
    assert info.fingerprint == digest.hexdigest()
    assert splits(tmp_path / "new" / "set") == ["train"]
    assert splits(tmp_path / "nowhere") == []


def test_examples_are_copies_and_pickling_reopens(tmp_path):
    records = make_records(200)
    write(tmp_path, records)
    split = open_split(tmp_path, "train")
    example = split[3]
    assert type(example["image"]) is np.ndarray and example["image"].flags.writeable
    np.testing.assert_array_equal(example["image"], records[3].image)
    np.testing.assert_array_equal(example["mask"], records[3].mask)
    assert example["index"] == 3 and example["index"].dtype == np.int32
    pickled = pickle.dumps(split)
    assert len(pickled) < split.images.nbytes / 10
    np.testing.assert_array_equal(pickle.loads(pickled).images, split.images)
    for index in (-1, 200):
        with pytest.raises(IndexError, match=f"index {index} is outside the 200 images"):
            split[index]


def test_data_without_masks(tmp_path):
    write(tmp_path, make_records(has_masks=False), has_masks=False)
    split = open_split(tmp_path, "train")
    assert split.masks is None and "mask" not in split[0]
    assert not (tmp_path / "train" / "masks.u8").exists()
    with pytest.raises(UserError, match="has no masks"):
        split.require_masks()


def change_info(folder, **changes):
    path = folder / "info.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def change_bytes(path, change):
    """Changes a file's bytes in place."""
    path.write_bytes(change(np.fromfile(path, np.uint8)).astype(np.uint8).tobytes())


def as_folder(path):
    path.unlink()
    path.mkdir()


DAMAGE = {
    "no images": (lambda f: (f / "images.u8").unlink(), r"images\.u8 is missing"),
    "no masks": (lambda f: (f / "masks.u8").unlink(), r"masks\.u8 is missing"),
    "no info": (lambda f: (f / "info.json").unlink(), r"info\.json is missing"),
    "no names": (lambda f: (f / "names.json").unlink(), r"names\.json is missing"),
    "cut images": (
        lambda f: (f / "images.u8").write_bytes((f / "images.u8").read_bytes()[:-1]),
        r"images\.u8 has 239 bytes instead of 240",
    ),
    "long masks": (
        lambda f: (f / "masks.u8").write_bytes(bytes(81)),
        r"masks\.u8 has 81 bytes instead of 80",
    ),
    "broken info": (lambda f: (f / "info.json").write_text("{"), "not valid JSON"),
    "info a list": (lambda f: (f / "info.json").write_text("[]"), "format version None"),
    "cut names": (lambda f: (f / "names.json").write_text('["a"]'), "must list 5 names"),
    "version": (lambda f: change_info(f, format_version=99), "format version 99"),
    "count": (lambda f: change_info(f, count="5"), "no valid 'count'"),
    "no images at all": (lambda f: change_info(f, count=0), "there must be at least one image"),
    "negative": (lambda f: change_info(f, count=-3), "there must be at least one image"),
    "no side": (lambda f: change_info(f, image_size=0), "there must be at least one image"),
    "huge count": (lambda f: change_info(f, count=10**30), "must list 1000000"),
    "deep info": (lambda f: (f / "info.json").write_text("[" * 100_000), "not valid JSON"),
    "binary names": (lambda f: (f / "names.json").write_bytes(b"\xff"), "not valid JSON"),
    "inverted images": (lambda f: change_bytes(f / "images.u8", lambda x: 255 - x), "digest diff"),
    "other masks": (lambda f: change_bytes(f / "masks.u8", lambda x: 1 - x), "digest differs"),
    "odd masks": (lambda f: change_bytes(f / "masks.u8", lambda x: 7 * x), "of 0 and 1 only"),
    "a folder": (lambda f: as_folder(f / "info.json"), r"info\.json is missing"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_told(tmp_path, damage):
    write(tmp_path, make_records())
    harm, message = DAMAGE[damage]
    harm(tmp_path / "train")
    with pytest.raises(UserError, match=message) as error:
        open_split(tmp_path, "train")
    assert "experiments.prepare" in str(error.value)


def test_absent_data_are_told(tmp_path):
    with pytest.raises(UserError, match=r"no packed data set at .*experiments\.prepare"):
        open_split(tmp_path / "nowhere", "train")
    write(tmp_path, make_records())
    with pytest.raises(UserError, match="no split 'test', only train"):
        open_split(tmp_path, "test")
    with pytest.raises(UserError, match="a split is named"):
        open_split(tmp_path, "../train")


def failing(records):
    yield from records
    raise RuntimeError("disk on fire")


def test_a_failure_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError, match="disk on fire"):
        write(tmp_path, failing(make_records()))
    assert visible_and_hidden(tmp_path) == []


def test_overwriting_is_asked_for_and_all_or_nothing(tmp_path):
    old, new = make_records(seed=1), make_records(3, seed=2)
    write(tmp_path, old)
    with pytest.raises(UserError, match="already exists"):
        write(tmp_path, new)
    with pytest.raises(RuntimeError, match="disk on fire"):
        write(tmp_path, failing(new), overwrite=True)
    np.testing.assert_array_equal(open_split(tmp_path, "train").images, [r.image for r in old])
    write(tmp_path, new, overwrite=True)
    np.testing.assert_array_equal(open_split(tmp_path, "train").images, [r.image for r in new])
    assert visible_and_hidden(tmp_path) == ["train"]


def test_a_kill_leaves_nothing_that_looks_finished(tmp_path):
    script = (
        "import os, signal, numpy as np\n"
        "from drc_jax.data.packed.format import Record\n"
        "from drc_jax.data.packed.writing import write_split\n"
        "def records():\n"
        "    yield Record(np.zeros((4, 4, 3), np.uint8), None, 'a')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        f"write_split({str(tmp_path)!r}, 'train', records(), image_size=4, has_masks=False, "
        "source={})\n"
    )
    process = run_code(script)
    assert process.returncode == -signal.SIGKILL
    assert splits(tmp_path) == []
    assert visible_and_hidden(tmp_path) == [".train.partial"]
    with pytest.raises(UserError, match="no packed data set"):
        open_split(tmp_path, "train")
    write(tmp_path, make_records())
    assert visible_and_hidden(tmp_path) == ["train"]


def test_a_kill_between_the_renames_keeps_the_old_data(tmp_path):
    old = make_records()
    write(tmp_path, old)
    (tmp_path / "train").rename(tmp_path / ".train.previous")
    with pytest.raises(UserError, match="already exists"):
        write(tmp_path, make_records(seed=1))
    np.testing.assert_array_equal(open_split(tmp_path, "train").images, [r.image for r in old])


def test_one_writer_at_a_time(tmp_path):
    def records():
        with pytest.raises(UserError, match="another process is writing"):
            write(tmp_path, make_records())
        yield from make_records()

    write(tmp_path, records())
    assert len(open_split(tmp_path, "train")) == 5


IMAGE, MASK = np.zeros((SIZE, SIZE, 3), np.uint8), np.zeros((SIZE, SIZE), np.uint8)
BAD = {
    "float image": (Record(IMAGE.astype(np.float32), MASK, "x"), "image 'x' must be uint8"),
    "small image": (Record(IMAGE[1:], MASK, "x"), r"got uint8 \[3, 4, 3\]"),
    "no mask": (Record(IMAGE, None, "x"), "has no mask"),
    "float mask": (Record(IMAGE, MASK.astype(np.float32), "x"), "mask of 'x' must be uint8"),
    "small mask": (Record(IMAGE, MASK[1:], "x"), r"got uint8 \[3, 4\]"),
    "grey mask": (Record(IMAGE, MASK + np.uint8(255), "x"), "0 and 1 only, got 255"),
}


@pytest.mark.parametrize("bad", BAD)
def test_records_that_do_not_fit(tmp_path, bad):
    record, message = BAD[bad]
    with pytest.raises(UserError, match=message):
        write(tmp_path, [*make_records(), record])
    assert visible_and_hidden(tmp_path) == []


def test_other_refusals(tmp_path):
    with pytest.raises(UserError, match="at least one image"):
        write(tmp_path, [])
    with pytest.raises(UserError, match="has a mask, but its split has no"):
        write(tmp_path, make_records(), has_masks=False)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write a data set to"):
        write(tmp_path / "file", make_records())


def test_changed_names_are_noticed(tmp_path):
    write(tmp_path, make_records())
    names = tmp_path / "train" / "names.json"
    changed = json.loads(names.read_text())[::-1]
    names.write_text(json.dumps(changed))
    with pytest.raises(UserError, match="not as they were written: their digest differs"):
        open_split(tmp_path, "train")


def test_data_packed_before_there_were_samples_are_read(tmp_path):
    """As written by earlier versions: info.json without the newer entries."""
    records = make_records()
    write(tmp_path, records)
    info = json.loads((tmp_path / "train" / "info.json").read_text())
    del info["samples"], info["labels_fingerprint"], info["names_fingerprint"]
    (tmp_path / "train" / "info.json").write_text(json.dumps(info))
    split = open_split(tmp_path, "train", verify=True)
    np.testing.assert_array_equal(split.images, np.stack([r.image for r in records]))
    assert split.labels is None
    change_bytes(tmp_path / "train" / "images.u8", lambda x: 255 - x)
    open_split(tmp_path, "train")
    with pytest.raises(UserError, match="digest differs"):
        open_split(tmp_path, "train", verify=True)
    change_bytes(tmp_path / "train" / "masks.u8", lambda x: 7 * x)
    with pytest.raises(UserError, match="of 0 and 1 only"):
        open_split(tmp_path, "train")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (MASK[1:], r"labels of 'x' must be uint8 or bool \[4, 4\], got uint8 \[3, 4\]"),
        (MASK.astype(np.int32), r"labels of 'x' must be uint8"),
        (None, "image 'x' has no labels, but its split has labels"),
    ],
)
def test_labels_that_do_not_fit(tmp_path, labels, message):
    first = Record(IMAGE, MASK, "first", MASK)
    with pytest.raises(UserError, match=message):
        write(tmp_path, [first, Record(IMAGE, MASK, "x", labels)])
    with pytest.raises(UserError, match="has labels, but its split has no labels"):
        write(tmp_path, [Record(IMAGE, MASK, "x"), first])
    assert visible_and_hidden(tmp_path) == []


def test_names_that_are_no_text_can_be_written_on(tmp_path):
    write(tmp_path, [Record(IMAGE, MASK, "a\udcffb"), Record(IMAGE, MASK, "tüv")])
    names = open_split(tmp_path, "train").names
    assert names == ["a\\udcffb", "tüv"]
    "".join(names).encode()


def test_a_data_set_replaced_while_in_use_stays_what_it_was(tmp_path):
    old = make_records()
    write(tmp_path, old)
    split = open_split(tmp_path, "train")
    write(tmp_path, make_records(seed=5), overwrite=True)
    np.testing.assert_array_equal(split.images, [r.image for r in old])
