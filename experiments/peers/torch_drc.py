"""Deep Region Competition as a plain PyTorch program: the peer that drc_jax is measured against.

The model, the sampler and the training step of docs/method.md 1 to 5, as a PyTorch user would write
them: ``nn.Module`` layers, ``F.interpolate`` then ``conv2d``, ``F.grid_sample``, and
``torch.autograd.grad`` to the latents alone. Parameters carry the names of the authors' PyTorch
files, so one dict of arrays serves both programs. torch is an extra that nothing else needs.

Images are NCHW float32 in [-1, 1], latents ``z = [z_f, z_b, z_s]`` are [B, D] float32.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from drc_jax.config import ModelConfig, OptimizerConfig, SamplerConfig
from drc_jax.errors import UserError
from experiments.peers.torch_model import TorchDRC

COMPILE_MODES = ("", "default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")


def langevin(
    energy: Callable[[Tensor], Tensor],
    z: Tensor,
    steps: int,
    delta: float,
    generator: torch.Generator | None = None,
    temperature: float = 1.0,
) -> Tensor:
    """Langevin dynamics (docs/method.md 3): z <- z - delta^2/2 dU/dz + delta sqrt(T) noise.

    Args:
      energy: [B, D] to [B].
      z: where the chains start, [B, D].
      steps: how many steps.
      delta: step size.
      generator: source of the noise, on z's device; None is torch's global one.
      temperature: factor on the noise's variance; 0 leaves the drift alone.

    Returns:
      Where the chains end, [B, D], detached.
    """
    z = z.detach()
    for _ in range(steps):
        z.requires_grad_()
        (gradient,) = torch.autograd.grad(energy(z).sum(), z)
        z = torch.add(z.detach(), gradient, alpha=-0.5 * delta**2)
        if temperature:
            noise = torch.randn(z.shape, generator=generator, device=z.device)
            z.add_(noise, alpha=delta * math.sqrt(temperature))
    return z


class TorchPeer:
    """A TorchDRC with its sampler and its optimizers: one training iteration of docs/method.md 5.

    Args:
      config: the model's sizes and variant.
      sampler: step counts and sizes of training.
      optimizer: rates of the two Adam optimizers.
      device: a torch device name.
      bf16: see TorchDRC.
      channels_last: keep convolutions in PyTorch's channels-last layout; on a CPU at full size a
        posterior step then takes about three quarters of the time.
      arrays: see TorchDRC.
      compile_mode: a mode of ``torch.compile`` for energies and losses; empty runs eagerly.

    Raises:
      UserError: if ``compile_mode`` is none of COMPILE_MODES.
    """

    def __init__(
        self,
        config: ModelConfig,
        sampler: SamplerConfig | None = None,
        optimizer: OptimizerConfig | None = None,
        *,
        device: str = "cpu",
        bf16: bool = False,
        channels_last: bool = False,
        arrays: Mapping[str, np.ndarray] | None = None,
        compile_mode: str = "",
    ) -> None:
        if compile_mode not in COMPILE_MODES:
            raise UserError(f"compile_mode must be one of {COMPILE_MODES}, got {compile_mode!r}")
        self.sampler = sampler or SamplerConfig()
        self.optimizer = optimizer or OptimizerConfig()
        self.model = model = TorchDRC(config, bf16, arrays).to(device)
        if channels_last:
            for weight in (p for p in model.parameters() if p.dim() == 4):
                weight.data = weight.contiguous(memory_format=torch.channels_last)
        self.posterior_energy, self.prior_energy = model.posterior_energy, model.prior_energy
        self.generator_loss, self.ebm_loss = model.generator_loss, model.ebm_loss
        if compile_mode:
            self.posterior_energy = torch.compile(self.posterior_energy, mode=compile_mode)
            self.prior_energy = torch.compile(self.prior_energy, mode=compile_mode)
            self.generator_loss = torch.compile(self.generator_loss, mode=compile_mode)
            self.ebm_loss = torch.compile(self.ebm_loss, mode=compile_mode)
        nets = (model.fg_net, model.bg_net, model.sp_net)
        self._generator_parameters = [p for net in nets for p in net.parameters()]
        self._ebm_parameters = list(model.ebm_net.parameters())
        betas = (self.optimizer.beta1, self.optimizer.beta2)
        self._generator_adam = torch.optim.Adam(
            self._generator_parameters,
            lr=self.optimizer.generator_learning_rate,
            betas=betas,
            fused=True,
        )
        self._ebm_adam = torch.optim.Adam(
            self._ebm_parameters, lr=self.optimizer.ebm_learning_rate, betas=betas, fused=True
        )

    def load_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Loads every parameter; see ``TorchDRC.load_arrays``."""
        self.model.load_arrays(arrays)

    def arrays(self) -> dict[str, np.ndarray]:
        """Copies of every parameter; see ``TorchDRC.arrays``."""
        return self.model.arrays()

    def posterior_sample(
        self,
        z: Tensor,
        x: Tensor,
        steps: int,
        delta: float,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
    ) -> Tensor:
        """``langevin`` on the posterior energy of the images x: [B, D] to [B, D]."""
        with self._frozen():
            return langevin(
                lambda z: self.posterior_energy(z, x), z, steps, delta, generator, temperature
            )

    def prior_sample(
        self,
        z: Tensor,
        steps: int,
        delta: float,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
    ) -> Tensor:
        """``langevin`` on the prior energy: [B, D] to [B, D]."""
        with self._frozen():
            return langevin(self.prior_energy, z, steps, delta, generator, temperature)

    @contextlib.contextmanager
    def _frozen(self) -> Iterator[None]:
        """Parameters want no gradient inside, so the sampler neither computes nor stores for it."""
        self.model.requires_grad_(False)
        try:
            yield
        finally:
            self.model.requires_grad_(True)

    def train_step(
        self, x: Tensor, z_posterior: Tensor, z_prior: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """One training iteration (docs/method.md 5): both chains, both losses, both optimizers.

        Args:
          x: images [B, 3, H, W].
          z_posterior: their posterior chains [B, D].
          z_prior: their prior chains [B, D].
          generator: source of the chains' noise; None is torch's global one.

        Returns:
          The two chains where they end, and scalar metrics still on the device.
        """
        sampler = self.sampler
        z_posterior = self.posterior_sample(
            z_posterior, x, sampler.posterior_steps, sampler.posterior_step_size, generator
        )
        z_prior = self.prior_sample(
            z_prior, sampler.prior_steps, sampler.prior_step_size, generator
        )
        generator_loss, generator_terms = self.generator_loss(z_posterior, x)
        self._update(self._generator_adam, self._generator_parameters, generator_loss)
        ebm_loss, ebm_terms = self.ebm_loss(z_posterior, z_prior)
        self._update(self._ebm_adam, self._ebm_parameters, ebm_loss)
        losses = {"generator_loss": generator_loss, "ebm_loss": ebm_loss}
        metrics = losses | generator_terms | ebm_terms
        return z_posterior, z_prior, {name: value.detach() for name, value in metrics.items()}

    def _update(self, adam: torch.optim.Adam, parameters: list[nn.Parameter], loss: Tensor) -> None:
        """One clipped Adam step on ``loss``, which depends on ``parameters`` alone."""
        adam.zero_grad(set_to_none=True)
        loss.backward()
        if self.optimizer.clip_norm:
            nn.utils.clip_grad_norm_(parameters, self.optimizer.clip_norm)
        adam.step()
