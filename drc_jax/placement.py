"""Where a run's chains lie: with the rest of the state on the device, or in files on the host.

The training loop knows a `Placement` alone.
"""

import functools
import pathlib
from collections.abc import Callable, Iterator, Mapping
from concurrent import futures
from typing import Any, Protocol, Self

import jax
import numpy as np

from drc_jax import chain_banks, checkpoint
from drc_jax.config import TrainConfig
from drc_jax.train_state import TrainState, init_state
from drc_jax.train_step import train_step, train_step_from_chains
from drc_jax.update import Metrics

Batch = Mapping[str, np.ndarray]
CopyFiles = Callable[[pathlib.Path], futures.Future[None]]


class Placement(Protocol):
    """What the training loop needs to know of where a run's arrays lie; a context manager."""

    def start(self) -> tuple[int, TrainState]:
        """The step and state to go on from: the newest checkpoint's, or fresh ones."""
        ...

    def feed(self, batches: Iterator[Batch]) -> Iterator[Any]:
        """Makes of batches of images what `step` takes; called once, after `start`."""
        ...

    def step(self, state: TrainState, fed: Any) -> tuple[TrainState, Metrics]:
        """One training step; the state is used up."""
        ...

    def to_host(self, state: TrainState) -> TrainState:
        """The state as a checkpoint has it, of NumPy arrays that no step writes to."""
        ...

    def file_copier(self) -> CopyFiles | None:
        """Copies what a checkpoint has beside the state; for `checkpoint.CheckpointWriter.save`."""
        ...

    def first_posterior(self, state: TrainState, count: int) -> jax.Array:
        """Posterior chains [count, D] of the first images, not mirrored."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc_info: object) -> None: ...


def placement(config: TrainConfig, workdir: pathlib.Path, num_images: int) -> Placement:
    """The placement that a config asks for.

    Args:
      config: the run's.
      workdir: the run's folder.
      num_images: N, images in the training set.
    """
    if config.chain_bank == "host":
        return HostChains(config, workdir, num_images)
    return OneDevice(config, workdir, num_images)


class OneDevice:
    """Everything on the default device."""

    def __init__(self, config: TrainConfig, workdir: pathlib.Path, num_images: int) -> None:
        self._config = config
        self._workdir = workdir
        self._num_images = num_images

    def start(self) -> tuple[int, TrainState]:
        initialise = functools.partial(init_state, self._config, self._num_images)
        if checkpoint.saved_steps(self._workdir):
            return checkpoint.restore_state(self._workdir, jax.eval_shape(initialise))
        return 0, initialise()

    def feed(self, batches: Iterator[Batch]) -> Iterator[Any]:
        return batches

    def step(self, state: TrainState, fed: Any) -> tuple[TrainState, Metrics]:
        return train_step(self._config, state, fed)

    def to_host(self, state: TrainState) -> TrainState:
        return checkpoint.to_host(state)

    def file_copier(self) -> CopyFiles | None:
        return None

    def first_posterior(self, state: TrainState, count: int) -> jax.Array:
        assert state.posterior_chains is not None
        return state.posterior_chains[:count, 0]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        pass


class HostChains(OneDevice):
    """Chains in files, everything else on the default device; see `chain_banks`."""

    def __init__(self, config: TrainConfig, workdir: pathlib.Path, num_images: int) -> None:
        super().__init__(config, workdir, num_images)
        self._folder = workdir / chain_banks.FOLDER
        self._saved: pathlib.Path | None = None
        self._banks: chain_banks.HostBanks | None = None

    def start(self) -> tuple[int, TrainState]:
        step, state = super().start()
        if step:
            self._saved = checkpoint.saved_files(self._workdir, step)
        return step, state

    def feed(self, batches: Iterator[Batch]) -> Iterator[Any]:
        """Makes the working files, then adds its chains to every batch."""
        latent_dim = self._config.model.latent_dim
        size = chain_banks.num_bytes(self._num_images, latent_dim)
        print(f"writing {size / 1e9:.2g} GB of chains to {self._folder}", flush=True)
        if self._saved is None:
            chain_banks.create(self._folder, self._num_images, latent_dim, self._config.seed)
        else:
            chain_banks.restore(self._saved, self._folder)
        self._banks = chain_banks.HostBanks(self._folder)
        return self._banks.feed(batches)

    def step(self, state: TrainState, fed: Any) -> tuple[TrainState, Metrics]:
        assert self._banks is not None
        batch, chains = fed
        state, chains, metrics = train_step_from_chains(self._config, state, batch, chains)
        self._banks.store(batch, chains)
        return state, metrics

    def file_copier(self) -> CopyFiles | None:
        assert self._banks is not None
        return self._banks.copy_to

    def first_posterior(self, state: TrainState, count: int) -> jax.Array:
        if self._banks is not None:
            return self._banks.posterior(count)
        assert self._saved is not None
        return jax.device_put(chain_banks.read_posterior(self._saved, count))

    def __exit__(self, *exc_info: object) -> None:
        if self._banks is not None:
            self._banks.close()
