"""What the page's buttons do: plain values in, pieces of HTML and files out."""

import functools
import pathlib
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from drc_jax.app import chains, markup, pictures
from drc_jax.app.player import player
from drc_jax.app.recording import CURVES, PANELS, Recording
from drc_jax.data.pictures import decode
from drc_jax.data.pictures.files import output_stems
from drc_jax.errors import UserError
from drc_jax.evaluation import cutouts
from drc_jax.runs.trained import Run

_PREVIEW = 512  # largest side in pixels of what is shown of an extraction
LONGEST = 3600.0
"""Seconds after which files are removed while the page is open."""
NO_CHAIN = "Run a chain first: drop a picture, then press Run."


class View(NamedTuple):
    """What the tab of the competition shows.

    Attributes:
      status: a sentence.
      panels, curves: HTML.
    """

    status: str
    panels: str
    curves: str


class Actions:
    """The functions behind the page, for one trained model.

    Problems that the visitor can mend are raised as UserError, one sentence.
    """

    def __init__(self, run: Run, folder: pathlib.Path) -> None:
        """Args:
        run: a run of DRC.
        folder: where files to be downloaded go; it must exist.
        """
        chains.check_run(run)
        self.run, self.folder = run, folder
        self.config = run.config.model

    def look(self, paths: Sequence[str] | None, crop: str) -> tuple[str, str]:
        """What is wrong with files, and what the model sees of pictures, as HTML."""
        found, problems = pictures.read(paths or [], self.config.image_size, crop)
        squares = [markup.figure(picture.square, picture.name) for picture in found]
        side = self.config.image_size
        told = [markup.paragraph(problem, "problem") for problem in problems]
        seen = [markup.paragraph(f"What the model sees, {side}x{side} pixels:")]
        return (
            markup.block(*told) if told else "",
            markup.block(*seen, markup.grid(squares, columns=4)) if squares else "",
        )

    def watch(
        self, paths: Sequence[str] | None, settings: chains.Settings
    ) -> Iterator[tuple[Recording, View]]:
        """Runs chains and shows them frame by frame.

        Raises:
          UserError: at once, if no file is a picture or a setting is out of range.
        """
        if not paths:
            raise UserError("Drop a picture first, or take an example.")
        settings.check()
        found, problems = pictures.read(paths, self.config.image_size, settings.crop)
        if not found:
            raise UserError(" ".join(problems))
        recorded = chains.recorded(self.run, found, settings)
        return ((recording, self.view(recording)) for recording in recorded)

    def view(self, recording: Recording | None, step: int | None = None, picture: int = 0) -> View:
        """A frame of a recording: the newest, or the newest up to a step.

        Args:
          recording: None before there is any.
          step: None for the newest frame, whatever restart it is of; when all is done, for the end
            of the chain that each picture keeps.
          picture: whose curves are drawn.
        """
        if recording is None or not recording.ends:
            return View("", markup.block(markup.paragraph(NO_CHAIN)), "")
        count = len(recording.names)
        rows = []
        for i in range(count):
            is_newest = step is None and not recording.is_complete
            shots = recording.restarts[-1] if is_newest else recording.shots(i)
            until = [shot for shot in shots if step is None or shot.step <= step]
            now = (until or shots)[-1 if until else 0]
            panels = {
                "observed": recording.squares[i],
                **{name: now.panels[name][i] for name in PANELS},
            }
            figures = [markup.figure(panel, name) for name, panel in panels.items()]
            if count > 1:
                rows.append(markup.heading(f"{i + 1}. {recording.names[i]}"))
            rows.append(markup.grid(figures, "large" if count == 1 else ""))
        picture = min(max(picture, 0), count - 1)
        end = recording.ends[-1]
        mark = end.step if step is None else step
        curves = {CURVES[name]: curve for name, curve in recording.curves(picture).items()}
        whose = f" of {recording.names[picture]}," if count > 1 else ""
        return View(
            self.status(recording),
            markup.block(*rows),
            markup.block(
                markup.heading(f"The energy{whose} and its terms"),
                markup.charts(curves, mark, recording.num_steps),
            ),
        )

    def status(self, recording: Recording | None) -> str:
        """How far a recording has come, as a sentence."""
        if recording is None or not recording.ends:
            return ""
        end, restarts = recording.ends[-1], recording.num_restarts
        told = f"Step {end.step} of {recording.num_steps}"
        if restarts > 1:
            told += f", restart {end.restart + 1} of {restarts}"
        if not recording.is_complete:
            return f"{told}."
        return f"{told}: done." + (" Shown is the chain of lowest energy." if restarts > 1 else "")

    def stopped(self, recording: Recording | None) -> str:
        """The same after a visitor has pressed Stop."""
        if recording is None or not recording.ends:
            return "Stopped. What is being compiled has to end before the next run begins."
        return self.status(recording) + ("" if recording.is_complete else " Stopped.")

    def player_file(self, recording: Recording | None, picture: int) -> str:
        """One HTML file that plays the chain of a picture, offline."""
        recording = present(recording)
        name = recording.names[picture]
        path = self._fresh_folder() / f"{_stem(name)}.html"
        path.write_text(player(recording, picture))
        return str(path)

    def extract(
        self,
        recording: Recording | None,
        picture: int,
        soft: bool,
        file_format: str,
        refine: str = "",
    ) -> tuple[str, list[str]]:
        """Mask, cut-out and background of a picture at its own size: HTML and files.

        Raises:
          UserError: if no chain has run, the picture is not there any more, or ``refine`` is
            ``colours`` without OpenCV.
        """
        recording = present(recording)
        regions, name = recording.regions(), recording.names[picture]
        try:
            photo = decode.read_picture(recording.paths[picture])
            assert regions.foreground_weight is not None
            weight, background = regions.foreground_weight[picture], regions.images[picture, -1]
            pi, crop = regions.pi[picture], recording.crop
            made = cutouts.files(photo, weight, background, pi, crop, soft, file_format, refine)
        except (decode.NotAPictureError, decode.UnreadableError) as error:
            raise UserError(f"{name} {error}.") from None
        folder, shown, paths = self._fresh_folder(), [], []
        kinds = {"masks": "mask", "cutouts": "cut_out", "backgrounds": "background"}
        kinds |= {kind: kind.replace("s/", "_") for kind in made if kind.startswith("objects/")}
        shown.append(markup.figure(_preview(Image.fromarray(photo)), "picture", "photo"))
        for kind, word in kinds.items():
            ending, content = made[kind]
            path = folder / f"{_stem(name)}_{word}{ending}"
            path.write_bytes(content)
            paths.append(str(path))
            with Image.open(path) as image:
                style = "clear" if image.mode == "RGBA" else "photo"
                shown.append(markup.figure(_preview(image), word.replace("_", "-"), style))
        height, width = photo.shape[:2]
        side = self.config.image_size
        told = (
            f"{name}, {width}x{height} pixels. The model works at {side}x{side}: a pixel of its "
            f"mask is about {max(1, round(max(width, height) / side))} pixels of the picture."
        )
        html = markup.block(markup.paragraph(told), markup.grid(shown, "two", columns=4))
        return html, paths

    def _fresh_folder(self) -> pathlib.Path:
        """A folder for files to be downloaded; those of long ago are removed."""
        for path in self.folder.glob("made_*"):
            if time.time() - path.stat().st_mtime > LONGEST:
                shutil.rmtree(path, ignore_errors=True)
        return pathlib.Path(tempfile.mkdtemp(prefix="made_", dir=self.folder))


def present(recording: Recording | None) -> Recording:
    """The recording, or a UserError where no chain has run."""
    if recording is None or not recording.ends:
        raise UserError(NO_CHAIN)
    return recording


@functools.lru_cache
def _stem(name: str) -> str:
    """A safe name, without ending, for what is made of a picture."""
    return (
        output_stems([name.replace("/", "_")], decode.EXTENSIONS, (".html",))[
            name.replace("/", "_")
        ].lstrip(".-")
        or "picture"
    )


def _preview(image: Image.Image) -> np.ndarray:
    small = image.copy() if image.mode in ("RGB", "RGBA") else image.convert("RGB")
    small.thumbnail((_PREVIEW, _PREVIEW))
    return np.asarray(small)
