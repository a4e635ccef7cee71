"""A folder of 300 files as people have them: pictures of every kind, damage and no pictures."""

import io
import os
import pathlib
import struct
import zlib
from typing import NamedTuple

import numpy as np
from PIL import Image

SAVABLE = {
    "JPEG": ("RGB", "L", "CMYK"),
    "PNG": ("RGB", "RGBA", "L", "LA", "P", "I;16"),
    "WEBP": ("RGB", "RGBA"),
    "BMP": ("RGB", "L", "P"),
    "GIF": ("P", "L"),
    "TIFF": ("RGB", "RGBA", "L", "CMYK", "I;16"),
}
ODD_NAMES = (
    "ünïcödé ☃.jpg", "犬" * 80 + ".jpg", "x" * 250 + ".jpg", "🐕.jpg", "كلب.jpg",
    " led by a space.jpg",
    "two\nlines.jpg", "tab\there.jpg", "quo'te\".jpg",
    "100%.jpg", "back\\slash.jpg", "a;b,c.jpg", "CAPS.JPG",
    "-rf.jpg", "--help.jpg", "~.jpg", "$HOME.jpg", "trailing dot..jpg", "dots.in.it.jpg",
    "no extension", "*.jpg", "?.jpg", "#1.jpg", "e\u0301.jpg", "\u00e9.jpg",
    os.fsdecode(b"not utf-8 \xff\xfe.jpg"),
)  # fmt: skip


class Hostile(NamedTuple):
    """Names in the folder by what has to become of them."""

    good: list[str]
    damaged: list[str]
    duplicates: list[str]
    ignored: list[str]


