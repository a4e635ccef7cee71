"""Reading of picture files: colour modes, rotation, damage, and what is refused unread."""

import os
import tempfile

import numpy as np
import pytest
from PIL import Image

from drc_jax.data.pictures.decode import NotAPictureError, UnreadableError, read_mask, read_picture
from tests.helpers.hostile import encoded, png

# Red, green over blue, white; wide, so that every turn shows.
UPRIGHT = np.zeros((16, 32, 3), np.uint8)
UPRIGHT[:8, :16, 0] = UPRIGHT[:8, 16:, 1] = UPRIGHT[8:, :16, 2] = 255
UPRIGHT[8:, 16:] = 255
SIDEWAYS = UPRIGHT.transpose(1, 0, 2)

# By the EXIF standard's words: on which side of the upright picture lie row 0 and column 0 of the
# stored one.
STORED = {
    1: UPRIGHT,  # top, left
    2: UPRIGHT[:, ::-1],  # top, right
    3: UPRIGHT[::-1, ::-1],  # bottom, right
    4: UPRIGHT[::-1],  # bottom, left
    5: SIDEWAYS,  # left, top
    6: SIDEWAYS[::-1],  # right, top
    7: SIDEWAYS[::-1, ::-1],  # right, bottom
    8: SIDEWAYS[:, ::-1],  # left, bottom
}


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_every_exif_orientation(tmp_path, kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation]))
    stored.save(tmp_path / "a", format=kind, exif=exif, **options.get(kind, {}))
    seen = read_picture(tmp_path / "a")
    assert seen.dtype == np.uint8 and seen.shape == UPRIGHT.shape
    assert np.abs(seen.astype(int) - UPRIGHT).max() <= 4


def test_damaged_exif_leaves_the_picture(tmp_path):
    Image.fromarray(UPRIGHT).save(tmp_path / "a.png", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png"), UPRIGHT)


def test_colour_modes(tmp_path):
    solid = Image.new("RGB", (6, 4), (200, 100, 50))
    pictures = {
        "grey.png": (Image.new("L", (6, 4), 77), (77, 77, 77)),
        "bits.png": (Image.new("1", (6, 4), 1), (255, 255, 255)),
        "palette.gif": (solid.convert("P", palette=Image.Palette.ADAPTIVE), (200, 100, 50)),
        "cmyk.jpg": (Image.new("CMYK", (6, 4), (0, 255, 255, 0)), (255, 0, 0)),
        "cmyk.tif": (Image.new("CMYK", (6, 4), (255, 0, 255, 0)), (0, 255, 0)),
        "plain.bmp": (solid, (200, 100, 50)),
        # Blended over grey 128: half of (200 - 128) and so on.
        "clear.png": (Image.new("RGBA", (6, 4), (200, 100, 50, 0)), (128, 128, 128)),
        "glass.webp": (Image.new("RGBA", (6, 4), (200, 100, 50, 128)), (164, 114, 89)),
        "smoke.png": (Image.new("LA", (6, 4), (200, 128)), (164, 164, 164)),
        # 16 bits: the upper eight.
        "deep.png": (Image.fromarray(np.full((4, 6), 0x4DFF, np.uint16)), (77, 77, 77)),
        "deep.tif": (Image.fromarray(np.full((4, 6), 0xC800, np.uint16)), (200, 200, 200)),
    }
    for name, (picture, colour) in pictures.items():
        options = {"lossless": True, "exact": True} if name.endswith("webp") else {}
        picture.save(tmp_path / name, **options)
        seen = read_picture(tmp_path / name)
        assert seen.dtype == np.uint8 and seen.shape == (4, 6, 3), name
        assert np.abs(seen.astype(int) - colour).max() <= 2, (name, seen[0, 0])


def test_a_transparent_palette_colour_is_blended(tmp_path):
    picture = Image.new("P", (2, 1))
    picture.putpalette([10, 20, 30, 200, 100, 50])
    picture.putpixel((1, 0), 1)
    picture.save(tmp_path / "a.png", transparency=0)
    np.testing.assert_array_equal(
        read_picture(tmp_path / "a.png"), [[[128, 128, 128], [200, 100, 50]]]
    )


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_frame_is_read(tmp_path, kind):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "lime")]
    frames[0].save(tmp_path / "a", format=kind, save_all=True, append_images=frames[1:])
    seen = read_picture(tmp_path / "a").astype(int)
    assert np.abs(seen - (255, 0, 0)).max() <= 3


