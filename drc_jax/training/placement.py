"""Where a run's arrays lie: on one device, on several, or with the chains in files on the host.

The training loop knows a `Placement` alone.
"""

import functools
import pathlib
from collections.abc import Callable, Iterator, Mapping
from concurrent import futures
from typing import Any, NamedTuple, Protocol, Self

import jax
import numpy as np

from drc_jax.config import TrainConfig
from drc_jax.errors import UserError
from drc_jax.runs import checkpoint
from drc_jax.training import chain_files, processes, sharded_step
from drc_jax.training import chains as chain_banks
from drc_jax.training import devices as sharding
from drc_jax.training.state import TrainState, check_size, init_state, unchecked_init_state
from drc_jax.training.step import Chains, train_step, train_step_from_chains
from drc_jax.training.update import Metrics

Batch = Mapping[str, np.ndarray]
CopyFiles = Callable[[pathlib.Path], futures.Future[None]]


class Shards(NamedTuple):
    """Arguments of ``train_batches``: all images, or those of some devices."""

    num_shards: int = 1
    shards: list[int] | None = None


class Stop(Protocol):
    """``number`` is that of the signal by which training is to stop, or None; see `StopSignal`."""

    number: int | None


class Placement(Protocol):
    """What the training loop needs to know of where a run's arrays lie; a context manager."""

    @property
    def shards(self) -> Shards:
        """Which images of every batch this process reads."""
        ...

    @property
    def stop(self) -> Stop:
        """Tells that training is to stop, after the same step in every process."""
        ...

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


def placement(config: TrainConfig, workdir: pathlib.Path, num_images: int, stop: Stop) -> Placement:
    """The placement that a config asks for; nothing is written yet.

    Args:
      config: the run's.
      workdir: the run's folder.
      num_images: N, images in the training set.
      stop: the signals that reach this process.

    Raises:
      UserError: if the devices are not there, a batch has more images than they share, or several
        processes would keep chains in files.
    """
    count = jax.process_count()
    if config.chain_bank == "host" and count > 1:
        raise UserError(
            f"chain_bank 'host' works in one process only, and these are {count}; set "
            "chain_bank to 'device', or start one process with all of a machine's devices"
        )
    several = config.num_devices > 1 or count > 1
    base = (Devices if several else OneDevice)(config, workdir, num_images, stop)
    return base if config.chain_bank == "device" else HostChains(base, config, workdir)


class OneDevice:
    """Everything on the default device."""

    shards = Shards()
    chain_sharding = None

    def __init__(
        self, config: TrainConfig, workdir: pathlib.Path, num_images: int, stop: Stop
    ) -> None:
        self._config = config
        self._workdir = workdir
        self.num_images = num_images
        self.stop = stop

    def start(self) -> tuple[int, TrainState]:
        initialise = functools.partial(init_state, self._config, self.num_images)
        if checkpoint.saved_steps(self._workdir):
            like = jax.eval_shape(initialise)
            step, state = checkpoint.restore_state(self._workdir, like)
            return step, jax.device_put(state)
        return 0, initialise()

    def feed(self, batches: Iterator[Batch]) -> Iterator[Any]:
        return batches

    def step(self, state: TrainState, fed: Any) -> tuple[TrainState, Metrics]:
        return train_step(self._config, state, fed)

    def step_from_chains(
        self, state: TrainState, batch: Batch, chains: Chains
    ) -> tuple[TrainState, Chains, Metrics]:
        return train_step_from_chains(self._config, state, dict(batch), chains)

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


