"""A run so small that nothing takes long: random parameters, 8x8 pixels."""

import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import drc_jax
from drc_jax.config import EncoderConfig, SamplerConfig, TrainConfig
from drc_jax.model.encoder import init_encoder
from drc_jax.runs.trained import Run
from tests.helpers.small import ONE_BLOCK

SAMPLER = SamplerConfig(
    test_steps=9, warm_up_steps=2, warm_up_step_size=0.02, prior_steps=3, drift_limit=0.3
)


def small_run(num_slots: int = 1, **sampler) -> Run:
    """A run with noise in the place of trained parameters, and with an encoder."""
    model = dataclasses.replace(ONE_BLOCK, num_slots=num_slots, responsibility="auto")
    config = TrainConfig(
        model=model,
        sampler=dataclasses.replace(SAMPLER, **sampler),
        encoder=EncoderConfig(enabled=True, width=8),
    )

    def fresh():
        params = drc_jax.init_params(model, jax.random.key(0))
        return {**params, "encoder": init_encoder(model, 8, jax.random.key(1))}

    rng = np.random.default_rng(0)
    draws = jax.tree.map(lambda x: rng.normal(size=x.shape, scale=0.3), jax.eval_shape(fresh))
    params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), draws)
    return Run(drc_jax.DRC(), config, params, 7)


@pytest.fixture(scope="session")
def run() -> Run:
    return small_run()


@pytest.fixture
def photos(tmp_path) -> list[pathlib.Path]:
    """Three pictures, none of them square."""
    rng = np.random.default_rng(0)
    paths = [tmp_path / name for name in ("rose.png", "tulip.png", "thistle.png")]
    for path in paths:
        small = Image.fromarray(rng.integers(0, 256, (3, 4, 3), dtype=np.uint8))
        small.resize((40, 30), Image.Resampling.NEAREST).save(path)
    return paths
