"""Pictures and settings to chains that are recorded while they run."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np

from drc_jax.app.frames import frames
from drc_jax.app.pictures import Picture
from drc_jax.app.recording import Recording
from drc_jax.config import LARGEST_SEED, TrainConfig
from drc_jax.errors import UserError
from drc_jax.evaluation.cutouts import CROPS
from drc_jax.inference import image_keys
from drc_jax.model import posterior
from drc_jax.runs.trained import Run

NUM_FRAMES = 50
"""About so many frames are kept of a chain."""
MOST_STEPS = 10_000
MOST_RESTARTS = 16


class Settings(NamedTuple):
    """How chains run.

    Attributes:
      steps: of each chain, at least 1.
      start: ``prior``, or ``encoder`` where the model has one.
      restarts: chains per picture, of which that of lowest energy is kept.
      seed: of the chains; a picture's chain depends on it and on the picture alone.
      crop: how a picture that is not square is seen; see `cutouts.to_square`.
    """

    steps: int
    start: str = "prior"
    restarts: int = 1
    seed: int = 0
    crop: str = "stretch"

    def check(self) -> None:
        """Raises UserError where a number is out of range or a name unknown."""
        bounds = {"steps": (1, MOST_STEPS), "restarts": (1, MOST_RESTARTS)}
        for name, (least, most) in {**bounds, "seed": (0, LARGEST_SEED)}.items():
            value = getattr(self, name)
            if not isinstance(value, int) or not least <= value <= most:
                raise UserError(f"{name} must be a whole number from {least} to {most}, {value!r}")
        if self.crop not in CROPS:
            raise UserError(f"crop must be one of {', '.join(CROPS)}; got {self.crop!r}")


def check_run(run: Run) -> None:
    """Raises UserError where a run has no chains to watch."""
    if not isinstance(run.config, TrainConfig):
        raise UserError(
            f"only runs of drc have regions that compete in a chain; this is one of "
            f"{run.method.name}"
        )


def starts(run: Run) -> list[str]:
    """Where this run's chains can begin."""
    return [
        start for start in posterior.STARTS if start == "prior" or posterior.has_encoder(run.params)
    ]


def recorded(
    run: Run, pictures: Sequence[Picture], settings: Settings, every: int = 0
) -> Iterator[Recording]:
    """Runs the chains of some pictures, and yields the recording as it grows.

    Args:
      run: a run of DRC.
      pictures: at least one.
      settings: how; the rest is the run's own, as for `experiments.extract`.
      every: steps between frames; 0 for about ``NUM_FRAMES``.

    Returns:
      An iterator that yields one and the same object after every frame.

    Raises:
      UserError: at once, if a setting is out of range or there is no picture.
      NonFiniteError: later, if no chain is finite any more.
    """
    check_run(run)
    settings.check()
    if not pictures:
        raise UserError("give at least one picture")
    squares = np.stack([picture.square for picture in pictures])
    # A program is compiled for every number of images, so there are few of them.
    padded = np.minimum(np.arange(1 << (len(squares) - 1).bit_length()), len(squares) - 1)
    keys = image_keys(jax.random.key(settings.seed), squares[padded])
    chains = frames(
        run.config.test_model,
        run.params,
        keys,
        squares[padded],
        num_steps=settings.steps,
        num_restarts=settings.restarts,
        every=every or math.ceil(settings.steps / NUM_FRAMES),
        **posterior.options(run.config.sampler, settings.start),
    )
    recording = Recording(
        [picture.name for picture in pictures],
        [picture.path for picture in pictures],
        squares,
        settings.crop,
        settings.steps,
        settings.restarts,
    )

    def run_on() -> Iterator[Recording]:
        for frame in chains:
            recording.add(frame)
            yield recording

    return run_on()
