"""The training step: jitted, donated, shared by a mesh of devices, one included.

It refuses what JAX would silently clamp or drop.
"""

import functools
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from drc_jax.config import TrainConfig
from drc_jax.data.packed.batches import check_batch_size, check_index
from drc_jax.errors import UserError
from drc_jax.model.images import as_images
from drc_jax.runs.method import Method, PerImage, State
from drc_jax.runtime import devices
from drc_jax.runtime.devices import AXIS
from drc_jax.training import encoder
from drc_jax.training.chains import DeviceChains
from drc_jax.training.drc import DRC
from drc_jax.training.state import TrainState
from drc_jax.training.update import Metrics


@functools.partial(jax.jit, static_argnums=(0, 1, 2), donate_argnums=(3, 4))
def step(
    method: Method,
    mesh: Mesh,
    step_config: Any,
    state: State,
    chains: PerImage,
    images: jax.Array,
    seed: int | jax.Array,
) -> tuple[State, PerImage, Metrics]:
    """``method.update``, shared by the devices of a mesh; donates ``state`` and ``chains``.

    Args:
      method, mesh, step_config: static.
      state: without what belongs to images, whole on every device.
      chains: what belongs to the batch's images, shared out by rows.
      images: [B, S, S, 3], likewise.
      seed: everything random derives from (seed, state.step).

    Returns:
      The next state, the chains after the step where they were, and the metrics.
    """

    def share(
        state: State, chains: PerImage, images: jax.Array, seed: jax.Array
    ) -> tuple[State, PerImage, Metrics]:
        count = len(images)
        keys = step_keys(seed, state.step, count * mesh.size)
        if mesh.size > 1:
            keys = jax.lax.dynamic_slice_in_dim(keys, jax.lax.axis_index(AXIS) * count, count)
        return method.update(step_config, state, images, keys, chains, AXIS)

    on_devices = devices.on_each(mesh, share, (P(), P(AXIS), P(AXIS), P()), (P(), P(AXIS), P()))
    return on_devices(state, chains, images, jnp.asarray(seed))


def step_keys(seed: int | jax.Array, step: jax.Array, batch_size: int) -> chex.PRNGKey:
    """[B] keys, one for each image of the whole batch of a step."""
    root = jax.random.key(jnp.asarray(seed, jnp.uint32))
    return jax.random.split(jax.random.fold_in(root, step), batch_size)


def runner(method: Method, mesh: Mesh, config: Any) -> Callable[..., tuple[Any, PerImage, Metrics]]:
    """A run's whole iteration: ``step``, and where the config has an encoder, a step of that.

    Returns:
      (done, state, chains, images, seed) -> (state, chains, metrics), as ``step``; ``done`` is
      ``state.step`` as an int, for reading it off the device would wait.
    """

    def run_model(done: int, *arrays: Any) -> tuple[Any, PerImage, Metrics]:
        now = config.in_force(done) if isinstance(config, TrainConfig) else config
        return step(method, mesh, method.step_config(now), *arrays)

    if not (isinstance(config, TrainConfig) and config.encoder.enabled):
        return run_model
    about = (config.model, config.encoder)

    def run(done: int, state: TrainState, chains: PerImage, images: jax.Array, seed: Any) -> Any:
        model, beside = encoder.apart(state)
        model, chains, metrics = run_model(done, model, chains, images, seed)
        beside, chains, more = step(
            encoder.EncoderUpdate, mesh, about, beside, chains, images, seed
        )
        return encoder.joined(model, beside), chains, {**metrics, **more}

    return run


def fresh_state(method: Method, config: Any, mesh: Mesh) -> State:
    """``method.fresh_state``, whole on every device."""
    return jax.jit(method.fresh_state, static_argnums=0, out_shardings=devices.on_all(mesh))(config)


def fresh_chains(method: Method, config: Any, mesh: Mesh, num_images: int) -> PerImage:
    """``method.fresh_chains`` of all images, shared out; each device draws its own."""

    def draw(seed: jax.Array) -> PerImage:
        return method.fresh_chains(config, seed, jnp.arange(num_images))

    return jax.jit(draw, out_shardings=devices.by_rows(mesh))(np.uint32(config.seed))


