"""What is kept of a run of chains, to be looked at afterwards: small pictures and energies."""

import dataclasses
from typing import NamedTuple

import numpy as np

from drc_jax.app.frames import Frame, lowest
from drc_jax.evaluation import pictures
from drc_jax.evaluation.regions import HostRegions
from drc_jax.model.energies import EnergyParts

PANELS = ("reconstruction", "foreground", "background", "mask", "responsibilities")
"""What is drawn of each image beside itself."""

CURVES = {
    "energy": "U1, all terms",
    "likelihood": "image: - w J",
    "variation": "smoothness: w TV",
    "prior": "learned prior: E(z)",
    "norm": "normal prior: |z|\u00b2 / 2",
    "slots": "area and contact of slots",
}
"""The energies that are drawn, and what each is."""


class Shot(NamedTuple):
    """A frame as pictures.

    Attributes:
      step: steps done.
      panels: by name, uint8 [B, H, W, 3].
      energies: U1 under ``energy``, and its terms by name, [B] each.
    """

    step: int
    panels: dict[str, np.ndarray]
    energies: dict[str, np.ndarray]


def shot(frame: Frame, count: int) -> Shot:
    """The first ``count`` images of a frame as pictures."""
    images, pi, reconstruction, gamma = (
        np.asarray(array[:count])
        for array in (
            *(frame.regions.images, frame.regions.pi, frame.regions.reconstruction),
            frame.responsibilities,
        )
    )
    weight = 1.0 - pi[:, -1]
    slots = (pi[:, :-1, ..., None] * images[:, :-1]).sum(axis=1)
    share = np.maximum(weight, 1e-6)[..., None]
    panels = {
        "reconstruction": reconstruction,
        "foreground": pictures.cut_out(slots / share, weight),
        "background": images[:, -1],
        "mask": shares(pi),
        "responsibilities": shares(gamma),
    }
    energies = {"energy": frame.energy, **frame.parts._asdict()}
    return Shot(
        frame.step,
        {name: pictures.to_uint8(np.nan_to_num(panel)) for name, panel in panels.items()},
        {name: np.asarray(values[:count]) for name, values in energies.items()},
    )


def shares(weights: np.ndarray) -> np.ndarray:
    """Shares of regions as pictures: white for one foreground, a colour for each of several.

    Args:
      weights: [B, K, H, W] in [0, 1], the background last, which is black.

    Returns:
      uint8 [B, H, W, 3].
    """
    slots = weights.shape[1] - 1
    if slots == 1:
        return pictures.mask_to_uint8(np.nan_to_num(1.0 - weights[:, -1]))
    colours = pictures.label_colours(np.arange(1, slots + 1)).astype(np.float32)
    mixed = np.einsum("bkhw,kc->bhwc", np.nan_to_num(weights[:, :-1]), colours)
    return np.round(np.clip(mixed, 0, 255)).astype(np.uint8)


@dataclasses.dataclass
class Recording:
    """Chains of several pictures, as far as they have run.

    Attributes:
      names: of the pictures.
      paths: their files.
      squares: what the model sees of them, uint8 [B, S, S, 3].
      crop: how that was made of them; see `cutouts.to_square`.
      num_steps, num_restarts: what was asked for.
      restarts: the shots of each restart so far.
      ends: the newest frame of each restart.
    """

    names: list[str]
    paths: list[str]
    squares: np.ndarray
    crop: str
    num_steps: int
    num_restarts: int
    restarts: list[list[Shot]] = dataclasses.field(default_factory=list)
    ends: list[Frame] = dataclasses.field(default_factory=list)

    def add(self, frame: Frame) -> Shot:
        """Keeps a frame."""
        new = shot(frame, len(self.names))
        if frame.restart == len(self.restarts):
            self.restarts.append([])
            self.ends.append(frame)
        self.restarts[frame.restart].append(new)
        self.ends[frame.restart] = frame
        return new

    @property
    def is_complete(self) -> bool:
        """Whether all chains have run to their end."""
        ends = self.ends
        return len(ends) == self.num_restarts and ends[-1].step == self.num_steps

    def kept(self) -> np.ndarray:
        """The restart each picture keeps, int [B], of those that were run to their end.

        Where none was, the first.
        """
        done = [end for end in self.ends if end.step == self.num_steps] or self.ends[:1]
        return lowest(np.stack([end.energy for end in done]))[: len(self.names)]

    def shots(self, picture: int) -> list[Shot]:
        """The shots of the restart that a picture keeps."""
        return self.restarts[self.kept()[picture]]

    def steps(self) -> list[int]:
        """The steps of which there are shots, of the first restart."""
        return [each.step for each in self.restarts[0]]

    def regions(self) -> HostRegions:
        """The regions of each picture at the end of the restart that it keeps."""
        each = [self.ends[restart].regions for restart in self.kept()]
        images, pi, reconstruction = (
            np.stack([np.asarray(getattr(regions, name)[i]) for i, regions in enumerate(each)])
            for name in ("images", "pi", "reconstruction")
        )
        return HostRegions(images, pi, reconstruction, foreground_weight=1.0 - pi[:, -1])

    def latents(self) -> np.ndarray:
        """The latents [B, D] there."""
        return np.stack([self.ends[restart].z[i] for i, restart in enumerate(self.kept())])

    def curves(self, picture: int) -> dict[str, tuple[list[int], list[float]]]:
        """Steps and values of each energy of a picture, by names of ``CURVES``.

        Terms that are 0 throughout are left out.
        """
        shots = self.shots(picture)
        steps = [each.step for each in shots]
        found = {}
        for name in CURVES:
            values = [float(each.energies[name][picture]) for each in shots]
            if name == "energy" or any(values):
                found[name] = (steps, values)
        return found


assert set(CURVES) == {"energy", *EnergyParts._fields}
