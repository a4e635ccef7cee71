"""The generated data sets: shapes and textures against hand-made ones, and determinism."""

import colorsys
import hashlib

import numpy as np
import pytest

from drc_jax.data.generated import scenes, synthetic, tm_dsprites
from drc_jax.errors import UserError

GENERATORS = pytest.mark.parametrize("dataset", [tm_dsprites, scenes])


def test_coverage_of_a_square_by_hand():
    # On 4x4 pixels a square of side 3/8 around the centre reaches 3/4 into each middle pixel.
    shape = synthetic.regular_polygon(4, 0.5, 0.5, 3 / 16, 0.0)
    expected = np.zeros((4, 4))
    expected[1:3, 1:3] = 9 / 16
    np.testing.assert_array_equal(synthetic.coverage(shape, 4), expected)
    # Moved by 1/16 to the right and 3/16 down it fills pixel (2, 2) and parts of others.
    shape = synthetic.regular_polygon(4, 0.5 + 1 / 16, 0.5 + 3 / 16, 3 / 16, 0.0)
    expected = np.outer([0, 0, 1, 1 / 2], [0, 1 / 2, 1, 0])
    np.testing.assert_array_equal(synthetic.coverage(shape, 4), expected)


@pytest.mark.parametrize("size", [32, 128])
def test_coverage_sums_to_the_area(size):
    radius = 0.2
    covered = synthetic.coverage(synthetic.disc(0.43, 0.51, radius), size)
    np.testing.assert_allclose(covered.mean(), np.pi * radius**2, rtol=2e-3)
    for sides in (3, 4):
        area = sides * 0.15**2 * np.tan(np.pi / sides)
        covered = synthetic.coverage(synthetic.regular_polygon(sides, 0.43, 0.51, 0.15, 0.3), size)
        np.testing.assert_allclose(covered.mean(), area, rtol=4e-3)


def test_a_triangle_points_where_it_should():
    # One side's normal points up (-y), so the tip points down.
    triangle = synthetic.coverage(synthetic.regular_polygon(3, 0.5, 0.5, 0.15, -np.pi / 2), 64) > 0
    rows = np.nonzero(triangle.any(axis=1))[0]
    widths = triangle.sum(axis=1)[rows]
    assert widths[0] > 30 and widths[-1] < 4


def test_circles_are_placed_apart():
    rng = np.random.default_rng(0)
    radii = np.array([0.2, 0.15, 0.1])
    for _ in range(50):
        centres = synthetic.place_apart(rng, radii, gap=0.02)
        assert (centres >= radii[:, None]).all() and (centres <= 1 - radii[:, None]).all()
        for i, j in ((0, 1), (0, 2), (1, 2)):
            assert np.hypot(*(centres[i] - centres[j])) >= radii[i] + radii[j] + 0.02
    assert synthetic.place_apart(rng, np.full(3, 0.4), gap=0.0) is None


def test_textures_at_28_pixels_are_the_formula():
    assert len(set(tm_dsprites.BANK)) == 20
    members = [(u, v + i) for i, u in enumerate([4, 10, 21, 32, 37]) for v in [0, 4, 8, 12]]
    assert set(tm_dsprites.BANK) == set(members)
    for u, v in members:
        for row_offset, column_offset in ((0, 0), (10, 3)):
            r = row_offset + np.arange(28)[:, None]
            c = column_offset + np.arange(28)[None, :]
            expected = 0.5 + 0.5 * np.cos(2 * np.pi * (u * r + v * c) / 38)
            actual = tm_dsprites.texture(u, v, row_offset, column_offset, 28)
            np.testing.assert_allclose(actual, expected, atol=1e-12)


def test_textures_stretch_the_window():
    for u, v in tm_dsprites.BANK:
        window = tm_dsprites.texture(u, v, 2, 7, 28)
        # Every third pixel of 84 has its centre where one of 28 has.
        np.testing.assert_allclose(
            tm_dsprites.texture(u, v, 2, 7, 84)[1::3, 1::3], window, atol=1e-12
        )


def test_every_texture_stays_under_nyquist():
    assert [tm_dsprites.visible_frequency(f) for f in (4, 10, 21, 32, 37, 16)] == [
        *(4, 10, -17, -6, -1, 16)
    ]
    for size in (28, 32, 64, 128):
        assert len(tm_dsprites.usable_bank(size)) == 20
    for size in (8, 12, 16, 24, 28, 32, 64, 128):
        bank = tm_dsprites.usable_bank(size)
        assert bank
        for u, v in bank:
            image = tm_dsprites.texture(u, v, 0, 0, size) - 0.5
            # The measured rate of change of a wave: neighbours two apart against the middle one,
            # f(r+1) + f(r-1) = 2 cos(w) f(r), has the right w only below Nyquist.
            for axis, f in ((0, u), (1, v)):
                omega = 2 * np.pi * abs(tm_dsprites.visible_frequency(f)) * 28 / 38 / size
                assert omega < np.pi
                wave = np.moveaxis(image, axis, 0)
                np.testing.assert_allclose(
                    wave[2:] + wave[:-2], 2 * np.cos(omega) * wave[1:-1], atol=1e-9
                )
    assert (21, 2) not in tm_dsprites.usable_bank(24)  # 17 * 28 / 38 = 12.5 cycles on 24 pixels


