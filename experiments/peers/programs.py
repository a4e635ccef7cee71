"""drc_jax and the PyTorch peer behind one face, each to run alone in a child process.

A program holds the same weights, images and latents as the others, runs one of ``PARTS`` when told
over a pipe, and is otherwise idle. Only the PyTorch programs import torch.
"""

import abc
import ctypes
import dataclasses
import gc
import pathlib
import re
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import jax
import numpy as np

import drc_jax
from drc_jax.benchmark import timing
from drc_jax.config import TrainConfig
from drc_jax.runtime import devices

# The smallest need of memory first: some devices tell the highest so far, and never less.
PARTS = ("prior", "posterior", "train")
SHORTEST_ROUND = 0.5  # seconds


@dataclasses.dataclass(frozen=True)
class Setup:
    """What all programs share.

    Attributes:
      config: sizes, batch and steps; its data are not read.
      weights: .npz of parameters under their PyTorch names.
      platform: ``cpu`` or ``gpu``.
    """

    config: TrainConfig
    weights: pathlib.Path
    platform: str

    def inputs(self) -> tuple[np.ndarray, np.ndarray]:
        """Latents [B, D] and images [B, H, W, 3] in [-1, 1], float32, the same in every process."""
        rng = np.random.default_rng(0)
        batch, side = self.config.batch_size, self.config.model.image_size
        z = rng.standard_normal((batch, self.config.model.latent_dim), np.float32)
        return z, rng.uniform(-1, 1, (batch, side, side, 3)).astype(np.float32)

    def arrays(self) -> dict[str, np.ndarray]:
        """The weights."""
        with np.load(self.weights) as file:
            return dict(file)


