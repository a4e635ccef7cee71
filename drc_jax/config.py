"""Frozen, hashable configuration: what is built, sampled, trained, and on which data.

Every value is checked when a dataclass is made, so a config that exists is one that can run.
Defaults are those of the paper's supplement (Tables 1 and 2, appendix B).
"""

import dataclasses
from typing import Any, ClassVar

from drc_jax.errors import UserError
from drc_jax.fields import check_at_least, check_choice, check_positive, check_types
from drc_jax.fields import differing_fields as differing_fields
from drc_jax.fields import from_dict as from_dict
from drc_jax.fields import to_dict as to_dict


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The networks, the likelihood and the weights of the loss terms.

    Attributes:
      zf_dim, zb_dim, zs_dim: latent sizes of foreground, background and pixel re-assignment
        (Table 1).
      generator_channels: channels of the 4x4 base map, then one entry per up-sampling block
        (Table 2). The image side is ``4 * 2 ** (len(generator_channels) - 1)``.
      classifier_channels: one entry per stride-2 convolution of the auxiliary classifiers;
        as many as the generators have blocks.
      ebm_width, ebm_reassign_width: hidden width of the foreground/background energy MLPs and
        of the re-assignment energy MLP.
      num_fg_categories, num_bg_categories: K_f and K_b, the symbolic categories.
      sigma: scale of the likelihood, in units of pixel values in [-1, 1].
      likelihood: ``laplace`` (absolute error) or ``gaussian`` (squared error).
      responsibility: ``channel`` (one per pixel and colour channel, as the supplement's
        listings) or ``pixel`` (one per pixel, the probabilistic reading).
      langevin_weight: factor on the image terms (J and TV) of the posterior energy. 1 is the
        paper; a smaller image sums fewer pixels against the same prior and noise, and needs
        more.
      scale_loss_likelihood: divide the error by 2 sigma^2 in the generator loss too.
      generator_base_slope: leaky slope after the generators' linear layer.
      orthogonality: ``frobenius`` (norm, eq. 11) or ``squared`` (sum of squares).
      orthogonality_classifiers: also regularise the classifiers' convolutions.
      mask_classifier_input: the classifiers see image * sigmoid(mask logit).
      orthogonality_weight, tv_weight, pseudo_label_weight: weights of the regularisers.
      precision: of the networks' products. ``float32``; ``tf32`` lets GPUs round their operands
        to 10 bits, CPUs ignore it; ``bfloat16`` rounds operands and results of the convolutions,
        and what norms return, to 8 bits. Latents, sums, energies, noise and optimizers are
        float32 always.
    """

    zf_dim: int = 256
    zb_dim: int = 256
    zs_dim: int = 512
    generator_channels: tuple[int, ...] = (128, 1024, 512, 256, 128, 64)
    classifier_channels: tuple[int, ...] = (64, 128, 256, 512, 1024)
    ebm_width: int = 200
    ebm_reassign_width: int = 200
    num_fg_categories: int = 200
    num_bg_categories: int = 200
    sigma: float = 0.25
    likelihood: str = "laplace"
    responsibility: str = "channel"
    langevin_weight: float = 1.0
    scale_loss_likelihood: bool = True
    generator_base_slope: float = 0.01
    orthogonality: str = "frobenius"
    orthogonality_classifiers: bool = False
    mask_classifier_input: bool = False
    orthogonality_weight: float = 1.0
    tv_weight: float = 0.01
    pseudo_label_weight: float = 0.1
    precision: str = "float32"

    def __post_init__(self) -> None:
        check_types(self)
        check_at_least(
            self,
            1,
            "zf_dim",
            "zb_dim",
            "zs_dim",
            "generator_channels",
            "classifier_channels",
            "ebm_width",
            "ebm_reassign_width",
            "num_fg_categories",
            "num_bg_categories",
        )
        check_positive(self, "sigma", "langevin_weight")
        check_at_least(
            self,
            0,
            "orthogonality_weight",
            "tv_weight",
            "pseudo_label_weight",
            "generator_base_slope",
        )
        check_choice(self, "likelihood", ("laplace", "gaussian"))
        check_choice(self, "responsibility", ("channel", "pixel"))
        check_choice(self, "orthogonality", ("frobenius", "squared"))
        check_choice(self, "precision", ("float32", "tf32", "bfloat16"))
        if len(self.generator_channels) < 2:
            raise UserError(
                "generator_channels needs the 4x4 base and at least one block, got "
                f"{self.generator_channels}"
            )
        if len(self.classifier_channels) != self.num_blocks:
            raise UserError(
                f"classifier_channels must have one entry per generator block: {self.num_blocks} "
                f"for generator_channels {self.generator_channels}, got "
                f"{len(self.classifier_channels)}"
            )

    @classmethod
    def supplement(cls, **fields: Any) -> "ModelConfig":
        """The supplement's variant (SPEC section 8, the default), with ``fields`` replaced."""
        return cls(**fields)

    @classmethod
    def released(cls, **fields: Any) -> "ModelConfig":
        """The authors' released code's variant (SPEC section 8), with ``fields`` replaced."""
        defaults: dict[str, Any] = dict(
            ebm_reassign_width=400,
            scale_loss_likelihood=False,
            generator_base_slope=0.2,
            orthogonality="squared",
            orthogonality_classifiers=True,
            orthogonality_weight=0.1,
            mask_classifier_input=True,
        )
        return cls(**{**defaults, **fields})

    @property
    def num_blocks(self) -> int:
        """Number of up-sampling blocks in each generator."""
        return len(self.generator_channels) - 1

    @property
    def image_size(self) -> int:
        """Image side in pixels, 4 * 2^blocks."""
        return 4 * 2**self.num_blocks

    @property
    def latent_dim(self) -> int:
        """Size of z = [z_f, z_b, z_s]."""
        return self.zf_dim + self.zb_dim + self.zs_dim


