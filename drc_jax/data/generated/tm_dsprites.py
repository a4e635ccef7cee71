"""TM-dSprites: two or three flat sprites on a shifted sinusoidal texture.

The set is that of docs/method.md, "7 Data". The textures are those of Textured MNIST (Greff et al.
2016): 20 frequency pairs on a 38-pixel period, seen through a 28-pixel window at a random offset.
We stretch the window to the image.

What the paper leaves open is chosen as in Multi-dSprites: sizes between a factor of two and any
orientation. A sprite's area is the square of its size, whatever its shape.
"""

from collections.abc import Iterator

import numpy as np

from drc_jax.data.generated import synthetic
from drc_jax.data.packed.format import Record

_PERIOD = 38
_WINDOW = 28
_MAX_OFFSET = _PERIOD - _WINDOW
# Frequencies (u, v) down rows and along columns, in cycles per 38 pixels.
BANK = tuple((u, v + i) for i, u in enumerate((4, 10, 21, 32, 37)) for v in (0, 4, 8, 12))

_SHAPES = ("square", "circle", "triangle")
_SIZES = (0.14, 0.28)  # square root of a sprite's area, in image sides
# For area 1: distance from the centre to the sides, and to the farthest point.
_APOTHEM = {"square": 0.5, "triangle": 3**-0.75}
_RADIUS = {"square": 0.5**0.5, "circle": np.pi**-0.5, "triangle": 2 * 3**-0.75}


def visible_frequency(frequency: int) -> int:
    """The frequency that whole pixels show: 21, 32 and 37 cycles per 38 look like -17, -6, -1."""
    return (frequency + _PERIOD // 2) % _PERIOD - _PERIOD // 2


def usable_bank(size: int) -> list[tuple[int, int]]:
    """The members of the bank below the Nyquist frequency of an image of side ``size``.

    The window shows 28/38 of a frequency's cycles, and an image resolves fewer than size/2: all 20
    members from 28 pixels on, fewer below.
    """
    return [
        member
        for member in BANK
        if all(2 * _WINDOW * abs(visible_frequency(f)) < _PERIOD * size for f in member)
    ]


def texture(u: int, v: int, row_offset: int, column_offset: int, size: int) -> np.ndarray:
    """The 28-pixel window of one texture, stretched to the image.

    At 28 pixels it is 0.5 + 0.5 cos(2 pi (u r + v c) / 38) at rows r = row_offset.. and columns
    c = column_offset... At other sizes the same wave is sampled in between, with frequencies as
    28 pixels show them: the original u = 37 is a slow wave and stays one.

    Args:
      u, v: frequencies of `BANK`.
      row_offset, column_offset: the window's corner in the period, 0 to 10.
      size: image side S.

    Returns:
      float64 [S, S] in [0, 1].
    """
    position = (np.arange(size) + 0.5) * (_WINDOW / size) - 0.5
    row_phase = 2 * np.pi / _PERIOD * visible_frequency(u) * (row_offset + position)
    column_phase = 2 * np.pi / _PERIOD * visible_frequency(v) * (column_offset + position)
    # cos(a + b) as two outer products needs 4 S cosines and sines instead of S^2.
    wave = np.outer(np.cos(row_phase), np.cos(column_phase))
    wave -= np.outer(np.sin(row_phase), np.sin(column_phase))
    return 0.5 + 0.5 * wave


def generate(index: int, *, size: int, seed: int, split: str) -> Record:
    """Makes one example.

    Args:
      index: place in the split.
      size: image side S.
      seed: seed of the data set.
      split: name of the split.

    Returns:
      The image, the union of the sprites as mask (pixels at least half covered), a name, and the
      sprites' labels.
    """
    rng = synthetic.example_rng(seed, split, index)
    bank = usable_bank(size)
    u, v = bank[rng.integers(len(bank))]
    row_offset, column_offset = rng.integers(_MAX_OFFSET + 1, size=2)
    image = np.repeat(texture(u, v, row_offset, column_offset, size)[:, :, None], 3, axis=2)
    covered = []
    for shape, colour in _draw_sprites(rng):
        covered.append(synthetic.coverage(shape, size))
        synthetic.paint(image, covered[-1], colour)
    mask = (np.sum(covered, axis=0) >= 0.5).astype(np.uint8)
    name = f"tm_dsprites/{split}/{index:06d}"
    return Record(synthetic.to_uint8(image), mask, name, synthetic.labels(covered, mask))


def _draw_sprites(rng: np.random.Generator) -> list[tuple[synthetic.Distance, np.ndarray]]:
    """Two or three sprites, wholly inside the image and apart, each with its colour [3]."""
    count = rng.integers(2, 4)
    centres = None
    while centres is None:  # three of the largest do not fit
        kinds = rng.choice(_SHAPES, count)
        sizes = rng.uniform(*_SIZES, count)
        radii = sizes * [_RADIUS[kind] for kind in kinds]
        centres = synthetic.place_apart(rng, radii, gap=0.01)
    sprites = []
    for kind, size, (x, y) in zip(kinds, sizes, centres, strict=True):
        angle = rng.uniform(0, 2 * np.pi)
        if kind == "circle":
            shape = synthetic.disc(x, y, size * _RADIUS[kind])
        else:
            sides = 4 if kind == "square" else 3
            shape = synthetic.regular_polygon(sides, x, y, size * _APOTHEM[kind], angle)
        sprites.append((shape, synthetic.rgb(rng.random())))
    return sprites


def records(count: int, *, size: int, seed: int, split: str, workers: int = 1) -> Iterator[Record]:
    """The first ``count`` examples of a split; see `synthetic.records`."""
    return synthetic.records(generate, count, size=size, seed=seed, split=split, workers=workers)
