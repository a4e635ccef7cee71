"""A trained model as one file that runs without this package: StableHLO through ``jax.export``."""

from typing import Any

import jax
import numpy as np
from jax import export

from drc_jax.config import TrainConfig
from drc_jax.inference import infer

PLATFORMS = ("cpu", "cuda", "tpu")


def exported(
    config: TrainConfig,
    params: Any,
    *,
    batch_size: int,
    num_steps: int,
    start: str = "prior",
    platforms: tuple[str, ...] = ("cpu",),
) -> bytes:
    """The chains of new images and their rendering as one program, with the parameters in it.

    To run it: ``jax.export.deserialize(content).call(images, seed)`` with images uint8
    [B, S, S, 3] and a seed uint32. It returns a dict of what ``infer`` returns for
    ``jax.random.key(seed)``: ``images``, ``pi``, ``background_source``, ``grid``,
    ``reconstruction`` and ``foreground_weight``; the mask is ``foreground_weight > 0.5``. It runs
    one chain per image: where the config has several, call it with as many seeds and take the mean
    of ``foreground_weight`` (6.2). Rounding differs from program to program, and long chains
    amplify it.

    Args:
      config: the run's.
      params: its parameters.
      batch_size: B.
      num_steps: Langevin steps of each chain; other settings of the chains are the run's.
      start: where chains begin, as for ``infer``.
      platforms: of `PLATFORMS`, where the program shall run.

    Returns:
      The bytes of the file.

    Raises:
      UserError: where ``infer`` does.
    """
    sampler = config.sampler

    def program(images: jax.Array, seed: jax.Array) -> dict[str, jax.Array]:
        regions = infer(
            config.test_model,
            params,
            jax.random.key(seed),
            images,
            num_steps=num_steps,
            step_size=sampler.posterior_step_size,
            drift_limit=sampler.drift_limit,
            warm_up_steps=sampler.warm_up_steps if start == "prior" else 0,
            warm_up_step_size=sampler.warm_up_step_size,
            start=start,
            mask_from=sampler.test_mask_from,
        )
        return {**regions._asdict(), "foreground_weight": regions.foreground_weight}

    side = config.image_size
    images = jax.ShapeDtypeStruct((batch_size, side, side, 3), np.uint8)
    seed = jax.ShapeDtypeStruct((), np.uint32)
    found = export.export(jax.jit(program), platforms=platforms)(images, seed)
    return bytes(found.serialize())
