"""Every config file loads, and has the paper's numbers where it claims to."""

import dataclasses
import importlib
import math
import pathlib
import re
import types

import jax
import jax.numpy as jnp
import pytest
from ml_collections import ConfigDict

from drc_jax import init_params, render
from drc_jax.config import ModelConfig, TrainConfig
from drc_jax.model.render import classify
from experiments.config_flag import frozen, train_config

CONFIGS = pathlib.Path(__file__).resolve().parents[2] / "configs"
NAMES = sorted(str(p.relative_to(CONFIGS).with_suffix("")) for p in CONFIGS.rglob("*.py"))

# Table 1 and docs/method.md 2: D_f, D_b, D_s, K_f, K_b, orthogonality weight, test steps.
TABLE_1 = {
    "birds": (256, 256, 512, 200, 200, 0.1, 2500),
    "dogs": (256, 256, 512, 200, 200, 1.0, 300),
    "cars": (256, 192, 512, 200, 200, 1.0, 300),
    "clevr6": (256, 2, 256, 30, 10, 1.0, 5000),
    "tm_dsprites": (256, 4, 1024, 30, 10, 1.0, 5000),
}


def module(name: str) -> types.ModuleType:
    return importlib.import_module(f"configs.{name.replace('/', '.')}")


def load(name: str) -> TrainConfig:
    return train_config(module(name).get_config())


@pytest.mark.parametrize("name", NAMES)
def test_loads_locked_and_says_how_to_run_it(name):
    config = module(name).get_config()
    assert config.is_locked and all(
        part.is_locked for part in config.values() if isinstance(part, ConfigDict)
    )
    assert frozen(config).method == config.get("method", "drc")
    if name != "default":
        text = module(name).__doc__
        assert re.search(rf"experiments\.(train|evaluate) --config=configs/{name}\.py", text)
        assert "Cost:" in text and "Score:" in text


def test_default_is_the_dataclasses_default():
    assert load("default") == TrainConfig()


@pytest.mark.parametrize("name", TABLE_1)
def test_table_1(name):
    config = load(name)
    model = config.model
    assert (
        model.zf_dim,
        model.zb_dim,
        model.zs_dim,
        model.num_fg_categories,
        model.num_bg_categories,
        model.orthogonality_weight,
        config.sampler.test_steps,
    ) == TABLE_1[name]
    # Table 2 and appendix B are the same for every data set.
    assert model.generator_channels == (128, 1024, 512, 256, 128, 64)
    assert model.classifier_channels == (64, 128, 256, 512, 1024)
    assert (model.ebm_width, model.ebm_reassign_width, model.sigma) == (200, 200, 0.25)
    sampler = config.sampler
    assert (sampler.prior_steps, sampler.prior_step_size) == (60, 0.4)
    assert (sampler.posterior_steps, sampler.posterior_step_size) == (40, 0.1)
    assert (config.batch_size, config.iterations) == (48, 10_000)
    optimizer = config.optimizer
    assert (optimizer.generator_learning_rate, optimizer.ebm_learning_rate) == (1e-4, 2e-5)
    assert (optimizer.beta1, optimizer.beta2, optimizer.clip_norm) == (0.5, 0.999, 0.0)
    assert config.data.dataset == name


@pytest.mark.parametrize(("name", "plain", "slots"), [("slots_clevr6", "clevr6", 6)])
def test_several_slots_change_the_slots_alone(name, plain, slots):
    config, expected = load(name), load(plain)
    model = dataclasses.replace(
        expected.model, num_slots=slots, slot_offset=math.log(slots), responsibility="pixel"
    )
    assert config == dataclasses.replace(expected, model=model)


def test_slots_are_as_many_as_the_most_objects():
    config = load("slots")
    assert config.model.num_slots == config.data.objects[1] == 3
    assert config.model.responsibility == "pixel" and config.data.dataset == "scenes"


def test_released_code():
    config = load("released_code")
    assert config.model == ModelConfig(
        zf_dim=256,
        zb_dim=4,
        zs_dim=1024,
        ebm_reassign_width=400,
        num_fg_categories=200,
        num_bg_categories=200,
        scale_loss_likelihood=False,
        generator_base_slope=0.2,
        orthogonality="squared",
        orthogonality_classifiers=True,
        orthogonality_weight=0.1,
        mask_classifier_input=True,
    )
    assert config.iterations == 2_000_000


QUARTER = [name for name in NAMES if name.startswith("quarter/")]


@pytest.mark.parametrize("name", [n for n in QUARTER if not n.startswith("quarter/scenes")])
def test_a_quarter_keeps_the_papers_ratios(name):
    """Widths at every side are one fraction of the paper's, and so is the pixels' weight."""
    config, paper = load(name), TrainConfig()
    model, blocks = config.model, config.model.num_blocks
    fraction = 16 if name.startswith("quarter/tm_dsprites") else 8
    widths = paper.model.generator_channels[1 : blocks + 1]
    assert model.generator_channels[1:] == tuple(width // fraction for width in widths)[:blocks]
    widths = paper.model.classifier_channels[-blocks:]
    assert model.classifier_channels == tuple(width // fraction for width in widths)
    assert model.langevin_weight == (128 / config.image_size) ** 2
    assert config.image_size == (64 if name.endswith("_64") else 32)
    if config.data.path:
        assert config.data.path == f"data/{config.data.dataset}_{config.image_size}"


def test_the_networks_of_every_quarter_fit_together():
    """Traced, not run: from fresh parameters to regions and their categories."""
    models = {load(name).model for name in QUARTER}
    assert len(models) >= 8
    for model in models:

        def categories(key, z, model=model):
            params = init_params(model, key)
            return classify(model, params, render(model, params, z))

        z = jax.ShapeDtypeStruct((2, model.latent_dim), jnp.float32)
        found = jax.eval_shape(categories, jax.random.key(0), z)
        assert found["foreground"].shape == (2, model.num_fg_categories)
