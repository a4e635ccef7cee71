"""The model, its Langevin chains and its optimizers."""

import dataclasses
from typing import Any

from drc_jax.config.fields import check, field
from drc_jax.errors import UserError

_SIZE = 65_536  # widest layer, and largest latent
WEIGHT = 1e6  # largest weight of a term
MASK_SOURCES = ("pi", "gamma")
"""Whose foreground is the mask: mixing weights, or responsibilities for the observed image."""
MANY = 2**31 - 1  # steps are counted in int32


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The networks, the likelihood and the weights of the loss terms.

    Attributes:
      zf_dim, zb_dim, zs_dim: latent sizes of one foreground, background and pixel re-assignment
        (Table 1).
      num_slots: n, foregrounds that compete for the pixels, each with its own z_f; the networks are
        the same for all and for every n, so a trained model may be used with another n.
      slot_offset: o, subtracted from the mask logits of the foregrounds. log n keeps the prior
        share of all foregrounds together at one half; 0 gives every region the same.
      slot_area_weight: weight of a term beside J, as TV has one, that grows with the parts into
        which slots divide their common area (1.15).
      slot_contact_weight: weight of a term beside J that counts neighbouring pixels in different
        slots (1.16).
      generator_channels: channels of the 4x4 base map, then one entry per up-sampling block
        (Table 2). The image side is ``4 * 2 ** (len(generator_channels) - 1)``, at most 4096.
      classifier_channels: one entry per stride-2 convolution of the auxiliary classifiers;
        as many as the generators have blocks.
      ebm_width, ebm_reassign_width: hidden width of the foreground/background energy MLPs and
        of the re-assignment energy MLP.
      num_fg_categories, num_bg_categories: K_f and K_b, the symbolic categories.
      sigma: scale of the likelihood, in units of pixel values in [-1, 1].
      likelihood: ``laplace`` (absolute error) or ``gaussian`` (squared error).
      responsibility: ``channel`` (one per pixel and colour channel, as the supplement's
        listings) or ``pixel`` (one per pixel, the probabilistic reading). ``auto`` becomes
        ``channel`` for one slot and ``pixel`` for several, which could else share a pixel's
        colours out among them.
      langevin_weight: factor on the image terms (J and TV) of the posterior energy. 1 is the
        paper; a smaller image sums fewer pixels against the same prior and noise, and needs
        more.
      scale_loss_likelihood: divide the error by 2 sigma^2 in the generator loss too.
      generator_base_slope: leaky slope after the generators' linear layer.
      orthogonality: ``frobenius`` (norm, eq. 11) or ``squared`` (sum of squares).
      orthogonality_classifiers: also regularise the classifiers' convolutions.
      mask_classifier_input: the classifiers see image * sigmoid(mask logit).
      orthogonality_weight, tv_weight, pseudo_label_weight: weights of the regularisers.
      pixel_reassignment: whether G_s moves the background's pixels (1.2), as in the paper; without,
        each stays where it was painted, and z_s is of no use.
      energy_penalty_weight: weight of E^2 in the EBM loss, which bounds the energies (4.5); 0 is
        the paper.
      precision: of the networks' products. ``float32``; ``tf32`` lets GPUs round their operands
        to 10 bits, CPUs ignore it; ``bfloat16`` rounds operands and results of the convolutions,
        and what norms return, to 8 bits. Latents, sums, energies, noise and optimizers are
        float32 always.
    """

    zf_dim: int = field(256, least=1, most=_SIZE)
    zb_dim: int = field(256, least=1, most=_SIZE)
    zs_dim: int = field(512, least=1, most=_SIZE)
    num_slots: int = field(1, least=1, most=256)
    slot_offset: float = field(0.0, least=-1e3, most=1e3)
    slot_area_weight: float = field(0.0, least=0, most=WEIGHT)
    slot_contact_weight: float = field(0.0, least=0, most=WEIGHT)
    generator_channels: tuple[int, ...] = field((128, 1024, 512, 256, 128, 64), least=1, most=_SIZE)
    classifier_channels: tuple[int, ...] = field((64, 128, 256, 512, 1024), least=1, most=_SIZE)
    ebm_width: int = field(200, least=1, most=_SIZE)
    ebm_reassign_width: int = field(200, least=1, most=_SIZE)
    num_fg_categories: int = field(200, least=1, most=_SIZE)
    num_bg_categories: int = field(200, least=1, most=_SIZE)
    sigma: float = field(0.25, least=1e-6, most=1e6)
    likelihood: str = field("laplace", choices=("laplace", "gaussian"))
    responsibility: str = field("auto", choices=("auto", "channel", "pixel"))
    langevin_weight: float = field(1.0, least=1e-6, most=WEIGHT)
    scale_loss_likelihood: bool = True
    generator_base_slope: float = field(0.01, least=0, most=1e3)
    orthogonality: str = field("frobenius", choices=("frobenius", "squared"))
    orthogonality_classifiers: bool = False
    mask_classifier_input: bool = False
    pixel_reassignment: bool = True
    orthogonality_weight: float = field(1.0, least=0, most=WEIGHT)
    tv_weight: float = field(0.01, least=0, most=WEIGHT)
    pseudo_label_weight: float = field(0.1, least=0, most=WEIGHT)
    energy_penalty_weight: float = field(0.0, least=0, most=WEIGHT)
    precision: str = field("float32", choices=("float32", "tf32", "bfloat16"))

    def __post_init__(self) -> None:
        check(self)
        if self.responsibility == "auto":
            kind = "channel" if self.num_slots == 1 else "pixel"
            object.__setattr__(self, "responsibility", kind)
        if not 2 <= len(self.generator_channels) <= 11:
            raise UserError(
                "generator_channels needs the 4x4 base and one to ten blocks, got "
                f"{len(self.generator_channels)} entries, {self.generator_channels}"
            )
        if len(self.classifier_channels) != self.num_blocks:
            raise UserError(
                f"classifier_channels must have one entry per generator block: {self.num_blocks} "
                f"for generator_channels {self.generator_channels}, got "
                f"{len(self.classifier_channels)}"
            )

    @classmethod
    def supplement(cls, **fields: Any) -> "ModelConfig":
        """The supplement's variant, the default, with ``fields`` replaced.

        See ``docs/method.md``, "8 Where the sources differ".
        """
        return cls(**fields)

    @classmethod
    def released(cls, **fields: Any) -> "ModelConfig":
        """The variant of the authors' released code, with ``fields`` replaced.

        See ``docs/method.md``, "8 Where the sources differ".
        """
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
        """Size of z = [z_f^1, ..., z_f^n, z_b, z_s]."""
        return self.num_slots * self.zf_dim + self.zb_dim + self.zs_dim


@dataclasses.dataclass(frozen=True)
class SamplerConfig:
    """Langevin chains (appendix B). A step size is delta: drift delta^2/2, noise delta.

    Attributes:
      prior_steps, prior_step_size: K0 and its delta.
      posterior_steps, posterior_step_size: K1 and its delta.
      test_steps: posterior steps from a fresh chain at evaluation.
      test_chains: fresh chains per image there, whose regions are averaged (6.2), (6.3); 1 is the
        paper.
      test_mask_from: ``pi``, the paper, or ``gamma``: whether masks there are those of the mixing
        weights, or of the responsibilities for the image.
      test_sigma: sigma of (1.7) there, in the chains and in gamma; 0, the paper, for the
        model's.
      drift_limit: largest drift of a latent part beyond the pull of |z|^2 / 2, in units of the
        noise delta, in all chains (3.3); 0, the paper, for none.
      warm_up_steps, warm_up_step_size: the first steps of a fresh chain at evaluation, and their
        delta; 0 steps are the paper.
    """

    prior_steps: int = field(60, least=1, most=MANY)
    prior_step_size: float = field(0.4, least=1e-6, most=1e6)
    posterior_steps: int = field(40, least=1, most=MANY)
    posterior_step_size: float = field(0.1, least=1e-6, most=1e6)
    test_steps: int = field(300, least=1, most=MANY)
    test_chains: int = field(1, least=1, most=1_000)
    test_mask_from: str = field("pi", choices=MASK_SOURCES)
    test_sigma: float = field(0.0, least=0, most=1e6)
    drift_limit: float = field(0.0, least=0, most=1e6)
    warm_up_steps: int = field(0, least=0, most=MANY)
    warm_up_step_size: float = field(0.01, least=1e-6, most=1e6)

    def __post_init__(self) -> None:
        check(self)
        if 0 < self.test_sigma < 1e-6:
            raise UserError(f"test_sigma must be 0 or at least 1e-06, got {self.test_sigma}")


@dataclasses.dataclass(frozen=True)
class EncoderConfig:
    """An encoder q(z | x) trained beside the model, at whose answer new chains may start.

    Attributes:
      enabled: whether there is one; the paper has none.
      width: of its hidden layer. Its convolutions have the model's ``classifier_channels``.
      learning_rate: of its own Adam.
      updates: Adam's steps per iteration, all on its batch; each costs far less than a step of the
        chains.
    """

    enabled: bool = False
    width: int = field(256, least=1, most=_SIZE)
    learning_rate: float = field(1e-3, least=1e-12, most=1e6)
    updates: int = field(4, least=1, most=1_000)

    def __post_init__(self) -> None:
        check(self)


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """Two Adam optimizers with constant rates (appendix B).

    Attributes:
      generator_learning_rate: for the three generators and the two classifiers.
      ebm_learning_rate: for the three energy MLPs.
      beta1, beta2: Adam's decay rates, below 1.
      clip_norm: largest global gradient norm of each optimizer; 0 turns clipping off.
    """

    generator_learning_rate: float = field(1e-4, least=1e-12, most=1e6)
    ebm_learning_rate: float = field(2e-5, least=1e-12, most=1e6)
    beta1: float = field(0.5, least=0, most=0.999999)
    beta2: float = field(0.999, least=0, most=0.999999)
    clip_norm: float = field(0.0, least=0, most=1e30)

    def __post_init__(self) -> None:
        check(self)
