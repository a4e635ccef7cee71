"""The training loop: batches in, metrics, checkpoints and pictures out."""

import contextlib
import functools
import pathlib
import signal
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from drc_jax.data.packed.batches import check_batch_size, train_batches
from drc_jax.data.packed.format import PackedSplit
from drc_jax.runs import chain_files, checkpoint
from drc_jax.runs import method as methods
from drc_jax.runs.method import Method, State
from drc_jax.runs.workdir import claimed
from drc_jax.runtime import devices, processes
from drc_jax.runtime.processes import first_only, say
from drc_jax.runtime.signals import StopSignal
from drc_jax.training import step as steps
from drc_jax.training.chains import ChainStore, DeviceChains
from drc_jax.training.file_chains import FileChains
from drc_jax.training.outputs import Outputs


def train(
    config: Any, workdir: pathlib.Path, split: PackedSplit, method: Method | None = None
) -> signal.Signals | None:
    """Trains in ``workdir`` from where it stands to ``config.iterations``.

    Of several processes all call this, with the same config; process 0 alone writes and prints.
    Writes what ``drc_jax.runs.workdir`` lists. SIGTERM or SIGINT ends it early, after saving; a
    second one ends the process at once. A signal to one process ends all, a step later.

    Args:
      config: the run's config.
      workdir: a new or empty folder, or one in which the same run was begun.
      split: the training images, uint8, of the config's size.
      method: what to train; by default what the config belongs to, as it stands.

    Returns:
      The signal that ended it early, or None.

    Raises:
      UserError: if the folder is another run's, or its checkpoints or files cannot be used.
      NonFiniteError: if training diverges; no state from then on is saved.
    """
    method = method or methods.find(config.method)
    mesh = devices.data_mesh(config.num_devices)
    num_images = devices.shardable_images(mesh, len(split))
    method.check(config)
    check_batch_size(config.batch_size, num_images)
    shapes = _shapes(method, config, num_images)
    devices.check_room(mesh, *shapes)
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(StopSignal())
        first_only(lambda: stack.enter_context(claimed(workdir, config, split.info.fingerprint)))
        start, state, store = _begin(method, config, workdir, mesh, num_images, shapes)
        stack.callback(store.close)
        say(_beginning(config, workdir, mesh, start, len(split) - num_images))
        outputs = stack.enter_context(Outputs(method, config, workdir, split, store, start))
        if start >= config.iterations:
            outputs.draw(start, state)
            return None
        batches = train_batches(
            split,
            batch_size=config.batch_size,
            seed=config.seed,
            start_step=start,
            flip=config.data.flip,
            num_shards=mesh.size,
            shards=devices.own_shards(mesh),
        )
        stack.callback(batches.close)
        seed = np.uint32(config.seed)
        fed, signalled = store.feed(batches), processes.agreed(mesh, lambda: stop.number)
        run_step = steps.runner(method, mesh, config)
        step, number, unrecorded = start, signalled(), None
        with outputs.explaining_divergence():
            while step < config.iterations and number is None:
                batch, chains = next(fed)
                state, chains, metrics = run_step(state, chains, batch["image"], seed)
                store.put(batch, chains)
                # Read while the device is busy with this step, so recording costs no time.
                if unrecorded is not None:
                    outputs.record(*unrecorded)
                step, unrecorded, number = step + 1, (step + 1, metrics), signalled()
                is_last = step == config.iterations or number is not None
                if is_last or outputs.is_milestone(step):
                    outputs.record(*unrecorded)
                    unrecorded = None
                    outputs.milestone(step, state, is_last=is_last)
            outputs.wait()
    if number is None:
        say(f"trained {step} iterations in {workdir}")
        return None
    stopped_by = signal.Signals(number)
    done = f"saved at step {step}" if step > start else "nothing was trained"
    say(f"{stopped_by.name}: {done}; the same command resumes from there")
    return stopped_by


def _shapes(method: Method, config: Any, num_images: int) -> tuple[State, methods.PerImage]:
    """Shapes of a state without chains and, unless they lie in files, of all images' chains."""
    state = jax.eval_shape(functools.partial(method.fresh_state, config))
    if method.keeps_in_files(config):
        return state, ()
    draw = functools.partial(method.fresh_chains, config, config.seed)
    return state, jax.eval_shape(lambda: draw(jnp.arange(num_images)))


def _begin(
    method: Method,
    config: Any,
    workdir: pathlib.Path,
    mesh: Mesh,
    num_images: int,
    shapes: tuple[State, methods.PerImage],
) -> tuple[int, State, ChainStore]:
    """The step to go on from, the state on the devices, and the store of what images have.

    They are the newest checkpoint's, or fresh ones. Of several processes the first reads.
    """
    in_files = method.keeps_in_files(config)
    like = shapes[0] if in_files else method.join_chains(*shapes)

    def newest() -> tuple[int, State]:
        if checkpoint.saved_steps(workdir):
            return checkpoint.restore_state(workdir, like)
        return 0, None

    step, saved = first_only(newest) or (0, None)
    step = int(processes.from_first(np.int32(step), np.int32(0)))
    saved = processes.from_first(saved, like) if step else None
    state = steps.fresh_state(method, config, mesh) if saved is None else saved
    if in_files:
        folder = _chain_files(method, config, workdir, step, num_images)
        return step, devices.place(state, devices.on_all(mesh)), FileChains(folder, mesh)
    if saved is None:
        banks = steps.fresh_chains(method, config, mesh, num_images)
    else:
        state, banks = method.split_chains(saved)
        banks = devices.place(banks, devices.by_rows(mesh))
    return step, devices.place(state, devices.on_all(mesh)), DeviceChains(mesh, banks)


def _chain_files(
    method: Method, config: Any, workdir: pathlib.Path, step: int, num_images: int
) -> pathlib.Path:
    """Makes the working files of a run whose chains are on the host; their folder."""
    folder = workdir / chain_files.FOLDER
    draw = jax.jit(functools.partial(method.fresh_chains, config, config.seed))
    latent_dim = jax.eval_shape(draw, jnp.arange(1))[0].shape[-1]
    size = chain_files.num_bytes(num_images, latent_dim)
    say(f"writing {size / 1e9:.2g} GB of chains to {folder}")
    if step:
        chain_files.restore(checkpoint.saved_files(workdir, step), folder)
    else:
        chain_files.create(folder, num_images, latent_dim, draw)
    return folder


def _beginning(config: Any, workdir: pathlib.Path, mesh: Mesh, start: int, left_out: int) -> str:
    """A run's first line: where, how far, on what."""
    if start >= config.iterations:
        return f"{workdir} has already been trained for {start} iterations; nothing to do"
    devices_text = f"{config.num_devices} devices, " if config.num_devices > 1 else ""
    number = jax.process_count()
    where = f"{mesh.devices.flat[0].platform}{f', in {number} processes' if number > 1 else ''}"
    note = f"; the last {left_out} images are left out, so that devices have equal shares"
    return (
        f"{'resuming' if start else 'training'} in {workdir} from step {start} to "
        f"{config.iterations} on {devices_text}{where}; the first step includes compiling"
        f"{note if left_out else ''}"
    )