def init_state(config: TrainConfig, num_images: int, method: DRC = DRC()) -> TrainState:
    """A fresh state: orthogonal parameters, and chains drawn once from N(0, I).

    Args:
      config: the run; everything random derives from ``config.seed``.
      num_images: N, images in the training set, a multiple of ``config.num_devices``.
      method: DRC, or DRC with terms of your own.

    Returns:
      ``TrainState`` at step 0 on the devices of ``config.num_devices``; without chains where
      ``config.chain_bank`` is ``host``.

    Raises:
      UserError: where a batch has more images than the set, or devices are missing.
    """
    method.check(config)
    check_batch_size(config.batch_size, num_images)
    mesh = devices.data_mesh(config.num_devices)
    state = fresh_state(method, config, mesh)
    if method.keeps_in_files(config):
        return state
    return method.join_chains(state, fresh_chains(method, config, mesh, num_images))


def train_step(
    config: TrainConfig, state: TrainState, batch: dict[str, Any], method: DRC = DRC()
) -> tuple[TrainState, Metrics]:
    """One iteration of DRC (docs/method.md 5); donates ``state``, which must not be used again.

    The batch's chains are read from the state and written back. Everything random derives from
    (config.seed, state.step).

    Args:
      config: the run, static.
      state: from ``init_state`` or an earlier step.
      batch: ``image`` [B, H, W, 3], uint8 or floats in [-1, 1], already mirrored where ``flip``
        [B] bool says so; ``index`` [B] int, which images these are, without repeats. With several
        devices, equal shares for each in turn: device d of n has the images [d N/n, (d + 1) N/n).
      method: DRC, or DRC with terms of your own.

    Returns:
      The next state and scalar metrics: both losses and their terms, E(z+) and E(z-), mean z^2
      and root mean square displacement of every latent part, gradient norms, mean pi_f, the
      reconstruction error, and ``latents_finite`` (1, or 0 if any sample is not finite).

    Raises:
      UserError: if indices repeat or lie outside the state's chains, or shapes disagree. JAX
        itself would clamp or drop them silently. Device arrays are checked for shape only.
    """
    mesh = devices.data_mesh(config.num_devices)
    state, banks = method.split_chains(state)
    check_batch(config, batch, len(banks.posterior))
    store = DeviceChains(mesh, devices.place_rows(mesh, banks))
    rows = devices.place_rows(mesh, {name: batch[name] for name in ("image", "index", "flip")})
    # Read only where it matters: to read it is to wait for the step before.
    done = int(state.step) if config.warm_up_iterations else 0
    state, chains, metrics = runner(method, mesh, config)(
        done,
        devices.place(state, devices.on_all(mesh)),
        store.take(rows),
        rows["image"],
        np.uint32(config.seed),
    )
    store.put(rows, chains)
    return method.join_chains(state, store.banks), metrics


def check_batch(config: TrainConfig, batch: dict[str, Any], num_images: int) -> None:
    """Refuses a batch that a step cannot take; ``num_images`` N have chains.

    Raises:
      UserError: naming what is wrong. Device arrays are checked for shape and dtype only: fetching
        them would make every step wait.
    """
    missing = {"image", "index", "flip"} - set(batch)
    if missing:
        raise UserError(f"batch lacks {sorted(missing)[0]!r}; it needs image, index and flip")
    image, index, flip = batch["image"], batch["index"], batch["flip"]
    side, size = config.model.image_size, len(index)
    if image.shape != (size, side, side, 3):
        raise UserError(
            f"batch['image'] must have shape {(size, side, side, 3)} for this model and index, "
            f"got {image.shape}"
        )
    if image.dtype != np.uint8 and not (isinstance(image, jax.Array) and image.dtype.kind == "f"):
        as_images(config.model, image)
    shards = config.num_devices
    if size % shards or (config.images_at_once and size // shards % config.images_at_once):
        raise UserError(
            f"a batch of {size} images cannot be shared by num_devices {shards} in "
            f"parts of images_at_once {config.images_at_once}; both must divide it"
        )
    if flip.shape != (size,):
        raise UserError(f"batch['flip'] must have shape {(size,)}, got {flip.shape}")
    if not isinstance(index, jax.Array):
        check_index(np.asarray(index), range(shards), shards, num_images)
