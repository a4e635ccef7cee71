"""Slot methods and several objects: both ways of appendix E, label maps, reports and pictures."""

import csv
import json
import types

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import adjusted_rand_score

from drc_jax.data.packed.format import PackedSplit, Record, open_split
from drc_jax.data.packed.writing import write_split
from drc_jax.evaluation import figures, pictures, report
from drc_jax.evaluation.evaluate import evaluate

SIZE, COUNT = 16, 11
BLUE, GREEN = slice(2, 8), slice(9, 14)  # where the objects are, rows and columns alike


def scene(several: bool) -> np.ndarray:
    """Labels uint8 [S, S]: object 1, and 2 where there are several."""
    labels = np.zeros((SIZE, SIZE), np.uint8)
    labels[BLUE, BLUE] = 1
    if several:
        labels[GREEN, GREEN] = 2
    return labels


def split_of(root, *, several=True, has_labels=True) -> PackedSplit:
    """Images whose first pixel is their index; odd ones have two objects where ``several``."""
    records = []
    for i in range(COUNT):
        labels = scene(several and i % 2 == 1)
        image = np.repeat(100 * labels[..., None], 3, axis=2)
        image[0, 0, 0] = i
        records.append(
            Record(image, (labels > 0).astype(np.uint8), f"{i}", labels if has_labels else None)
        )
    write_split(root, "test", records, image_size=SIZE, has_masks=True, source={"kind": "made up"})
    return open_split(root, "test")


def inference(pi: np.ndarray, *, is_exchangeable: bool):
    """Finds pi [N, K, S, S] by the index in each image's first pixel; region k is k / 10 bright."""

    def infer_batch(images):
        weights = pi[images[:, 0, 0, 0]].astype(np.float32)
        brightness = np.float32(0.1) * np.arange(pi.shape[1], dtype=np.float32)
        painted = np.broadcast_to(brightness[:, None, None, None], (*weights.shape, 3))
        return types.SimpleNamespace(
            pi=weights,
            images=painted,
            reconstruction=images.astype(np.float32) / 127.5 - 1,
            foreground_weight=None if is_exchangeable else 1 - weights[:, -1],
        )

    return infer_batch


def perfect(background: int, num_slots: int = 4) -> np.ndarray:
    """Slots that are right: pi [N, K, S, S] with the background in one slot and one to spare."""
    others = [k for k in range(num_slots) if k != background]
    pi = np.zeros((COUNT, num_slots, SIZE, SIZE))
    for i in range(COUNT):
        for label, slot in enumerate([background, *others[:2]]):
            pi[i, slot] = scene(i % 2 == 1) == label
    return pi