def count_parts(mask):
    """Number of 4-connected parts of a mask [S, S]."""
    left = {tuple(p) for p in np.argwhere(mask)}
    parts = 0
    while left:
        parts += 1
        stack = [left.pop()]
        while stack:
            r, c = stack.pop()
            for near in ((r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1)):
                if near in left:
                    left.remove(near)
                    stack.append(near)
    return parts


def test_sprites_are_two_or_three_saturated_on_grey():
    parts, greys = [], []
    for record in tm_dsprites.records(40, size=128, seed=3, split="train"):
        parts.append(count_parts(record.mask))
        image = record.image.astype(int)
        spread = image.max(axis=2) - image.min(axis=2)
        # Inside, full saturation and value; outside, grey; between only on outlines.
        pure = (image.max(axis=2) == 255) & (image.min(axis=2) == 0)
        assert (pure & (record.mask == 0)).sum() == 0
        assert ((spread == 0) & (record.mask == 1)).sum() == 0
        outline = ~pure & (spread > 0)
        assert outline.mean() < 0.04
        assert len(np.unique(image[pure], axis=0)) == parts[-1]
        greys.append(image[spread == 0])
        # The mask is where the sprite has the larger share: colour is then above half.
        assert spread[record.mask == 1].min() >= 127 and spread[record.mask == 0].max() <= 128
        assert 0.03 < record.mask.mean() < 0.25
    assert set(parts) == {2, 3}
    assert np.concatenate(greys).min() == 0 and np.concatenate(greys).max() == 255


def test_scenes_are_colours_on_a_smooth_grey_floor():
    parts = []
    for record in scenes.records(60, size=32, seed=3, split="train"):
        image = record.image.astype(int)
        spread = image.max(axis=2) - image.min(axis=2)
        assert 0.12 < record.mask.mean() < 0.33
        parts.append(count_parts(record.mask))
        assert spread[record.mask == 1].min() > 30
        floor = np.where(spread == 0, image[..., 0], -1)
        shown = floor[floor >= 0]
        assert shown.size > 0.55 * 32 * 32
        assert shown.min() >= 100 and shown.max() <= 225 and shown.max() - shown.min() < 70
        beside = (floor[:, 1:] >= 0) & (floor[:, :-1] >= 0)
        assert np.abs(np.diff(floor, axis=1))[beside].max() <= 6
    assert set(parts) == {1, 2}


@pytest.mark.parametrize(
    ("dataset", "digest"), [(scenes, "0932869fdc8f5acb"), (tm_dsprites, "fefd6cbb2b40d409")]
)
def test_data_sets_of_before_can_be_made_again(dataset, digest):
    whole = hashlib.sha256()
    for record in dataset.records(40, size=32, seed=5, split="train"):
        whole.update(record.image.tobytes() + record.mask.tobytes() + record.name.encode())
    assert whole.hexdigest()[:16] == digest


@GENERATORS
def test_labels_number_the_objects_of_the_mask(dataset):
    for record in dataset.records(40, size=64, seed=4, split="train"):
        np.testing.assert_array_equal(record.labels > 0, record.mask == 1)
        assert record.labels.dtype == np.uint8
        found = set(np.unique(record.labels).tolist()) - {0}
        assert found == set(range(1, len(found) + 1))
        parts = [count_parts(record.labels == label) for label in found]
        assert parts == [1] * len(found) and count_parts(record.mask) == len(found)


def scene_records(count=40, **options):
    return list(scenes.records(count, size=64, seed=7, split="train", **options))


def test_scenes_have_the_number_of_objects_asked_for():
    for least, most in ((1, 3), (2, 2), (3, 3)):
        counts = {int(record.labels.max()) for record in scene_records(objects=(least, most))}
        assert counts == set(range(least, most + 1))


def test_flat_objects_have_one_colour_and_shaded_ones_many():
    for shading, is_flat in (("flat", True), ("shaded", False)):
        for record in scene_records(20, shading=shading):
            for label in range(1, record.labels.max() + 1):
                _, counts = np.unique(
                    record.image[record.labels == label], axis=0, return_counts=True
                )
                # On the outline colours mix with the floor.
                assert (counts.max() > 0.5 * counts.sum()) == is_flat


def test_touching_objects_touch_and_others_do_not():
    def touches(record):
        pairs = [(record.labels[1:], record.labels[:-1])]
        pairs.append((record.labels[:, 1:], record.labels[:, :-1]))
        return any(((a == 1) & (b == 2) | (a == 2) & (b == 1)).any() for a, b in pairs)

    assert all(touches(record) for record in scene_records(objects=(2, 3), touching=True))
    assert not any(touches(record) for record in scene_records(objects=(2, 3)))
    for record in scene_records(objects=(2, 3), touching=True):
        np.testing.assert_array_equal(record.labels > 0, record.mask == 1)
        sizes = np.bincount(record.labels.ravel())[1:]
        assert sizes.min() > 20  # what is covered is an edge


