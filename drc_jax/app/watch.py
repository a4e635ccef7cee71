"""The files of a recording, for papers and talks: an animation, its frames, and a page."""

import io
import os
import pathlib

from PIL import Image

from drc_jax import files
from drc_jax.app.player import MILLISECONDS, player
from drc_jax.app.recording import Recording
from drc_jax.app.strips import drawn
from drc_jax.data.pictures import decode
from drc_jax.data.pictures.files import output_stems

FRAMES = "frames"

_END_MILLISECONDS = 2000
_ENDINGS = (".html", ".webp", ".gif")


def check(output: str | os.PathLike[str]) -> pathlib.Path:
    """Makes the folder for the files, before the work.

    Raises:
      UserError: if nothing can be written there.
    """
    folder = pathlib.Path(output)
    files.writable(folder / FRAMES, "the recording")
    return folder


def write(
    recording: Recording, output: str | os.PathLike[str], *, gif: bool = False
) -> list[pathlib.Path]:
    """Writes the chain that the first picture keeps, below ``output``.

        NAME.webp               the animation; with ``gif`` also NAME.gif
        NAME.html               a page to play it, offline, with the energies
        frames/NAME_00000.png   every frame of the animation, by its step

    Args:
      recording: chains that have run to their end.
      output: the folder.
      gif: also as GIF, which has 256 colours.

    Returns:
      The animations and the page.

    Raises:
      UserError: if a file cannot be written.
    """
    folder, name = check(output), recording.names[0]
    stem = output_stems([name], decode.EXTENSIONS, _ENDINGS)[name]
    shots = recording.shots(0)
    images = [drawn(recording, 0, shot) for shot in shots]
    for shot, image in zip(shots, images, strict=True):
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        path = folder / FRAMES / f"{stem}_{shot.step:05d}.png"
        files.write_atomically(path, buffer.getvalue())
    written = []
    for ending in (".webp", ".gif") if gif else (".webp",):
        files.write_atomically(folder / f"{stem}{ending}", animation(images, ending))
        written.append(folder / f"{stem}{ending}")
    files.write_atomically(folder / f"{stem}.html", player(recording).encode())
    return [*written, folder / f"{stem}.html"]


def animation(images: list[Image.Image], ending: str) -> bytes:
    """Frames as an animation that repeats for ever and rests at its end, ``.webp`` or ``.gif``."""
    if ending == ".gif":
        images = [image.quantize(256, dither=Image.Dither.NONE) for image in images]
    durations = [MILLISECONDS] * (len(images) - 1) + [_END_MILLISECONDS]
    buffer = io.BytesIO()
    images[0].save(
        buffer,
        ending[1:].upper(),
        save_all=True,
        append_images=images[1:],
        duration=durations,
        loop=0,
        quality=90,
    )
    return buffer.getvalue()
