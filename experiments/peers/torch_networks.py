"""The networks of the PyTorch peer (docs/method.md 2, Table 2).

Parameters carry the names of the authors' PyTorch files (``fg_net.decode_base.blocks.0.block.1``
and so on), so one dict of arrays serves both programs. Images are NCHW; B is the batch, H the image
side.
"""

import itertools
from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drc_jax.config import ModelConfig


def _named(**modules: nn.Module) -> nn.Sequential:
    """A Sequential whose members have names: the extra levels in the parameter names."""
    return nn.Sequential(OrderedDict(modules))


class InstanceNorm(nn.InstanceNorm2d):
    """Instance norm with scale and shift that keeps the layout of its input, on the CPU at least.

    PyTorch's own copies channels-last maps to NCHW and back; its CPU group norm does not, and with
    one channel per group is the same function.
    """

    def forward(self, features: Tensor) -> Tensor:
        """[B, C, H, W] to the same shape."""
        channels_last = features.is_contiguous(memory_format=torch.channels_last)
        if channels_last and features.device.type == "cpu":
            return F.group_norm(features, self.num_features, self.weight, self.bias, self.eps)
        return super().forward(features)


def _base(latent_dim: int, channels: int, slope: float) -> nn.Sequential:
    """[B, D] to the 4x4 map, its channels major: [B, 16 C]."""
    return nn.Sequential(nn.Linear(latent_dim, channels * 16), nn.LeakyReLU(slope, inplace=True))


def _decoder(channels: tuple[int, ...]) -> nn.Sequential:
    """Up-sampling blocks (Table 2): [B, C_0, 4, 4] to [B, C_n, H, H]."""
    blocks = [
        _named(
            block=nn.Sequential(
                nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
                nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
                InstanceNorm(outputs, affine=True),
                nn.LeakyReLU(0.01, inplace=True),
            )
        )
        for inputs, outputs in itertools.pairwise(channels)
    ]
    return _named(blocks=nn.Sequential(*blocks))


def _classifier(channels: tuple[int, ...], categories: int) -> nn.Sequential:
    """Auxiliary classifier (Table 2): [B, 3, H, H] to logits [B, K, 1, 1]."""
    layers: list[nn.Module] = [
        _named(
            block=nn.Sequential(
                nn.Conv2d(inputs, outputs, 4, stride=2, padding=1, bias=False),
                InstanceNorm(outputs, affine=True),
                nn.LeakyReLU(0.2, inplace=True),
            )
        )
        for inputs, outputs in zip((3, *channels[:-1]), channels, strict=True)
    ]
    return _named(blocks=nn.Sequential(*layers, nn.Conv2d(channels[-1], categories, 4)))


class Generator(nn.Module):
    """G_f or G_b with its auxiliary classifier (docs/method.md 1 and 2, Table 2)."""

    def __init__(self, config: ModelConfig, latent_dim: int, categories: int) -> None:
        super().__init__()
        channels = config.generator_channels
        self.fc = _base(latent_dim, channels[0], config.generator_base_slope)
        self.decode_base = _decoder(channels)
        self.im_head = _named(model=nn.Sequential(nn.Conv2d(channels[-1], 3, 3, padding=1)))
        self.ma_head = nn.Sequential(nn.Conv2d(channels[-1], 1, 3, padding=1))
        self.encode_base = _classifier(config.classifier_channels, categories)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[B, D] to image [B, 3, H, H] in [-1, 1], mask logit [B, 1, H, H], 4x4 map."""
        base = self.fc(z).unflatten(1, (-1, 4, 4))
        features = self.decode_base(base)
        return torch.tanh(self.im_head(features)), self.ma_head(features), base

    def classify(self, image: Tensor) -> Tensor:
        """C_f or C_b: [B, 3, H, H] to category logits [B, K]."""
        return self.encode_base(image).flatten(1)


class Reassignment(nn.Module):
    """G_s, the learned pixel re-assignment (docs/method.md 1 and 2)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        base, *rest = config.generator_channels
        self.fc = _base(config.zs_dim, base, config.generator_base_slope)
        self.decode_base_deform = _decoder((2 * base, *rest))
        self.decode_deform = _named(model=nn.Sequential(nn.Conv2d(rest[-1], 2, 3, padding=1)))

    def forward(self, z: Tensor, background_base: Tensor) -> Tensor:
        """z_s [B, D_s] and b_lat [B, C_0, 4, 4] to sampling grid [B, H, H, 2] in [-1, 1]."""
        base = self.fc(z).unflatten(1, (-1, 4, 4))
        features = self.decode_base_deform(torch.cat([background_base.detach(), base], dim=1))
        return torch.tanh(self.decode_deform(features)).permute(0, 2, 3, 1)


class LatentEBM(nn.Module):
    """The three energy MLPs F_f, F_b and F_s (docs/method.md 1 and 2)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()

        def mlp(*sizes: int) -> nn.Sequential:
            layers: list[nn.Module] = []
            for inputs, outputs in itertools.pairwise(sizes):
                layers += [nn.Linear(inputs, outputs), nn.LeakyReLU(0.2, inplace=True)]
            return nn.Sequential(*layers[:-1])

        width, wide = config.ebm_width, config.ebm_reassign_width
        self.split = (config.zf_dim, config.zb_dim, config.zs_dim)
        self.fg_model = mlp(config.zf_dim, width, width, config.num_fg_categories)
        self.bg_model = mlp(config.zb_dim, width, width, config.num_bg_categories)
        self.sp_model = mlp(config.zs_dim, wide, wide, wide, 1)

    def forward(self, z: Tensor) -> Tensor:
        """E(z) = LSE(F_f(z_f)) + LSE(F_b(z_b)) + F_s(z_s): [B, D] to [B]."""
        z_f, z_b, z_s = z.split(self.split, dim=1)
        categories = self.fg_model(z_f).logsumexp(1) + self.bg_model(z_b).logsumexp(1)
        return categories + self.sp_model(z_s).squeeze(1)