@dataclasses.dataclass(frozen=True)
class SamplerConfig:
    """Langevin chains (appendix B). A step size is delta: drift delta^2/2, noise delta.

    Attributes:
      prior_steps, prior_step_size: K0 and its delta.
      posterior_steps, posterior_step_size: K1 and its delta.
      test_steps: posterior steps from a fresh chain at evaluation.
    """

    prior_steps: int = 60
    prior_step_size: float = 0.4
    posterior_steps: int = 40
    posterior_step_size: float = 0.1
    test_steps: int = 300

    def __post_init__(self) -> None:
        check_types(self)
        check_at_least(self, 1, "prior_steps", "posterior_steps", "test_steps")
        check_positive(self, "prior_step_size", "posterior_step_size")


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """Two Adam optimizers with constant rates (appendix B).

    Attributes:
      generator_learning_rate: for the three generators and the two classifiers.
      ebm_learning_rate: for the three energy MLPs.
      beta1, beta2: Adam's decay rates.
      clip_norm: largest global gradient norm of each optimizer; 0 turns clipping off.
    """

    generator_learning_rate: float = 1e-4
    ebm_learning_rate: float = 2e-5
    beta1: float = 0.5
    beta2: float = 0.999
    clip_norm: float = 0.0

    def __post_init__(self) -> None:
        check_types(self)
        check_positive(self, "generator_learning_rate", "ebm_learning_rate")
        check_at_least(self, 0, "beta1", "beta2", "clip_norm")
        for name in ("beta1", "beta2"):
            if getattr(self, name) >= 1:
                raise UserError(f"{name} must be below 1, got {getattr(self, name)!r}")


SYNTHETIC_DATASETS = ("tm_dsprites", "scenes")


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which packed data to train on.

    Attributes:
      dataset: ``tm_dsprites`` and ``scenes`` are generated where missing; any other name only
        labels data that ``experiments.prepare`` has written to ``path``.
      path: folder of the packed splits; empty means ``data/<dataset>_<image size>``.
      num_train, num_test: images to generate for a synthetic data set.
      seed: seed of a synthetic data set.
      flip: mirror images at random; a mirrored image has its own chains.
    """

    dataset: str = "tm_dsprites"
    path: str = ""
    num_train: int = 20_000
    num_test: int = 1_000
    seed: int = 0
    flip: bool = True

    def __post_init__(self) -> None:
        check_types(self)
        check_at_least(self, 1, "num_train", "num_test")
        check_at_least(self, 0, "seed")
        if not self.dataset:
            raise UserError("dataset must not be empty; try tm_dsprites")
        if not self.path and self.dataset not in SYNTHETIC_DATASETS:
            raise UserError(
                f"data.path must be given for dataset {self.dataset!r}: the folder that "
                "`python -m experiments.prepare` wrote"
            )


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """One training run of DRC.

    Attributes:
      model, sampler, optimizer, data: the parts above.
      batch_size: images per iteration, over all devices.
      images_at_once: 0 for the whole batch; otherwise every device takes its share of the batch in
        equal parts of this many images, one after the other, which needs less memory and gives
        the same result to rounding.
      num_devices: devices, over all processes, that share every batch; each has its share of the
        images and their chains. It says which images a batch may have, so a run keeps it.
      chain_bank: where the chains of all images lie, ``device`` or ``host`` (files that are read
        ahead and written back, for image sets whose chains do not fit on the devices; one process).
      iterations: training iterations in all.
      seed: everything random in training derives from (seed, step).
      log_every: iterations between lines of ``metrics.jsonl``.
      image_every: iterations between picture grids; 0 for none before the last.
      checkpoint_every: iterations between checkpoints; the last is always saved.
      keep_checkpoints: how many checkpoints stay on disk.
    """

    method: ClassVar[str] = "drc"

    model: ModelConfig = ModelConfig()
    sampler: SamplerConfig = SamplerConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    data: DataConfig = DataConfig()
    batch_size: int = 48
    images_at_once: int = 0
    num_devices: int = 1
    chain_bank: str = "device"
    iterations: int = 10_000
    seed: int = 0
    log_every: int = 10
    image_every: int = 500
    checkpoint_every: int = 500
    keep_checkpoints: int = 3

    def __post_init__(self) -> None:
        check_types(self)
        check_at_least(
            self,
            1,
            "batch_size",
            "num_devices",
            "iterations",
            "log_every",
            "checkpoint_every",
            "keep_checkpoints",
        )
        check_at_least(self, 0, "seed", "image_every", "images_at_once")
        check_choice(self, "chain_bank", ("device", "host"))
        if self.batch_size % self.num_devices:
            raise UserError(
                f"num_devices must divide batch_size {self.batch_size}, got {self.num_devices}"
            )
        share = self.batch_size // self.num_devices
        if self.images_at_once and share % self.images_at_once:
            raise UserError(
                f"images_at_once must be 0 or divide the {share} images that each device has of a "
                f"batch, got {self.images_at_once}"
            )

    @property
    def image_size(self) -> int:
        """Side of the images in pixels."""
        return self.model.image_size
