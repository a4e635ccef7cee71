"""A frame of a recording as one picture: small and bare, or large with its captions."""

import io

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from drc_jax.app.recording import PANELS, Recording, Shot

_SIDE = 256  # of a panel in an animation, at least
_COLUMNS = 3
_GAP, _LINE = 12, 26
_PAPER, _INK, _BLUE = (255, 255, 255), (40, 40, 40), (79, 124, 255)
_CURVE = 64  # height of the energy's curve
_LOSSLESS = 64  # sides up to this are stored exactly


def strip(recording: Recording, picture: int, shot: Shot) -> np.ndarray:
    """The picture and its panels side by side, uint8 [S, 6 S, 3]."""
    panels = [recording.squares[picture], *(shot.panels[name][picture] for name in PANELS)]
    return np.concatenate(panels, axis=1)


def encoded_strip(pixels: np.ndarray) -> bytes:
    """WebP of a strip, exact where it is small."""
    buffer = io.BytesIO()
    exact = len(pixels) <= _LOSSLESS
    Image.fromarray(pixels).save(buffer, "WEBP", lossless=exact, quality=100 if exact else 90)
    return buffer.getvalue()


def drawn(recording: Recording, picture: int, shot: Shot) -> Image.Image:
    """The panels two by three, enlarged, with captions, the step and the energy's curve so far."""
    squares = np.split(strip(recording, picture, shot), len(PANELS) + 1, axis=1)
    side = len(squares[0]) * max(1, -(-_SIDE // len(squares[0])))
    rows = -(-len(squares) // _COLUMNS)
    width = _GAP + _COLUMNS * (side + _GAP)
    top = _GAP + _LINE + _CURVE + _GAP
    canvas = Image.new("RGB", (width, top + rows * (side + _LINE + _GAP)), _PAPER)
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(18)
    shots = recording.shots(picture)
    told = f"step {shot.step} of {shots[-1].step}"
    pen.text((_GAP, _GAP), told, fill=_INK, font=font)
    energy = f"energy {shot.energies['energy'][picture]:.5g}"
    pen.text((width - _GAP, _GAP), energy, fill=_INK, font=font, anchor="ra")
    _curve(pen, (_GAP, _GAP + _LINE, width - _GAP, top - _GAP), shots, picture, shot.step)
    for i, (name, square) in enumerate(zip(("observed", *PANELS), squares, strict=True)):
        x = _GAP + i % _COLUMNS * (side + _GAP)
        y = top + i // _COLUMNS * (side + _LINE + _GAP)
        large = Image.fromarray(square).resize((side, side), Image.Resampling.NEAREST)
        canvas.paste(large, (x, y))
        pen.text((x + side // 2, y + side + 3), name, fill=_INK, font=font, anchor="ma")
    return canvas


def _curve(
    pen: ImageDraw.ImageDraw,
    box: tuple[int, int, int, int],
    shots: list[Shot],
    picture: int,
    step: int,
) -> None:
    """The energy's curve up to a step, in the range of its lower 95 %."""
    left, top, right, bottom = box
    pen.line((left, bottom, right, bottom), fill=(200, 200, 200))
    values = np.array([each.energies["energy"][picture] for each in shots])
    finite = values[np.isfinite(values)]
    if len(finite) == 0:
        return
    low, high = finite.min(), max(np.quantile(finite, 0.95), finite.min() + 1e-6)
    heights = bottom - (np.clip(values, low, high) - low) / (high - low) * (bottom - top)
    points = [
        (left + each.step / max(1, shots[-1].step) * (right - left), float(height))
        for each, height in zip(shots, heights, strict=True)
        if each.step <= step and np.isfinite(height)
    ]
    if len(points) > 1:
        pen.line(points, fill=_BLUE, width=3, joint="curve")