class Devices:
    """Images and chains shared by several devices, of one process or more; see `sharding`.

    Process 0 reads and writes the checkpoints. For one, the shares of each chain bank are gathered
    on every device in turn, and those of a resuming run come the same way.
    """

    def __init__(
        self, config: TrainConfig, workdir: pathlib.Path, num_images: int, stop: Stop
    ) -> None:
        self._config = config
        self._workdir = workdir
        self._mesh = sharding.data_mesh(config.num_devices)
        self.num_images = sharding.shardable_images(self._mesh, num_images)
        check_size(config, self.num_images)
        if processes.is_first() and self.num_images < num_images:
            print(
                f"{config.num_devices} devices share {self.num_images} images equally; the last "
                f"{num_images - self.num_images} are left out",
                flush=True,
            )
        self.shards = Shards(self._mesh.size, sharding.own_shards(self._mesh))
        self.chain_sharding = sharding.by_rows(self._mesh)
        self.stop: Stop = AgreedStop()
        self._own_stop = stop
        self._signal: jax.Array | None = None

    def start(self) -> tuple[int, TrainState]:
        initialise = functools.partial(unchecked_init_state, self._config, self.num_images)
        like = jax.eval_shape(initialise)

        def newest() -> tuple[int, TrainState | None]:
            if checkpoint.saved_steps(self._workdir):
                return checkpoint.restore_state(self._workdir, like)
            return 0, None

        step, state = processes.first_only(newest) or (0, None)
        step = int(processes.from_first(np.int32(step), np.int32(0)))
        if step == 0:
            return 0, sharding.init_state(self._config, self._mesh, self.num_images)
        return step, sharding.place_state(self._mesh, processes.from_first(state, like))

    def feed(self, batches: Iterator[Batch]) -> Iterator[Any]:
        return batches

    def step(self, state: TrainState, fed: Any) -> tuple[TrainState, Metrics]:
        number = self._own_stop.number or 0
        state, metrics = sharded_step.train_step(
            self._config, self._mesh, state, fed, signal=number
        )
        self._agree(metrics)
        return state, metrics

    def step_from_chains(
        self, state: TrainState, batch: Batch, chains: Chains
    ) -> tuple[TrainState, Chains, Metrics]:
        number = self._own_stop.number or 0
        state, chains, metrics = sharded_step.train_step_from_chains(
            self._config, self._mesh, state, dict(batch), chains, signal=number
        )
        self._agree(metrics)
        return state, chains, metrics

    def _agree(self, metrics: Metrics) -> None:
        """Takes the signal that a step has spread from its metrics."""
        # Looked at when the next step has been started, so that the devices need not wait.
        if self._signal is not None:
            self.stop.number = int(self._signal) or None
        self._signal = metrics.pop("signal")

    def to_host(self, state: TrainState) -> TrainState:
        return sharding.to_host(state)

    def file_copier(self) -> CopyFiles | None:
        return None

    def first_posterior(self, state: TrainState, count: int) -> jax.Array:
        return sharding.first_posterior(self._mesh, state, count)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        pass


class HostChains:
    """Chains in files, everything else where another placement has it; see `chain_banks`.

    The files are of one process; the device of an image gets its chains and gives them back.
    """

    def __init__(
        self, base: OneDevice | Devices, config: TrainConfig, workdir: pathlib.Path
    ) -> None:
        self._base = base
        self._config = config
        self._workdir = workdir
        self._folder = workdir / chain_files.FOLDER
        self._saved: pathlib.Path | None = None
        self._banks: chain_banks.HostBanks | None = None

    @property
    def shards(self) -> Shards:
        return self._base.shards

    @property
    def stop(self) -> Stop:
        return self._base.stop

    def start(self) -> tuple[int, TrainState]:
        step, state = self._base.start()
        if step:
            self._saved = checkpoint.saved_files(self._workdir, step)
        return step, state

    def feed(self, batches: Iterator[Batch]) -> Iterator[Any]:
        """Makes the working files, then adds its chains to every batch."""
        num_images, latent_dim = self._base.num_images, self._config.model.latent_dim
        size = chain_files.num_bytes(num_images, latent_dim)
        print(f"writing {size / 1e9:.2g} GB of chains to {self._folder}", flush=True)
        if self._saved is None:
            chain_files.create(self._folder, num_images, latent_dim, self._config.seed)
        else:
            chain_files.restore(self._saved, self._folder)
        self._banks = chain_banks.HostBanks(self._folder, self._base.chain_sharding)
        return self._banks.feed(batches)

    def step(self, state: TrainState, fed: Any) -> tuple[TrainState, Metrics]:
        assert self._banks is not None
        batch, chains = fed
        state, chains, metrics = self._base.step_from_chains(state, batch, chains)
        self._banks.store(batch, chains)
        return state, metrics

    def to_host(self, state: TrainState) -> TrainState:
        return self._base.to_host(state)

    def file_copier(self) -> CopyFiles | None:
        assert self._banks is not None
        return self._banks.copy_to

    def first_posterior(self, state: TrainState, count: int) -> jax.Array:
        if self._banks is not None:
            return jax.device_put(self._banks.posterior(count))
        assert self._saved is not None
        return jax.device_put(chain_files.read_posterior(self._saved, count))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._banks is not None:
            self._banks.close()


class AgreedStop:
    """A signal that has reached any process, known to all after the same step."""

    number: int | None = None
