"""Configs: every value is held to its bounds when a config is made, and names are helped along."""

import dataclasses
from typing import ClassVar

import pytest

from drc_jax.config import (
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    RunConfig,
    SamplerConfig,
    TrainConfig,
    differing_fields,
    field,
    from_dict,
    to_dict,
)
from drc_jax.data.training_images import data_folder
from drc_jax.errors import UserError

REFUSED = [
    (TrainConfig, {"seed": 2**32}, "seed must be at most 4294967295, got 4294967296"),
    (TrainConfig, {"seed": -1}, "seed must be at least 0, got -1"),
    (TrainConfig, {"iterations": 2**31}, "iterations must be at most 2147483647"),
    (TrainConfig, {"batch_size": 10**12}, "batch_size must be at most"),
    (SamplerConfig, {"prior_steps": 2**31}, "prior_steps must be at most 2147483647"),
    (SamplerConfig, {"test_steps": 2**40}, "test_steps must be at most 2147483647"),
    (SamplerConfig, {"prior_step_size": 1e-30}, "prior_step_size must be at least 1e-06"),
    (SamplerConfig, {"drift_limit": -0.5}, "drift_limit must be at least 0, got -0.5"),
    (SamplerConfig, {"warm_up_steps": -1}, "warm_up_steps must be at least 0, got -1"),
    (SamplerConfig, {"warm_up_step_size": 0.0}, "warm_up_step_size must be at least 1e-06"),
    (ModelConfig, {"energy_penalty_weight": -1.0}, "energy_penalty_weight must be at least 0"),
    (ModelConfig, {"sigma": 1e-300}, "sigma must be 0 or of a size from 1.2e-38 to 3.4e.38"),
    (ModelConfig, {"sigma": 0.0}, "sigma must be at least 1e-06, got 0.0"),
    (ModelConfig, {"sigma": float("nan")}, "sigma must be finite"),
    (ModelConfig, {"sigma": 10**400}, "sigma must be finite"),
    (ModelConfig, {"tv_weight": 1e39}, "tv_weight must be 0 or of a size"),
    (ModelConfig, {"tv_weight": 1e30}, r"tv_weight must be at most 1e\+06"),
    (ModelConfig, {"zf_dim": 4_000_000_000}, "zf_dim must be at most 65536, got 4000000000"),
    (ModelConfig, {"generator_channels": (4, 10**9)}, "generator_channels must be at most 65536"),
    (ModelConfig, {"generator_channels": (4,) * 12}, "one to ten blocks, got 12 entries"),
    (OptimizerConfig, {"ebm_learning_rate": 1e-20}, "ebm_learning_rate must be at least 1e-12"),
    (OptimizerConfig, {"beta2": 0.99999999999}, "beta2 must be at most 0.999999"),
    (OptimizerConfig, {"clip_norm": 1e-300}, "clip_norm must be 0 or of a size"),
    (DataConfig, {"path": "x" * 5000}, "path must have at most 4000 letters, got 5000"),
    (DataConfig, {"seed": 2**63}, "seed must be at most"),
    (DataConfig, {"dataset": "scenes", "objects": (1, 4)}, r"from 1 to 3, .*; got \(1, 4\)"),
    (DataConfig, {"dataset": "scenes", "objects": (2,)}, r"objects must be two numbers"),
    (DataConfig, {"shading": "flat"}, "shading is an option of scenes; dataset 'tm_dsprites'"),
    (ModelConfig, {"likelihood": "laplase"}, "got 'laplase'; did you mean 'laplace'"),
    (ModelConfig, {"likelihood": "poisson"}, "must be one of laplace, gaussian; got 'poisson'$"),
    (ModelConfig, {"zf_dim": True}, "zf_dim must be of type int, got True"),
]


@pytest.mark.parametrize(("kind", "fields", "message"), REFUSED)
def test_what_the_machine_cannot_keep_is_refused(kind, fields, message):
    with pytest.raises(UserError, match=message):
        kind(**fields)


def test_the_largest_values_are_taken():
    config = TrainConfig(
        seed=2**32 - 1,
        iterations=2**31 - 1,
        model=ModelConfig(zf_dim=65_536, sigma=1e-6, tv_weight=0.0),
        data=DataConfig(seed=2**63 - 1),
    )
    assert from_dict(TrainConfig, to_dict(config)) == config
    assert hash(from_dict(TrainConfig, to_dict(config))) == hash(config)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"modle": {}}, "unknown config field modle; the config has .*; did you mean 'model'"),
        ({"model": {"sigm": 1}}, r"unknown config field model\.sigm; model has .*'sigma'"),
        ({"method": "redo"}, "unknown config field method; the config has"),
        ({"model": {"sigma": -1.0}}, r"model\.sigma must be at least 1e-06"),
    ],
)
def test_mistakes_are_named_in_full(values, message):
    with pytest.raises(UserError, match=message):
        from_dict(TrainConfig, values)


def test_differing_fields_are_listed_in_full():
    other = TrainConfig(seed=4, model=ModelConfig(sigma=0.5))
    assert differing_fields(to_dict(TrainConfig()), to_dict(other)) == [
        "model.sigma: 0.25 -> 0.5",
        "seed: 0 -> 4",
    ]


def test_scene_options_name_the_folder_of_their_data():
    def name(**options):
        config = TrainConfig(data=DataConfig("scenes", **options))
        return data_folder(config).name

    assert name() == name(objects=(1, 2), shading="shaded") == "scenes_128"
    assert name(objects=(1, 3), shading="flat") == "scenes_objects1-3_flat_128"
    assert name(touching=True, one_hue=True) == "scenes_touching_one_hue_128"
    assert name(floor="coloured") == "scenes_coloured_128"
    assert name(shading="flat", path="data/own") == "own"


@dataclasses.dataclass(frozen=True, kw_only=True)
class OtherConfig(RunConfig):
    method: ClassVar[str] = "other"

    image_size: int = field(64, least=8, most=512)
    slots: int = field(7, least=2, most=99)


def test_another_methods_config_shares_the_runs_fields():
    config = from_dict(OtherConfig, {"slots": 5, "seed": 3, "data": {"flip": False}})
    assert (config.image_size, config.slots, config.seed, config.data.flip) == (64, 5, 3, False)
    assert (config.method, TrainConfig.method) == ("other", "drc")
    assert TrainConfig(model=ModelConfig()).image_size == 128
    with pytest.raises(UserError, match="slots must be at least 2, got 1"):
        OtherConfig(slots=1)
    with pytest.raises(UserError, match="num_devices must divide batch_size 48, got 5"):
        OtherConfig(num_devices=5)
