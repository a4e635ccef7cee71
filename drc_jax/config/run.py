"""A training run: what every method's run shares, and the run of DRC."""

import dataclasses
from typing import Any, ClassVar, cast

from drc_jax.config.fields import check, field
from drc_jax.config.model import (
    MANY,
    WEIGHT,
    EncoderConfig,
    ModelConfig,
    OptimizerConfig,
    SamplerConfig,
)
from drc_jax.errors import UserError

SYNTHETIC_DATASETS = ("tm_dsprites", "scenes")
# JAX makes a key of the lowest 32 bits of a seed: two larger seeds may be the same one.
LARGEST_SEED = 2**32 - 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class SceneOptions:
    """What objects the generated ``scenes`` have; the defaults are the demo's.

    Attributes:
      objects: least and most number of objects, 1 to 3.
      shading: ``shaded``: lit as balls and tiles are; ``flat``: one colour each.
      touching: where there are two objects or more, the second covers an edge of the first.
      two_tone: each object has two colours, half and half, divided at a random angle.
      one_hue: all objects of a scene have the same hue.
      floor: ``grey``; or ``coloured``, as saturated as the objects and of a hue apart from theirs,
        so that saturation says nothing of what is foreground.
    """

    objects: tuple[int, ...] = (1, 2)
    shading: str = field("shaded", choices=("shaded", "flat"))
    touching: bool = False
    two_tone: bool = False
    one_hue: bool = False
    floor: str = field("grey", choices=("grey", "coloured"))

    def __post_init__(self) -> None:
        check(self)
        if len(self.objects) != 2 or not 1 <= self.objects[0] <= self.objects[1] <= 3:
            raise UserError(
                f"objects must be two numbers from 1 to 3, least and most; got {self.objects}"
            )

    def scene_options(self) -> dict[str, Any]:
        """The options that are not the demo's, by name."""
        return {
            f.name: getattr(self, f.name)
            for f in dataclasses.fields(SceneOptions)
            if getattr(self, f.name) != f.default
        }


