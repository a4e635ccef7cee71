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
from drc_jax.runs.chain_store import ChainStore
from drc_jax.runs.method import Method, PerImage, State
from drc_jax.runs.outputs import Outputs
from drc_jax.runs.workdir import claimed
from drc_jax.runtime import devices, processes
from drc_jax.runtime.processes import first_only, say
from drc_jax.runtime.signals import StopSignal
from drc_jax.training import step as steps
from drc_jax.training.chains import DeviceChains
from drc_jax.training.file_chains import FileChains


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
    draw = functools.partial(method.fresh_chains, config, config.seed)
    shapes = (
        jax.eval_shape(functools.partial(method.fresh_state, config)),
        jax.eval_shape(lambda: draw(jnp.arange(num_images))),
    )
    devices.check_room(mesh, shapes[0], () if method.keeps_in_files(config) else shapes[1])
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
        fed, signalled = store.feed(batches), processes.agreed(mesh, lambda: stop.number)
        run_step, seed = steps.runner(method, mesh, config), np.uint32(config.seed)
        step, number, unrecorded = start, signalled(), None
        with outputs.explaining_divergence():
            while step < config.iterations and number is None:
                batch, chains = next(fed)
                state, chains, metrics = run_step(step, state, chains, batch["image"], seed)
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


def _begin(
    method: Method,
    config: Any,
    workdir: pathlib.Path,
    mesh: Mesh,
    num_images: int,
    shapes: tuple[State, PerImage],
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

    step, state = first_only(newest) or (0, None)
    step = int(processes.from_first(np.int32(step), np.int32(0)))
    if step:
        state = processes.from_first(state, like)
    else:
        state = steps.fresh_state(method, config, mesh)
    if in_files:
        folder = _chain_files(method, config, workdir, step, shapes[1])
        return step, devices.place(state, devices.on_all(mesh)), FileChains(folder, mesh)
    if step:
        state, chains = method.split_chains(state)
    else:
        chains = steps.fresh_chains(method, config, mesh, num_images)
    store = DeviceChains(mesh, devices.place(chains, devices.by_rows(mesh)))
    return step, devices.place(state, devices.on_all(mesh)), store


def _chain_files(
    method: Method, config: Any, workdir: pathlib.Path, step: int, shapes: PerImage
) -> pathlib.Path:
    """Makes the working files of a run whose chains are on the host; their folder."""
    folder = workdir / chain_files.FOLDER
    say(f"writing {devices.num_bytes(shapes) / 1e9:.2g} GB of chains to {folder}")
    if step:
        chain_files.restore(checkpoint.saved_files(workdir, step), folder)
    else:
        num_images, _, latent_dim = shapes[0].shape
        draw = jax.jit(functools.partial(method.fresh_chains, config, config.seed))
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
