"""Picture grids: where each image lands, what its pixels are, and how files are written."""

import numpy as np
import pytest
from PIL import Image

from drc_jax import files
from drc_jax.errors import UserError
from drc_jax.evaluation import pictures


def _flat(*colours: tuple[int, int, int], size: int = 32) -> np.ndarray:
    """One image of a single colour each, uint8 [N, size, size, 3]."""
    return np.broadcast_to(
        np.array(colours, np.uint8)[:, None, None], (len(colours), size, size, 3)
    ).copy()


def _origin(picture: np.ndarray, rows: int, columns: int, cell: int) -> tuple[int, int]:
    """Top and left of the first cell: cells are 4 pixels apart and end 4 before the edge."""
    return picture.shape[0] - rows * (cell + 4), picture.shape[1] - columns * (cell + 4)


def _cell(picture: np.ndarray, at: tuple[int, int], shape: tuple[int, int], cell: int):
    top, left = _origin(picture, *shape, cell)
    y, x = top + at[0] * (cell + 4), left + at[1] * (cell + 4)
    return picture[y : y + cell, x : x + cell]


def test_to_uint8() -> None:
    values = np.array([-2.0, -1.0, 0.0, 1.0, 3.0], np.float32)
    assert pictures.to_uint8(values).tolist() == [0, 0, 128, 255, 255]
    every = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(pictures.to_uint8(every.astype(np.float32) / 127.5 - 1), every)
    assert pictures.to_uint8(every) is every


def test_mask_to_uint8_takes_bool_integers_and_shares() -> None:
    for masks in (np.array([[[True, False]]]), np.array([[[1, 0]]], np.uint8)):
        assert pictures.mask_to_uint8(masks).tolist() == [[[[255] * 3, [0] * 3]]]
    assert pictures.mask_to_uint8(np.array([[[0.4]]])).tolist() == [[[[102] * 3]]]


def test_cut_out_shows_grey_outside_the_mask() -> None:
    image = np.full((1, 1, 3, 3), 1.0)
    cut = pictures.cut_out(image, np.array([[[1.0, 0.5, 0.0]]]))
    assert cut[0, 0, :, 0].tolist() == [255, 192, 128]
    assert pictures.cut_out(image, np.array([[[True, False, True]]]))[0, 0, :, 2].tolist() == [
        255,
        128,
        255,
    ]


@pytest.mark.parametrize(("size", "cell"), [(16, 112), (32, 128), (64, 128), (96, 96), (128, 128)])
def test_small_images_are_enlarged_pixel_by_pixel(size, cell) -> None:
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 256, (2, 3, size, size, 3), np.uint8)
    picture = pictures.image_grid(list(rows), ["a", "b"])
    factor = cell // size
    for i, j in np.ndindex(2, 3):
        shown = _cell(picture, (i, j), (2, 3), cell)
        for offset in (0, factor - 1):
            np.testing.assert_array_equal(shown[offset::factor, offset::factor], rows[i, j])


def test_labels_and_captions_have_ink_and_stay_outside_the_cells() -> None:
    white = _flat((255, 255, 255), (255, 255, 255))
    plain = pictures.image_grid([white, white], ["observed", "inferred\nmask"])
    captioned = pictures.image_grid(
        [white, white], ["observed", "inferred\nmask"], ["one\nx", "two"]
    )
    top, left = _origin(captioned, 2, 2, 128)
    assert captioned.shape[1] == plain.shape[1]
    assert captioned.shape[0] > plain.shape[0] + 20
    for i in range(2):
        y = top + i * 132
        assert (captioned[y : y + 128, :left] < 100).sum() > 100
        assert (captioned[:top, left + i * 132 : left + i * 132 + 128] < 100).sum() > 50
    # No ink among the cells, and none at the edge, where text would be cut off.
    assert (captioned[top:, left:] >= 225).all()
    assert (captioned[0] == 225).all() and (captioned[:, 0] == 225).all()