@dataclasses.dataclass(frozen=True)
class DataConfig(SceneOptions):
    """Which packed data to train on; the options of `SceneOptions` are for ``scenes`` alone.

    Attributes:
      dataset: ``tm_dsprites`` and ``scenes`` are generated where missing; any other name only
        labels data that ``experiments.prepare`` has written to ``path``.
      path: folder of the packed splits; empty means ``data/<dataset>_<image size>``, with the
        scene options that are not the demo's between them.
      num_train, num_test: images to generate for a synthetic data set.
      seed: seed of a synthetic data set.
      flip: mirror images at random; a mirrored image has its own chains.
    """

    dataset: str = field("tm_dsprites", most=200)
    path: str = field("", most=4_000)
    num_train: int = field(20_000, least=1, most=10**9)
    num_test: int = field(1_000, least=1, most=10**9)
    seed: int = field(0, least=0, most=2**63 - 1)
    flip: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dataset != "scenes" and self.scene_options():
            raise UserError(
                f"{next(iter(self.scene_options()))} is an option of scenes; dataset "
                f"{self.dataset!r} takes none"
            )
        if not self.dataset:
            raise UserError("dataset must not be empty; try tm_dsprites")
        if not self.path and self.dataset not in SYNTHETIC_DATASETS:
            raise UserError(
                f"data.path must be given for dataset {self.dataset!r}: the folder that "
                "`python -m experiments.prepare` wrote"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What the training run of any method has; each method's config adds its own fields.

    A subclass sets `method`, has a ``model`` with an ``image_size`` or a field ``image_size``, and
    calls ``super().__post_init__()`` where it has checks of its own.

    Attributes:
      method: the method's name, the same for all configs of a class; stored with every run.
      data: which images.
      batch_size: images per iteration, over all devices.
      num_devices: devices, over all processes, that share every batch; each has its share of the
        images. It says which images a batch may have, so a run keeps it.
      iterations: training iterations in all.
      seed: everything random in training derives from (seed, step).
      log_every: iterations between lines of ``metrics.jsonl``.
      image_every: iterations between picture grids; 0 for none before the last.
      checkpoint_every: iterations between checkpoints; the last is always saved.
      keep_checkpoints: how many checkpoints stay on disk.
      eval_every: iterations between scores of held-out images (split ``test``, with masks) in
        ``metrics.jsonl``; 0 for none. Nothing is trained on them or chosen by them.
      eval_images: how many of them, evenly spaced over the split.
      eval_steps: sampler steps of their chains; 0 for as many as at testing.
    """

    method: ClassVar[str]

    data: DataConfig = DataConfig()
    batch_size: int = field(48, least=1, most=2**20)
    num_devices: int = field(1, least=1, most=2**20)
    iterations: int = field(10_000, least=1, most=MANY)
    seed: int = field(0, least=0, most=LARGEST_SEED)
    log_every: int = field(10, least=1, most=MANY)
    image_every: int = field(500, least=0, most=MANY)
    checkpoint_every: int = field(500, least=1, most=MANY)
    keep_checkpoints: int = field(3, least=1, most=MANY)
    eval_every: int = field(0, least=0, most=MANY)
    eval_images: int = field(32, least=1, most=2**20)
    eval_steps: int = field(0, least=0, most=MANY)

    def __post_init__(self) -> None:
        check(self)
        if self.batch_size % self.num_devices:
            raise UserError(
                f"num_devices must divide batch_size {self.batch_size}, got {self.num_devices}"
            )

    @property
    def image_size(self) -> int:
        """Side of the images in pixels: the model's."""
        return cast(Any, self).model.image_size


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig(RunConfig):
    """One training run of DRC; see `RunConfig` for the other fields.

    Attributes:
      model, sampler, optimizer, encoder: the parts above.
      images_at_once: 0 for the whole batch; otherwise every device takes its share of the batch in
        equal parts of this many images, one after the other, which needs less memory and gives
        the same result to rounding.
      chain_bank: where the chains of all images lie, ``device`` or ``host`` (files that are read
        ahead and written back, for image sets whose chains do not fit on the devices; one process).
      warm_up_iterations: for so many iterations ``warm_up_tv_weight`` stands in the place of
        ``model.tv_weight``: a background that has to be flat leaves objects to the foreground,
        which keeps them. 0 in the paper. Another program is compiled where they end.
      warm_up_tv_weight: lambda of (1.10) and (4.1) in these iterations.
    """

    method: ClassVar[str] = "drc"

    model: ModelConfig = dataclasses.field(default=ModelConfig())
    sampler: SamplerConfig = dataclasses.field(default=SamplerConfig())
    optimizer: OptimizerConfig = dataclasses.field(default=OptimizerConfig())
    encoder: EncoderConfig = dataclasses.field(default=EncoderConfig())
    images_at_once: int = field(0, least=0, most=2**20)
    chain_bank: str = field("device", choices=("device", "host"))
    warm_up_iterations: int = field(0, least=0, most=MANY)
    warm_up_tv_weight: float = field(1.0, least=0, most=WEIGHT)

    def in_force(self, step: int) -> "TrainConfig":
        """What the iteration after ``step`` others computes with."""
        if step >= self.warm_up_iterations:
            return self
        model = dataclasses.replace(self.model, tv_weight=self.warm_up_tv_weight)
        return dataclasses.replace(self, model=model)

    @property
    def test_model(self) -> ModelConfig:
        """``model`` as new images see it, with the sigma of ``sampler.test_sigma``."""
        sigma = self.sampler.test_sigma or self.model.sigma
        return dataclasses.replace(self.model, sigma=sigma)

    def __post_init__(self) -> None:
        super().__post_init__()
        share = self.batch_size // self.num_devices
        if self.images_at_once and share % self.images_at_once:
            raise UserError(
                f"images_at_once must be 0 or divide the {share} images that each device has of a "
                f"batch, got {self.images_at_once}"
            )