def png(width: int, height: int, data: bytes = b"") -> bytes:
    """A PNG that declares a size, with any compressed data."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def picture(seed: int, width: int = 24, height: int = 18, mode: str = "RGB") -> Image.Image:
    """Blocks of random colours, different for every seed; deep modes use all their bits."""
    rng = np.random.default_rng(seed)
    if mode == "I;16":
        return Image.fromarray(rng.integers(0, 1 << 16, (height, width)).astype(np.uint16))
    blocks = Image.fromarray(rng.integers(0, 256, (3, 4, 4), dtype=np.uint8))
    large = blocks.resize((width, height), Image.Resampling.NEAREST)
    if mode in ("RGBA", "LA"):
        return large.convert(mode)
    return large.convert("RGB").convert(mode)


def encoded(kind: str, image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def write(root: pathlib.Path) -> Hostile:
    """Fills ``root`` and says what is what."""
    good: dict[str, bytes] = {}
    damaged: dict[str, bytes] = {}
    duplicates: dict[str, bytes] = {}
    ignored: dict[str, bytes] = {}
    seeds = iter(range(10_000))
    extension = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "BMP": ".bmp", "GIF": ".gif"}

    for kind, modes in SAVABLE.items():
        end = extension.get(kind, ".tif")
        for mode in modes:
            for size in ((24, 18), (17, 31), (40, 40), (64, 9)):
                content = encoded(kind, picture(next(seeds), *size, mode))
                good[f"modes/{kind}_{mode.replace(';', '_')}_{size[0]}{end}"] = content
        noise = np.random.default_rng(next(seeds)).integers(0, 256, (30, 30, 3), dtype=np.uint8)
        whole = encoded(kind, Image.fromarray(noise))
        for share in (0.02, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9):
            damaged[f"cut/{kind}_{share}{end}"] = whole[: int(share * len(whole))]
        good[f"wrong/{kind}.jpg"] = encoded(kind, picture(next(seeds)))
        good[f"wrong/{kind}.txt"] = encoded(kind, picture(next(seeds)))
        for other in (".jpg", ".png", ".webp", ".gif", ".tif"):
            damaged[f"zero/{kind}{other}"] = b""
    for kind in ("GIF", "WEBP", "PNG", "TIFF"):
        for n in range(3):
            frames = [picture(next(seeds)) for _ in range(3)]
            content = encoded(kind, frames[0], save_all=True, append_images=frames[1:])
            good[f"moving/{n}{extension.get(kind, '.tif')}"] = content
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        for kind in ("JPEG", "WEBP"):
            name = f"turned/{orientation}{extension[kind]}"
            good[name] = encoded(kind, picture(next(seeds)), exif=exif)
    for size in ((1, 1), (1, 300), (300, 1), (2, 3), (641, 7), (5, 512)):
        good[f"sizes/{size[0]}x{size[1]}.png"] = encoded("PNG", picture(next(seeds), *size))
    for name in ODD_NAMES:
        good[f"names/{name}"] = encoded("JPEG", picture(next(seeds)))
    for n in range(12):
        good[f"deep/{'/'.join('abc'[: n % 4])}/same.png".replace("//", "/")] = b""
    for name in [name for name in good if name.endswith("/same.png")]:
        good[name] = encoded("PNG", picture(next(seeds)))
    good["progressive.jpeg"] = encoded("JPEG", picture(next(seeds)), progressive=True)
    good["folder.jpg/inside.jpg"] = encoded("JPEG", picture(next(seeds)))
    damaged_exif = b"Exif\0\0II*\0\xff\xff\xff\xff"
    good["damaged_exif.jpg"] = encoded("JPEG", picture(next(seeds)), exif=damaged_exif)

    flipped = bytearray(encoded("PNG", picture(next(seeds), 200, 200)))
    flipped[60] ^= 0xFF
    damaged["bad/flipped_byte.png"] = bytes(flipped)
    for n, text in enumerate(
        (b"words", b"<html></html>", b"{}", b"%PDF-1.4", b"\x89PNG", b"\xff\xd8")
    ):
        for end in (".jpg", ".png", ".webp"):
            damaged[f"bad/text_{n}{end}"] = text
    for n in range(6):
        damaged[f"bad/noise_{n}.jpg"] = np.random.default_rng(n).bytes(2000)
    for side in (12_000, 30_000, 60_000, 1 << 30):
        damaged[f"bombs/{side}.png"] = png(side, side)
    damaged["bombs/a.gif"] = (
        b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\x02\x02D\x01\0;"
    )
    bmp = bytearray(encoded("BMP", picture(next(seeds))))
    bmp[18:26] = struct.pack("<ii", 50_000, 50_000)
    damaged["bombs/a.bmp"] = bytes(bmp)
    damaged["bad/phone.heic"] = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
    damaged["bad/float.tif"] = encoded("TIFF", Image.fromarray(np.ones((4, 4), np.float32)))

    first = sorted(name for name in good if name.startswith("modes/PNG_RGB_"))[0]
    duplicates["zz/copy.png"] = good[first]
    pixels = Image.open(io.BytesIO(good[first]))
    duplicates["zz/same pixels.bmp"] = encoded("BMP", pixels)
    duplicates["zz/lossless.webp"] = encoded("WEBP", pixels, lossless=True)
    for name in ("notes.txt", "index.html", "Thumbs.db", "a/data.csv", "mask.json", "movie.mp4"):
        ignored[name] = b"no picture, whatever it is"
    for name in (".DS_Store", "._photo.jpg"):
        ignored[name] = b"hidden"
    ignored["nothing"] = b"\0" * 10

    for files in (good, damaged, duplicates, ignored):
        for name, content in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content)
    os.mkfifo(root / "bad/pipe.jpg")
    (root / "bad/dangling.jpg").symlink_to("nowhere.jpg")
    (root / "zz/link.png").symlink_to(root / first)
    (root / "circle").symlink_to(root)
    (root / ".hidden").mkdir()
    (root / ".hidden/photo.jpg").write_bytes(good["progressive.jpeg"])
    return Hostile(
        sorted(good),
        sorted([*damaged, "bad/pipe.jpg", "bad/dangling.jpg"]),
        sorted([*duplicates, "zz/link.png"]),
        sorted([*ignored, "circle", ".hidden"]),
    )
