"""The PyTorch peer's model: networks, energies and losses (docs/method.md 1, 2 and 4).

Images are NCHW float32 in [-1, 1], latents ``z = [z_f, z_b, z_s]`` are [B, D] float32. B is the
batch, H the image side, and the region axis holds the foreground first, the background last.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drc_jax.config import ModelConfig
from drc_jax.errors import UserError
from experiments.peers.torch_networks import Generator, LatentEBM, Reassignment

# The supplement's listings add this inside log pi and in gamma's denominator.
LISTING_EPSILON = 1e-8


class Rendering(NamedTuple):
    """What the generators draw for a batch of latents, in the dtype of the latents.

    Attributes:
      images: [B, 2, 3, H, W] in [-1, 1], foreground then re-assigned background.
      log_pi: [B, 2, 1, H, W], log mixing weights.
      sources: foreground and background before re-assignment, [B, 4, H, W] each: image and
        mask logit.
      grid: [B, H, W, 2], where each background pixel comes from.
    """

    images: Tensor
    log_pi: Tensor
    sources: tuple[Tensor, Tensor]
    grid: Tensor

    @property
    def reconstruction(self) -> Tensor:
        """x_hat [B, 3, H, W] in [-1, 1]."""
        return (self.log_pi.exp() * self.images).sum(1)


def variation(images: Tensor, reduce: Callable[[Tensor], Tensor]) -> Tensor:
    """Total variation, ``reduce(|dx|) + reduce(|dy|)``, of [B, 3, H, W]."""
    return reduce(images.diff(dim=3).abs()) + reduce(images.diff(dim=2).abs())


def per_image_sum(values: Tensor) -> Tensor:
    """[B, ...] to [B]."""
    return values.flatten(1).sum(1)


class TorchDRC(nn.Module):
    """Networks, energies and losses (docs/method.md 1, 2 and 4).

    Args:
      config: sizes and variant, as for drc_jax.
      bf16: run the generators and classifiers under bf16 autocast. Latents, the energy MLPs,
        the re-assignment and the likelihood stay float32.
      arrays: parameters, as for ``load_arrays``; None draws fresh orthogonal ones, which takes
        its time at full size.
    """

    def __init__(
        self,
        config: ModelConfig,
        bf16: bool = False,
        arrays: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.bf16 = bf16
        self.fg_net = Generator(config, config.zf_dim, config.num_fg_categories)
        self.bg_net = Generator(config, config.zb_dim, config.num_bg_categories)
        self.sp_net = Reassignment(config)
        self.ebm_net = LatentEBM(config)
        if arrays is not None:
            self.load_arrays(arrays)
            return
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.orthogonal_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def load_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Loads every parameter from arrays under its PyTorch name, without ``param/``.

        Raises:
          UserError: if a name is missing or unknown, or a shape differs.
        """
        try:
            self.load_state_dict({name: torch.tensor(value) for name, value in arrays.items()})
        except RuntimeError as error:
            raise UserError(f"the arrays do not fit this ModelConfig: {error}") from error

    def arrays(self) -> dict[str, np.ndarray]:
        """Copies of every parameter under its PyTorch name, on the host."""
        state = self.state_dict()
        return {name: value.detach().cpu().numpy().copy() for name, value in state.items()}

    def _autocast(self, like: Tensor) -> torch.autocast:
        return torch.autocast(like.device.type, torch.bfloat16, enabled=self.bf16)

    def render(self, z: Tensor) -> Rendering:
        """Draws both regions and mixes them (docs/method.md 1): z [B, D]."""
        z_f, z_b, z_s = z.split(self.ebm_net.split, dim=1)
        with self._autocast(z):
            foreground, foreground_mask, _ = self.fg_net(z_f)
            background, background_mask, base = self.bg_net(z_b)
            grid = self.sp_net(z_s, base).to(z.dtype)
        fg_source = torch.cat([foreground, foreground_mask], dim=1).to(z.dtype)
        bg_source = torch.cat([background, background_mask], dim=1).to(z.dtype)
        warped = F.grid_sample(
            bg_source, grid, mode="bilinear", padding_mode="zeros", align_corners=False
        )
        regions = torch.stack([fg_source, warped], dim=1)
        return Rendering(
            images=regions[:, :, :3],
            log_pi=regions[:, :, 3:].log_softmax(1),
            sources=(fg_source, bg_source),
            grid=grid,
        )

    def expected_log_likelihood(self, drawn: Rendering, x: Tensor, scale: float) -> Tensor:
        """J of docs/method.md 1: [B, 3, H, W], or [B, 1, H, W] with one responsibility per pixel.

        ``scale`` multiplies the absolute or squared error: 1 / (2 sigma^2), or 1.
        """
        error = drawn.images - x.unsqueeze(1)
        error = error.abs() if self.config.likelihood == "laplace" else error.square()
        if self.config.responsibility == "pixel":
            error = error.sum(2, keepdim=True)
            joint = drawn.log_pi - scale * error
            return (joint.detach().softmax(1) * joint).sum(1)
        pi, log_p = drawn.log_pi.exp(), -scale * error
        with torch.no_grad():
            foreground, background = (pi * log_p.exp()).unbind(1)
            claimed = foreground / (foreground + background + LISTING_EPSILON)
            responsibility = torch.stack([claimed, 1 - claimed], dim=1)
        return (responsibility * ((pi + LISTING_EPSILON).log() + log_p)).sum(1)

    def prior_energy(self, z: Tensor) -> Tensor:
        """U0 = E(z) + |z|^2 / 2 (docs/method.md 1): [B, D] to [B]."""
        return self.ebm_net(z) + 0.5 * z.square().sum(1)

    def posterior_energy(self, z: Tensor, x: Tensor) -> Tensor:
        """U1 of docs/method.md 1: latents [B, D] and images [B, 3, H, W] to [B]."""
        config = self.config
        drawn = self.render(z)
        fit = self.expected_log_likelihood(drawn, x, 1 / (2 * config.sigma**2))
        image_terms = config.tv_weight * variation(drawn.images[:, 1], per_image_sum)
        image_terms = image_terms - per_image_sum(fit)
        return self.prior_energy(z) + config.langevin_weight * image_terms

    def orthogonality(self) -> Tensor:
        """Eq. 11 summed over the convolutions of G_f and G_b, and their classifiers' if asked."""
        terms = []
        for weight in self._regularised_weights():
            flat = weight.flatten(1)
            gram = flat @ flat.T
            off_diagonal = gram - gram.diagonal().diag()
            if self.config.orthogonality == "frobenius":
                terms.append(torch.linalg.vector_norm(off_diagonal))
            else:
                terms.append(off_diagonal.square().sum())
        return torch.stack(terms).sum()

    def _regularised_weights(self) -> Iterator[Tensor]:
        for net in (self.fg_net, self.bg_net):
            for name, module in net.named_modules():
                in_classifier = name.startswith("encode_base")
                if isinstance(module, nn.Conv2d) and (
                    self.config.orthogonality_classifiers or not in_classifier
                ):
                    yield module.weight

    def class_logits(self, sources: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """C_f and C_b on ``Rendering.sources``: logits [B, K_f] and [B, K_b]."""
        images = [source[:, :3] for source in sources]
        if self.config.mask_classifier_input:
            images = [source[:, :3] * source[:, 3:].sigmoid() for source in sources]
        with self._autocast(images[0]):
            fg_logits, bg_logits = self.fg_net.classify(images[0]), self.bg_net.classify(images[1])
        dtype = images[0].dtype
        return fg_logits.to(dtype), bg_logits.to(dtype)

    def generator_loss(self, z: Tensor, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of generators and classifiers at posterior samples (docs/method.md 4, eq. 8 to 11).

        Args:
          z: posterior samples [B, D].
          x: their images [B, 3, H, W].

        Returns:
          The scalar loss and its unweighted terms.
        """
        config = self.config
        drawn = self.render(z)
        scale = 1 / (2 * config.sigma**2) if config.scale_loss_likelihood else 1.0
        z_f, z_b, _ = z.split(self.ebm_net.split, dim=1)
        with torch.no_grad():
            labels = self.ebm_net.fg_model(z_f).softmax(1), self.ebm_net.bg_model(z_b).softmax(1)
        logits = self.class_logits(drawn.sources)
        terms = {
            "log_likelihood": self.expected_log_likelihood(drawn, x, scale).mean(),
            "total_variation": variation(drawn.images[:, 1], torch.mean),
            "pseudo_label_foreground": F.cross_entropy(logits[0], labels[0]),
            "pseudo_label_background": F.cross_entropy(logits[1], labels[1]),
            "orthogonality": self.orthogonality(),
        }
        pseudo_label = terms["pseudo_label_foreground"] + terms["pseudo_label_background"]
        loss = (
            config.tv_weight * terms["total_variation"]
            + config.pseudo_label_weight * pseudo_label
            + config.orthogonality_weight * terms["orthogonality"]
            - terms["log_likelihood"]
        )
        return loss, terms

    def ebm_loss(self, z_posterior: Tensor, z_prior: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """mean E(z+) - mean E(z-) (docs/method.md 4); both [B, D]."""
        terms = {
            "energy_posterior": self.ebm_net(z_posterior).mean(),
            "energy_prior": self.ebm_net(z_prior).mean(),
        }
        return terms["energy_posterior"] - terms["energy_prior"], terms