def written(evaluation, folder):
    folder.mkdir(exist_ok=True)
    report.write_numbers(evaluation, folder, "stem")
    figures.write(evaluation, folder)
    with open(folder / "test.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return json.loads((folder / "test.json").read_text()), rows


def test_perfect_slots_are_scored_with_their_background_wherever_it_is(tmp_path):
    split = split_of(tmp_path / "data")
    for background in (0, 2):
        infer_batch = inference(perfect(background), is_exchangeable=True)
        found = evaluate(infer_batch, split)
        assert found.report.headline == "background_slot"
        assert found.report.background_slot == background
        assert found.report.is_flipped is None
        assert found.report.reported == report.Score(1, 1)
        # Every pixel is claimed by some slot, so all is foreground in the other way.
        floor = found.report.floors["all_foreground"]
        assert found.report.scores["combined"] == floor
        labels = found.report.labels
        assert labels is not None
        assert (labels.foreground_ari, labels.num_several) == (1.0, 5)
        assert labels.ari == labels.matched_iou == 1.0
        assert labels.objects == pytest.approx(16 / 11) and labels.slots == labels.objects + 1
        assert (labels.split_rate, labels.missed_rate, labels.merge_rate) == (0, None, 0)
        assert found.failures is None and set(found.report.label_floors) == {"k_means"}
        np.testing.assert_array_equal(found.predicted, found.true)


def test_a_background_that_moves_is_found_per_image_only(tmp_path):
    split = split_of(tmp_path / "data")
    pi = perfect(0)
    pi[:4] = pi[:4, [1, 2, 3, 0]]  # background last
    found = evaluate(inference(pi, is_exchangeable=True), split).report
    assert found.background_slot == 0
    assert found.scores["background_oracle"].iou == 1
    assert found.scores["background_slot"].iou < 0.8
    assert found.labels is not None and found.labels.foreground_ari == 1


def test_a_background_spread_over_all_slots_is_scored_combined(tmp_path):
    split = split_of(tmp_path / "data")
    pi = np.where(perfect(0)[:, 1:] > 0, 0.9, 0.05)
    pi = np.where((perfect(0)[:, 1:] > 0).any(1, keepdims=True), pi, 1 / 3)
    found = evaluate(inference(pi, is_exchangeable=True), split)
    assert found.report.headline == "combined" and found.report.reported == report.Score(1, 1)
    numbers, rows = written(found, tmp_path / "out")
    assert numbers["headline"] == "combined" and numbers["scores"]["combined"]["iou"] == 1
    assert all(float(row["combined_iou"]) == 1 for row in rows)
    text = report.format_table(found.report).splitlines()
    assert text[1].split("|")[0].split() == "background slot combined * slot per image".split()
    assert text[2].split()[2] == "100.0"
    assert max(map(len, text)) <= 100


def test_the_csv_has_every_images_objects(tmp_path):
    split = split_of(tmp_path / "data")
    rng = np.random.default_rng(0)
    pi = rng.dirichlet(np.ones(3), (COUNT, SIZE, SIZE)).transpose(0, 3, 1, 2)
    found = evaluate(inference(pi, is_exchangeable=True), split)
    numbers, rows = written(found, tmp_path / "out")
    several = [i for i in range(COUNT) if i % 2]
    scores = {}
    for i, row in enumerate(rows):
        true, labels = scene(i % 2 == 1), pi[i].argmax(0)
        assert float(row["ari"]) == pytest.approx(
            adjusted_rand_score(true.ravel(), labels.ravel()), abs=1e-6
        )
        assert int(row["objects"]) == 1 + i % 2
        if i % 2:
            scores[i] = adjusted_rand_score(true[true > 0], labels[true > 0])
            assert float(row["foreground_ari"]) == pytest.approx(scores[i], abs=1e-6)
        else:
            assert row["foreground_ari"] == ""
    assert numbers["labels"]["num_several"] == len(several)
    assert numbers["labels"]["foreground_ari"] == pytest.approx(np.mean(list(scores.values())))


def test_several_foregrounds_and_one_background(tmp_path):
    """As a DRC with slots: the last region is the background, the others are the foreground."""
    split = split_of(tmp_path / "data")
    pi = perfect(3)
    pi[1, 0], pi[1, 1] = pi[1, 0] + pi[1, 1], 0  # both objects in one slot
    pi[3, 3] += pi[3, 1]  # an object lost to the background
    pi[3, 1] = 0
    pi[5, 2, :5], pi[5, 0, :5] = pi[5, 0, :5], 0  # an object cut in halves
    found = evaluate(inference(pi, is_exchangeable=False), split)
    columns = {"fixed", "dataset_flip", "oracle"}
    assert set(found.report.scores) == columns and found.report.headline == "fixed"
    assert found.scores["fixed"].iou[1] == 1 and found.scores["fixed"].iou[3] < 1
    labels = found.report.labels
    assert labels is not None
    assert labels.split_rate == labels.missed_rate == pytest.approx(1 / 16)
    assert labels.merge_rate == pytest.approx(1 / 15)  # of the slots with pixels
    numbers, _ = written(found, tmp_path / "out")
    assert numbers["num_regions"] == 4 and numbers["labels"]["missed_rate"] == labels.missed_rate
    kinds = {"colour split": 0, "duplicate": 1, "merge": 1, "theft": 0, "missed": 1}
    assert numbers["failures"] == kinds and [f.image for f in found.failures] == [1, 3, 5]
    assert (tmp_path / "out/test_failures.png").exists()
    with Image.open(tmp_path / "out/test_removed.png") as picture:
        assert (picture.height - 4) // 116 == 4  # observed, and without each of three slots
    # What is foreground is right but in one image, and its components are the objects.
    components = found.report.label_floors["components"]
    assert components.foreground_ari == 1 and components.missed_rate == labels.missed_rate
    assert numbers["label_floors"]["k_means"]["num_several"] == labels.num_several
    text = report.format_table(found.report)
    assert "missed 1" in text and "components of the foreground, a floor" in text
    with Image.open(tmp_path / "out/test_grid.png") as picture:
        grid = np.asarray(picture)
    # Image, reconstruction, three slots, background, and two label maps of dark background.
    assert (grid.shape[0] - 4) // 116 == 8
    map_of_1 = grid[6 * 116 + 4 :, -9 * 116 :][:112:7, :112:7]
    assert (map_of_1[pi[1, 3] > 0] == 40).all() and len(np.unique(map_of_1.sum(-1))) == 2


@pytest.mark.parametrize("is_exchangeable", [True, False])
def test_what_cannot_be_scored_is_said_in_one_line(tmp_path, is_exchangeable):
    infer_batch = inference(perfect(3), is_exchangeable=is_exchangeable)
    bare = evaluate(infer_batch, split_of(tmp_path / "bare", has_labels=False))
    assert bare.report.labels is None and bare.label_scores is None
    assert bare.failures is None and not bare.report.label_floors
    assert "no FG-ARI: the data have no instance labels" in report.format_table(bare.report)
    single = evaluate(infer_batch, split_of(tmp_path / "single", several=False))
    assert single.report.labels is not None and single.report.labels.foreground_ari is None
    assert "no FG-ARI: no image has two objects or more" in report.format_table(single.report)
    numbers, _ = written(single, tmp_path / "out")
    assert numbers["labels"]["foreground_ari"] is None


def test_two_regions_without_labels_say_nothing_of_objects(tmp_path):
    pi = np.stack([perfect(0)[:, 1:].sum(1), perfect(0)[:, 0]], axis=1)
    split = split_of(tmp_path / "data", has_labels=False)
    found = evaluate(inference(pi, is_exchangeable=False), split).report
    assert found.reported.iou == 1 and "ARI" not in report.format_table(found)


def test_the_grid_of_slots_shows_every_slot_and_the_truth(tmp_path):
    split = split_of(tmp_path / "data")
    pi = perfect(0)
    found = evaluate(inference(pi, is_exchangeable=True), split)
    shown = 10
    labels = split.labels[:shown]
    expected = pictures.slots_grid(
        split.images[:shown],
        split.images[:shown],
        np.asarray(found.shown.images),
        pi[:shown],
        {
            "inferred\nmask": pictures.mask_to_uint8(labels > 0),
            "true objects": pictures.label_colours(labels),
        },
    )
    np.testing.assert_array_equal(figures.grid(found), expected)


def test_every_one_of_many_slots_has_a_label_of_its_own(tmp_path):
    """Slots 0 and 256 hold the two objects, 257 the rest."""
    split = split_of(tmp_path / "data")
    pi = np.zeros((COUNT, 258, SIZE, SIZE))
    labels = np.asarray(split.labels)
    for slot, label in ((0, 1), (256, 2), (257, 0)):
        pi[:, slot] = labels == label
    found = evaluate(inference(pi, is_exchangeable=True), split).report.labels
    assert found is not None and found.foreground_ari == found.ari == found.matched_iou == 1.0