class Program(abc.ABC):
    """One program at work on a ``Setup``; made when its libraries have been imported."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self._imported = _resident("VmRSS")

    @abc.abstractmethod
    def describe(self) -> str:
        """Framework, its version, and the device."""

    @abc.abstractmethod
    def gradient(self, images: int) -> tuple[np.ndarray, np.ndarray]:
        """Posterior energies [n] of the first n ``images``, and gradients [n, D].

        Computed for the whole batch: ``torch.compile`` makes another, slower program where it has
        seen two sizes.
        """

    @abc.abstractmethod
    def run(self, part: str) -> None:
        """Runs a part once and waits for its end."""

    def device_memory(self) -> int | None:
        """Most bytes the device held since ``measure_memory``; None where it is the host."""
        return None

    def measure_memory(self) -> None:
        """Starts to measure the peak anew; on the host needs Linux."""
        gc.collect()
        refs = pathlib.Path("/proc/self/clear_refs")
        if refs.exists():
            # What compilers have freed goes back to the system first, where libc can do that.
            getattr(ctypes.CDLL(None), "malloc_trim", int)(0)
            refs.write_text("5")  # the high-water mark back to what is resident now

    def memory(self) -> int:
        """Peak bytes on the device; on a CPU of the process, beyond those of its libraries."""
        return self.device_memory() or _resident("VmHWM") - self._imported

    def first_run(self, part: str) -> float:
        """Seconds of the first run, compiling included."""
        start = time.perf_counter()
        self.run(part)
        return time.perf_counter() - start

    def round(self, part: str) -> float:
        """Seconds per Langevin step of this chain, or per training iteration.

        The mean over as many runs as fill SHORTEST_ROUND.
        """
        runs, start = 0, time.perf_counter()
        while runs == 0 or time.perf_counter() - start < SHORTEST_ROUND:
            self.run(part)
            runs += 1
        return (time.perf_counter() - start) / runs / steps_of_run(self.setup.config, part)


def steps_of_run(config: TrainConfig, part: str) -> int:
    """How many units of ``Program.round`` one run of a part has."""
    sampler = config.sampler
    return {"prior": sampler.prior_steps, "posterior": sampler.posterior_steps, "train": 1}[part]


def _resident(field: str) -> int:
    """Resident bytes of this process, now (VmRSS) or at most (VmHWM); 0 where no one tells."""
    status = pathlib.Path("/proc/self/status")
    found = re.search(rf"{field}:\s*(\d+) kB", status.read_text()) if status.exists() else None
    return 1024 * int(found[1]) if found else 0


class JaxProgram(Program):
    """drc_jax through its public functions."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        config = setup.config
        jax.config.update("jax_platforms", "cpu" if setup.platform == "cpu" else "cuda")
        if setup.platform == "cpu" and config.num_devices > 1:
            jax.config.update("jax_num_cpu_devices", config.num_devices)
        self._mesh = devices.data_mesh(config.num_devices)
        params = drc_jax.interop.params_from_torch(config.model, setup.arrays())
        self._params: Any = jax.device_put(params, devices.on_all(self._mesh))
        z, self._images = jax.device_put(setup.inputs(), devices.by_rows(self._mesh))
        self._chains = {"prior": z, "posterior": z}
        self._runs = 0
        self._state: Any = None
        self._samplers = {part: timing.sampler(config, part) for part in self._chains}

    def describe(self) -> str:
        config, device = self.setup.config, jax.devices()[0]
        count = f"{config.num_devices} x " if config.num_devices > 1 else ""
        parts = f", {config.images_at_once} images at once" if config.images_at_once else ""
        return f"jax {jax.__version__} on {count}{device.device_kind} ({device.platform}){parts}"

    def gradient(self, images: int) -> tuple[np.ndarray, np.ndarray]:
        def total(params: Any, z: jax.Array, images: jax.Array) -> tuple[jax.Array, jax.Array]:
            energies = drc_jax.posterior_energy(self.setup.config.model, params, z, images)
            return energies.sum(), energies

        slope = jax.jit(jax.grad(total, argnums=1, has_aux=True))
        gradient, energies = slope(self._params, self._chains["posterior"], self._images)
        return np.asarray(energies)[:images], np.asarray(gradient)[:images]

    def run(self, part: str) -> None:
        self._runs += 1
        if part == "train":
            self._train()
            return
        keys = jax.random.split(jax.random.key(self._runs), self.setup.config.batch_size)
        z = self._samplers[part](self._params, keys, self._chains[part], self._images)
        self._chains[part] = z.block_until_ready()

    def _train(self) -> None:
        config = self.setup.config
        size = config.batch_size
        batch = {
            "image": self._images,
            "index": np.arange(size, dtype=np.int32),
            "flip": np.zeros(size, bool),
        }
        self._state = self._state or self._begun(drc_jax.init_state(config, size))
        self._state, _ = drc_jax.train_step(config, self._state, batch)
        jax.block_until_ready(self._state)

    def _begun(self, state: Any) -> Any:
        """A fresh state with the weights, which the step is given to keep."""
        places = jax.tree.map(lambda x: x.sharding, state.params)
        params, self._params = jax.device_put(self._params, places), None
        return dataclasses.replace(state, params=params)

    def device_memory(self) -> int | None:
        statistics = jax.devices()[0].memory_stats() or {}
        return statistics.get("peak_bytes_in_use")


