"""Little lit scenes for quick runs: shaded balls and tiles on a smooth grey floor.

In the manner of CLEVR, and as easy: a point light, whose place is all that varies, brightens a grey
floor towards it and shades one or two objects of saturated colours, which together cover 15 to 30 %
of the image.
"""

from collections.abc import Iterator

import numpy as np

from drc_jax.data.generated import synthetic
from drc_jax.data.packed.format import Record

_FOREGROUND = (0.15, 0.30)  # share of the image
_LIGHT_HEIGHT = 0.8  # above the floor, in image sides


def generate(index: int, *, size: int, seed: int, split: str) -> Record:
    """Makes one example.

    Args:
      index: place in the split.
      size: image side S.
      seed: seed of the data set.
      split: name of the split.

    Returns:
      The image, the union of the objects as mask (pixels at least half covered) and a name.
    """
    rng = synthetic.example_rng(seed, split, index)
    light = rng.uniform(-0.3, 1.3, size=2)
    image = np.repeat(_floor(light, size)[:, :, None], 3, axis=2)
    foreground = np.zeros((size, size))
    areas, centres = _layout(rng)
    for area, centre in zip(areas, centres, strict=True):
        x, y = centre
        colour = synthetic.rgb(rng.random(), rng.uniform(0.8, 1.0), rng.uniform(0.85, 1.0))
        if rng.random() < 0.5:
            radius = (area / np.pi) ** 0.5
            shape = synthetic.disc(x, y, radius)
            shade = _ball_shade(centre, radius, light, size)
        else:
            half_side, angle = area**0.5 / 2, rng.uniform(0, np.pi / 2)
            shape = synthetic.regular_polygon(4, x, y, half_side, angle)
            shade = _tile_shade(centre, half_side, light, size)
        covered = synthetic.coverage(shape, size)
        synthetic.paint(image, covered, colour * shade[:, :, None])
        foreground += covered
    mask = (foreground >= 0.5).astype(np.uint8)
    return Record(synthetic.to_uint8(image), mask, f"scenes/{split}/{index:06d}")


def _floor(light: np.ndarray, size: int) -> np.ndarray:
    """Brightness [S, S] of a grey floor under a point light: Lambert's law, low contrast."""
    x, y = synthetic.pixel_centres(size)
    squared = (x - light[0]) ** 2 + (y - light[1]) ** 2
    # cos(angle) / distance^2, which is 1 right under the light.
    lit = (1 + squared / _LIGHT_HEIGHT**2) ** -1.5
    return 0.5 + 0.2 * lit


def _layout(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Areas [N] and centres [N, 2] of one or two objects that do not overlap."""
    count = rng.integers(1, 3)
    centres = None
    while centres is None:
        shares = rng.uniform(0.6, 1.4, count)
        areas = rng.uniform(*_FOREGROUND) * shares / shares.sum()
        centres = synthetic.place_apart(rng, (areas / 2) ** 0.5, gap=0.01)
    return areas, centres


def _light_direction(centre: np.ndarray, light: np.ndarray) -> np.ndarray:
    """Unit vector [3] from a point of the floor to the light."""
    direction = np.array([*(light - centre), _LIGHT_HEIGHT])
    return direction / np.linalg.norm(direction)


def _ball_shade(centre: np.ndarray, radius: float, light: np.ndarray, size: int) -> np.ndarray:
    """Brightness [S, S] of a ball seen from above: Lambert's law over an ambient half."""
    x, y = synthetic.pixel_centres(size)
    nx, ny = (x - centre[0]) / radius, (y - centre[1]) / radius
    nz = np.sqrt(np.maximum(1 - nx**2 - ny**2, 0))
    lx, ly, lz = _light_direction(centre, light)
    return 0.5 + 0.5 * np.maximum(nx * lx + ny * ly + nz * lz, 0)


def _tile_shade(centre: np.ndarray, half_side: float, light: np.ndarray, size: int) -> np.ndarray:
    """Brightness [S, S] of a flat tile: a gradient towards the light."""
    x, y = synthetic.pixel_centres(size)
    lx, ly, _ = _light_direction(centre, light)
    return 0.85 + 0.15 * ((x - centre[0]) * lx + (y - centre[1]) * ly) / half_side


def records(count: int, *, size: int, seed: int, split: str, workers: int = 1) -> Iterator[Record]:
    """The first ``count`` examples of a split; see `synthetic.records`."""
    return synthetic.records(generate, count, size=size, seed=seed, split=split, workers=workers)