def test_two_tone_objects_have_two_colours_of_about_half_each():
    for record in scene_records(20, shading="flat", two_tone=True):
        for label in range(1, record.labels.max() + 1):
            pixels = record.image[record.labels == label]
            _, counts = np.unique(pixels, axis=0, return_counts=True)
            first, second = np.sort(counts)[::-1][:2]
            assert second > 0.6 * first and first + second > 0.6 * counts.sum()


def test_one_hue_is_shared_by_a_scenes_objects_alone():
    def hue(record, label):
        pixels = record.image[record.labels == label]
        values, counts = np.unique(pixels, axis=0, return_counts=True)
        return colorsys.rgb_to_hsv(*(values[counts.argmax()] / 255))[0]

    def spread(record):
        found = 2 * np.pi * np.array([hue(record, i) for i in range(1, record.labels.max() + 1)])
        return 1 - abs(np.exp(1j * found).mean())

    options = dict(objects=(3, 3), shading="flat")
    assert max(spread(record) for record in scene_records(20, one_hue=True, **options)) < 1e-3
    assert min(spread(record) for record in scene_records(20, **options)) > 1e-3
    first = [hue(record, 1) for record in scene_records(20, one_hue=True, **options)]
    assert np.ptp(first) > 0.5


def test_coloured_floors_are_as_saturated_as_objects_of_other_hues():
    floors = []
    for record in scene_records(20, shading="flat", objects=(1, 1), floor="coloured"):
        hues = []
        for inside in (record.mask == 0, record.mask == 1):
            pixels = record.image[inside].astype(float)
            saturation = 1 - pixels.min(1) / pixels.max(1)
            assert 0.78 < np.median(saturation) <= 1
            hues.append(colorsys.rgb_to_hsv(*np.median(pixels, axis=0) / 255)[0])
        apart = abs(hues[0] - hues[1])
        assert min(apart, 1 - apart) > 0.18
        floors.append(hues[0])
    assert np.ptp(floors) > 0.5
    grey = next(iter(scene_records(1)))
    assert np.ptp(grey.image[grey.mask == 0].astype(int), axis=1).mean() < 10


def test_options_work_in_other_processes():
    options = dict(size=8, seed=5, split="train", objects=(3, 3), two_tone=True)
    alone, together = (list(scenes.records(70, workers=n, **options)) for n in (1, 2))
    assert [r.image.tobytes() for r in alone] == [r.image.tobytes() for r in together]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objects": (0, 1)}, r"two numbers from 1 to 3, .*got \(0, 1\)"),
        ({"objects": (3, 2)}, "two numbers from 1 to 3"),
        ({"objects": (1, 4)}, "two numbers from 1 to 3"),
        ({"shading": "dark"}, "shading must be one of shaded, flat; got 'dark'"),
    ],
)
def test_options_out_of_range_are_named(options, message):
    with pytest.raises(UserError, match=message):
        scene_records(1, **options)


@GENERATORS
def test_examples_depend_on_seed_split_and_index(dataset):
    def images(count, **options):
        options = {"size": 16, "seed": 0, "split": "train", **options}
        return [(r.image.tobytes(), r.mask.tobytes()) for r in dataset.records(count, **options)]

    first = images(30)
    assert first == images(30)
    assert first[:4] == images(4)
    everything = first + images(30, seed=1) + images(30, split="test")
    assert len({image for image, _ in everything}) == 90


@GENERATORS
def test_masks_agree_between_sizes(dataset):
    small = next(dataset.records(1, size=28, seed=0, split="train"))
    large = next(dataset.records(1, size=28 * 4, seed=0, split="train"))
    pooled = large.mask.reshape(28, 4, 28, 4).mean(axis=(1, 3))
    assert np.mean((pooled >= 0.5) != small.mask) < 0.01


def test_worker_processes_give_the_same_bytes():
    options = dict(size=8, seed=5, split="train")
    alone = list(tm_dsprites.records(150, **options))
    together = list(tm_dsprites.records(150, workers=2, **options))
    assert [r.name for r in together] == [r.name for r in alone]
    for a, b in zip(alone, together, strict=True):
        assert a.image.tobytes() == b.image.tobytes() and a.mask.tobytes() == b.mask.tobytes()


@GENERATORS
@pytest.mark.parametrize("name, value", [("count", 0), ("size", 7), ("seed", -1), ("workers", 0)])
def test_refusals_come_at_once(dataset, name, value):
    arguments = {"count": 1, "size": 8, "seed": 0, "split": "train", "workers": 1, name: value}
    with pytest.raises(UserError, match=f"{name} must be at least"):
        dataset.records(**arguments)