def test_captions_do_not_overlap_on_narrow_pictures() -> None:
    narrow = np.full((3, 64, 8, 3), 250, np.uint8)
    captions = ["#12345\nIoU 100.0"] * 3
    picture = pictures.image_grid([narrow], [""], captions)
    ink = (picture[:40] < 100).any(axis=(0, 2))
    # Three texts, apart by more than letters are: runs of columns without ink between them.
    edges = np.flatnonzero(np.diff(ink.astype(int)))
    gaps = edges[2::2] - edges[1:-1:2]
    assert np.sort(gaps)[-2:].min() >= 8 and (gaps >= 8).sum() == 2
    # Each picture is under the middle of its text.
    shown = (picture[-60] == 250).all(axis=-1)
    starts = np.flatnonzero(np.diff(shown.astype(int)) == 1)
    wide = edges[np.r_[0, np.flatnonzero(gaps >= 8) * 2 + 2]]
    assert len(starts) == 3 and len(set((starts - wide).tolist())) == 1


def _fig5(true_mask: np.ndarray | None) -> np.ndarray:
    half = np.zeros((2, 32, 32), bool)
    half[:, :, :16] = True
    red, green, blue, pink = (
        _flat(c, c) for c in ((250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 0, 250))
    )
    return pictures.fig5_grid(red, green, blue, pink, true_mask, half)


def test_fig5_grid_rows() -> None:
    true = np.zeros((2, 32, 32), np.uint8)
    true[1] = 1
    picture = _fig5(true)
    colours = {0: (250, 0, 0), 1: (0, 250, 0), 3: (250, 0, 250)}
    for row, colour in colours.items():
        assert (_cell(picture, (row, 1), (6, 2), 128) == colour).all()
    cut_out = _cell(picture, (2, 0), (6, 2), 128)
    assert (cut_out[:, :64] == (0, 0, 250)).all() and (cut_out[:, 64:] == 128).all()
    assert (_cell(picture, (4, 0), (6, 2), 128) == 0).all()
    assert (_cell(picture, (4, 1), (6, 2), 128) == 255).all()
    inferred = _cell(picture, (5, 1), (6, 2), 128)
    assert (inferred[:, :64] == 255).all() and (inferred[:, 64:] == 0).all()


def test_fig5_grid_without_true_masks_has_no_such_row() -> None:
    with_row, without = _fig5(np.zeros((2, 32, 32))), _fig5(None)
    assert with_row.shape[0] - without.shape[0] == 132
    assert (_cell(without, (4, 0), (5, 2), 128)[:, :64] == 255).all()


def test_samples_grid_rows() -> None:
    images, foregrounds, backgrounds = (_flat((v, v, v)) for v in (10, 20, 30))
    picture = pictures.samples_grid(images, foregrounds, backgrounds, np.full((1, 32, 32), 0.2))
    means = [_cell(picture, (i, 0), (4, 1), 128).mean() for i in range(4)]
    assert means == [10, 20, 30, 51]


def test_ranked_grid_rows_and_order() -> None:
    observed = _flat((10, 10, 10), (20, 20, 20))
    ones, zeros = np.ones((2, 32, 32), bool), np.zeros((2, 32, 32), bool)
    picture = pictures.ranked_grid(observed, ones, zeros, np.array([0.1, 0.9]), np.array([41, 7]))
    assert [_cell(picture, (0, j), (3, 2), 128).mean() for j in range(2)] == [10, 20]
    assert [_cell(picture, (i, 0), (3, 2), 128).mean() for i in (1, 2)] == [255, 0]
    # The captions are those of image_grid, in order.
    rows = [observed, pictures.mask_to_uint8(ones), pictures.mask_to_uint8(zeros)]
    captions = ["#41\nIoU 10.0", "#7\nIoU 90.0"]
    expected = pictures.image_grid(rows, ["observed", "true mask", "inferred\nmask"], captions)
    np.testing.assert_array_equal(picture, expected)


def test_image_grid_names_misfits() -> None:
    image = _flat((0, 0, 0))
    with pytest.raises(ValueError, match="one common shape"):
        pictures.image_grid([image, image[:, :16]], ["a", "b"])
    with pytest.raises(ValueError, match="N at least 1"):
        pictures.image_grid([image[:0]], ["a"])
    with pytest.raises(ValueError, match=r"1 rows of 1 images .* 2 and 0"):
        pictures.image_grid([image], ["a", "b"])


def test_save_png_round_trip_and_replacement(tmp_path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(b"old")
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    pictures.save_png(path, picture)
    with Image.open(path) as image:
        np.testing.assert_array_equal(np.asarray(image), picture)
    assert [p.name for p in tmp_path.iterdir()] == ["x.png"]


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(b"old")

    def fail(*_) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(UserError, match="disk full"):
        files.write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]