class TorchProgram(Program):
    """The PyTorch peer.

    Args:
      setup: see ``Setup``.
      channels_last: layout of its convolutions.
      compiled: through ``torch.compile``.
    """

    def __init__(self, setup: Setup, *, channels_last: bool = False, compiled: bool = False):
        import torch

        from experiments.peers.torch_drc import TorchPeer

        super().__init__(setup)
        config = setup.config
        exact = config.model.precision == "float32"
        torch.backends.cudnn.allow_tf32 = not exact
        torch.backends.cuda.matmul.allow_tf32 = not exact
        self._torch, self._device = torch, "cuda" if setup.platform == "gpu" else "cpu"
        self._peer = TorchPeer(
            config.model,
            config.sampler,
            config.optimizer,
            device=self._device,
            bf16=config.model.precision == "bfloat16",
            channels_last=channels_last,
            arrays=setup.arrays(),
            compile_mode="default" if compiled else "",
        )
        z, images = setup.inputs()
        self._images = torch.tensor(images.transpose(0, 3, 1, 2).copy(), device=self._device)
        self._chains = {part: torch.tensor(z, device=self._device) for part in PARTS}
        self._of_training = self._chains["prior"]

    def describe(self) -> str:
        torch = self._torch
        if self._device == "cuda":
            return f"torch {torch.__version__} on {torch.cuda.get_device_name()} (gpu)"
        return f"torch {torch.__version__}, {torch.get_num_threads()} threads (cpu)"

    def gradient(self, images: int) -> tuple[np.ndarray, np.ndarray]:
        z = self._chains["posterior"].clone().requires_grad_()
        # As the sampler calls it: asking for no more than the gradient to z.
        self._peer.model.requires_grad_(False)
        energies = self._peer.posterior_energy(z, self._images)
        (gradient,) = self._torch.autograd.grad(energies.sum(), z)
        self._peer.model.requires_grad_(True)
        return energies.detach().cpu().numpy()[:images], gradient.cpu().numpy()[:images]

    def run(self, part: str) -> None:
        sampler, chains = self.setup.config.sampler, self._chains
        if part == "prior":
            steps = sampler.prior_steps, sampler.prior_step_size
            chains[part] = self._peer.prior_sample(chains[part], *steps)
        elif part == "posterior":
            steps = sampler.posterior_steps, sampler.posterior_step_size
            chains[part] = self._peer.posterior_sample(chains[part], self._images, *steps)
        else:
            chains[part], self._of_training, _ = self._peer.train_step(
                self._images, chains[part], self._of_training, None
            )
        if self._device == "cuda":
            self._torch.cuda.synchronize()

    def measure_memory(self) -> None:
        super().measure_memory()
        if self._device == "cuda":
            self._torch.cuda.reset_peak_memory_stats()

    def device_memory(self) -> int | None:
        return self._torch.cuda.max_memory_allocated() if self._device == "cuda" else None


class Referee(TorchProgram):
    """The peer in float64 on the CPU; draws the weights for all and writes them to their file."""

    def __init__(self, setup: Setup) -> None:
        import torch

        from experiments.peers.torch_model import TorchDRC

        torch.manual_seed(0)
        arrays: dict[str, Any] = TorchDRC(setup.config.model).arrays()
        np.savez(setup.weights, **arrays)
        model = dataclasses.replace(setup.config.model, precision="float32")
        config = dataclasses.replace(setup.config, model=model)
        super().__init__(dataclasses.replace(setup, platform="cpu", config=config))
        self._peer.model.double()
        self._images = self._images.double()
        self._chains = {part: chain.double() for part, chain in self._chains.items()}

    def gradient(self, images: int) -> tuple[np.ndarray, np.ndarray]:
        """The first images alone: float64 takes its time and its memory."""
        self._images = self._images[:images]
        self._chains = {part: chain[:images] for part, chain in self._chains.items()}
        return super().gradient(images)


PROGRAMS: dict[str, Callable[[Setup], Program]] = {
    "drc_jax": JaxProgram,
    "torch": TorchProgram,
    "torch channels-last": lambda setup: TorchProgram(setup, channels_last=True),
    "torch.compile": lambda setup: TorchProgram(setup, channels_last=True, compiled=True),
    "referee": Referee,
}


def serve(connection: Connection, name: str, setup: Setup) -> None:
    """A child process: makes the program, then calls what the pipe names until it closes.

    Sends ``(True, result)``, or ``(False, message)`` and ends. The first result is of ``describe``.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its children
    try:
        program = PROGRAMS[name](setup)
        connection.send((True, program.describe()))
        while True:
            method, arguments = connection.recv()
            connection.send((True, getattr(program, method)(*arguments)))
    except EOFError:
        return
    except Exception as error:  # whatever it is, the parent must hear of it
        lines = str(error).strip().splitlines() or [""]
        connection.send((False, f"{type(error).__name__}: {lines[0]}"))