def noise(kind):
    """A file that no codec shortens much, so that every cut hurts."""
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    return encoded(kind, Image.fromarray(pixels))


DAMAGED = {
    "empty.jpg": (b"", "is empty"),
    "text.jpg": (b"these are words", "no readable JPEG"),
    "photo.heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "no readable JPEG"),
    "bomb.png": (png(60_000, 60_000), "more than the 120 million"),
    "larger.png": (png(12_001, 10_000), "declares 12001x10000 pixels"),
    "short.png": (png(64, 64, b"\0" * 50), "cannot be read"),
    "lie.gif": (
        b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\x02",
        "more than the 120 million",
    ),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_what_cannot_be_read(tmp_path, name):
    content, words = DAMAGED[name]
    (tmp_path / name).write_bytes(content)
    for read in (read_picture, read_mask):
        with pytest.raises(UnreadableError, match=words):
            read(tmp_path / name)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
def test_truncated(tmp_path, kind):
    path, content = tmp_path / f"a.{kind.lower()}", noise(kind)
    for share in (0.02, 0.3, 0.5, 0.9):
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(UnreadableError) as caught:
            read_picture(path)
        reason = str(caught.value)
        assert reason and "\n" not in reason and "object at" not in reason


def test_no_pictures_and_no_files(tmp_path):
    (tmp_path / "notes.txt").write_text("words")
    with pytest.raises(NotAPictureError):
        read_picture(tmp_path / "notes.txt")
    with pytest.raises(UnreadableError, match="No such file"):
        read_picture(tmp_path / "gone.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    for name in ("pipe.jpg", "."):
        with pytest.raises(UnreadableError, match="not a regular file"):
            read_picture(tmp_path / name)
    Image.fromarray(np.ones((4, 4), np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(UnreadableError, match="float pixels"):
        read_picture(tmp_path / "float.tif")
    Image.fromarray(np.full((4, 4), 1 << 20, np.int32)).save(tmp_path / "deep.tif")
    with pytest.raises(UnreadableError, match="32-bit pixels"):
        read_picture(tmp_path / "deep.tif")


def test_no_permission():
    # Not tmp_path, whose parents are closed to the user that root has to become here.
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        path = os.path.join(folder, "a.png")
        Image.fromarray(UPRIGHT).save(path)
        os.chmod(path, 0)
        user = os.geteuid()
        try:
            if user == 0:
                os.seteuid(65534)
            with pytest.raises(UnreadableError, match="Permission denied"):
                read_picture(path)
        finally:
            os.seteuid(user)


def test_wrong_extensions_do_not_matter(tmp_path):
    for kind, name in [("PNG", "a.jpg"), ("JPEG", "b.txt"), ("WEBP", "c"), ("BMP", "d.heic")]:
        (tmp_path / name).write_bytes(noise(kind))
        assert read_picture(tmp_path / name).shape == (40, 40, 3)


def test_masks(tmp_path):
    half = np.array([[0, 127, 128, 255]], np.uint8)
    rgb = np.zeros((1, 4, 3), np.uint8)
    rgb[0, 2, 0], rgb[0, 3, 1] = 128, 255
    cut_out = np.full((1, 4, 4), 90, np.uint8)
    cut_out[..., 3] = half
    opaque = np.full((1, 4, 4), 255, np.uint8)
    opaque[..., :3] = rgb
    palette = Image.fromarray(np.array([[0, 0, 1, 1]], np.uint8), "L").convert("P")
    palette.putpalette([0, 0, 0, 128, 0, 0])  # the first two colours of VOC's labels
    masks = {
        "grey.png": Image.fromarray(half),
        "deep.png": Image.fromarray(half.astype(np.uint16) * 257),
        "colour.bmp": Image.fromarray(rgb),
        "cut_out.webp": Image.fromarray(cut_out),
        "opaque.png": Image.fromarray(opaque),
        "labels.png": palette,
        "bits.png": Image.fromarray(half >= 128),
        "zero_one.png": Image.fromarray((half >= 128).astype(np.uint8)),
        "deep_zero_one.tif": Image.fromarray((half >= 128).astype(np.uint16)),
    }
    for name, mask in masks.items():
        mask.save(tmp_path / name, **({"lossless": True} if name.endswith("webp") else {}))
        seen = read_mask(tmp_path / name)
        assert seen.dtype == np.uint8 and seen.tolist() == [[0, 0, 1, 1]], (name, seen)
