"""Little lit scenes for quick runs: shaded balls and tiles on a smooth grey floor.

In the manner of CLEVR, and as easy: a point light, whose place is all that varies, brightens a grey
floor towards it and shades one or two objects of saturated colours, which together cover 15 to 30 %
of the image. `SceneOptions` make scenes that are easier or harder to divide.
"""

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np

from drc_jax.config import SceneOptions
from drc_jax.data.generated import synthetic
from drc_jax.data.packed.format import Record

_FOREGROUND = (0.15, 0.30)  # share of the image
_LIGHT_HEIGHT = 0.8  # above the floor, in image sides
_GAP = 0.01  # between objects, in image sides
_HUES_APART = 0.2  # of objects and a coloured floor, in turns of the colour circle
_TOUCHING = 0.9  # distance of a touching pair, as part of that at which its edges may just meet

DEFAULT = SceneOptions()


def generate(
    index: int, *, size: int, seed: int, split: str, options: SceneOptions = DEFAULT
) -> Record:
    """Makes one example.

    Args:
      index: place in the split.
      size: image side S.
      seed: seed of the data set.
      split: name of the split.
      options: what objects it has.

    Returns:
      The image, the union of the objects as mask (pixels at least half covered), a name, and the
      objects' labels.
    """
    rng = synthetic.example_rng(seed, split, index)
    light = rng.uniform(-0.3, 1.3, size=2)
    floor_hue = rng.random() if options.floor == "coloured" else None
    floor = np.ones(3) if floor_hue is None else _colour(rng, floor_hue)
    image = _floor(light, size)[:, :, None] * floor
    areas, centres = _layout(rng, options)
    hue = _hue(rng, floor_hue) if options.one_hue else None
    visible: list[np.ndarray] = []
    for area, centre in zip(areas, centres, strict=True):
        x, y = centre
        colour = _colour(rng, _hue(rng, floor_hue) if hue is None else hue)
        if rng.random() < 0.5:
            radius = (area / np.pi) ** 0.5
            shape = synthetic.disc(x, y, radius)
            shade = _ball_shade(centre, radius, light, size)
        else:
            half_side, angle = area**0.5 / 2, rng.uniform(0, np.pi / 2)
            shape = synthetic.regular_polygon(4, x, y, half_side, angle)
            shade = _tile_shade(centre, half_side, light, size)
        if options.shading == "flat":
            shade = np.ones_like(shade)
        if options.two_tone:
            other = _colour(rng, _hue(rng, floor_hue) if hue is None else hue)
            is_other = _half_plane(centre, rng.uniform(0, 2 * np.pi), size)
            colour = np.where(is_other[:, :, None], other, colour)
        covered = synthetic.coverage(shape, size)
        synthetic.paint(image, covered, colour * shade[:, :, None])
        if options.touching:
            visible = [before * (1 - covered) for before in visible]
        visible.append(covered)
    mask = (np.sum(visible, axis=0) >= 0.5).astype(np.uint8)
    name = f"scenes/{split}/{index:06d}"
    return Record(synthetic.to_uint8(image), mask, name, synthetic.labels(visible, mask))


def _hue(rng: np.random.Generator, floor_hue: float | None) -> float:
    """Any hue, or one apart from a coloured floor's, in [0, 1)."""
    if floor_hue is None:
        return rng.random()
    return (floor_hue + rng.uniform(_HUES_APART, 1 - _HUES_APART)) % 1


def _colour(rng: np.random.Generator, hue: float) -> np.ndarray:
    """A saturated colour [3]."""
    return synthetic.rgb(hue, rng.uniform(0.8, 1.0), rng.uniform(0.85, 1.0))


def _half_plane(centre: np.ndarray, angle: float, size: int) -> np.ndarray:
    """Whether pixels lie on one side of a line through a point, bool [S, S]."""
    x, y = synthetic.pixel_centres(size)
    return (x - centre[0]) * np.cos(angle) + (y - centre[1]) * np.sin(angle) > 0


def _floor(light: np.ndarray, size: int) -> np.ndarray:
    """Brightness [S, S] of a grey floor under a point light: Lambert's law, low contrast."""
    x, y = synthetic.pixel_centres(size)
    squared = (x - light[0]) ** 2 + (y - light[1]) ** 2
    # cos(angle) / distance^2, which is 1 right under the light.
    lit = (1 + squared / _LIGHT_HEIGHT**2) ** -1.5
    return 0.5 + 0.2 * lit


def _layout(rng: np.random.Generator, options: SceneOptions) -> tuple[np.ndarray, np.ndarray]:
    """Areas [N] and centres [N, 2] of objects that do not overlap, but for a touching pair."""
    least, most = options.objects
    count = rng.integers(least, most + 1)
    centres = None
    while centres is None:
        shares = rng.uniform(0.6, 1.4, count)
        areas = rng.uniform(*_FOREGROUND) * shares / shares.sum()
        radii = (areas / 2) ** 0.5
        centres = synthetic.place_apart(rng, radii, gap=_GAP)
        if centres is not None and options.touching and count > 1:
            centres = _touching(centres, areas, radii)
    return areas, centres


def _touching(centres: np.ndarray, areas: np.ndarray, radii: np.ndarray) -> np.ndarray | None:
    """Moves the second object against the first; None where it would leave or hit the third."""
    direction = centres[1] - centres[0]
    direction /= np.linalg.norm(direction)
    # Half the square root of its area lies inside a ball and inside a tile of any angle.
    distance = _TOUCHING * (areas[0] ** 0.5 + areas[1] ** 0.5) / 2
    second = centres[0] + distance * direction
    inside = (second >= radii[1]).all() and (second <= 1 - radii[1]).all()
    apart = np.linalg.norm(centres[2:] - second, axis=1) >= radii[2:] + radii[1] + _GAP
    return np.stack([centres[0], second, *centres[2:]]) if inside and apart.all() else None


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


def records(
    count: int, *, size: int, seed: int, split: str, workers: int = 1, **options: Any
) -> Iterator[Record]:
    """The first ``count`` examples of a split; see `synthetic.records`.

    ``options`` are fields of `SceneOptions`.
    """
    draw = functools.partial(generate, options=SceneOptions(**options))
    return synthetic.records(draw, count, size=size, seed=seed, split=split, workers=workers)
