"""The baselines' config files load as their method's config, and the flag knows their fields."""

import importlib
import pathlib

import pytest
from ml_collections import ConfigDict

from drc_jax.baselines.grabcut import GrabCutConfig
from drc_jax.baselines.iodine import IodineConfig
from drc_jax.baselines.redo import ReDOConfig
from drc_jax.baselines.slot_attention import SlotAttentionConfig
from drc_jax.baselines.slot_training import learning_rate
from drc_jax.errors import UserError
from experiments import config_flag

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "configs" / "baselines"


def load(name: str):
    return importlib.import_module(f"configs.baselines.{name}").get_config()


def test_the_papers_config_is_the_default():
    config = config_flag.run_config(load("slot_attention"))
    assert config == SlotAttentionConfig()
    assert (config.batch_size, config.iterations, config.model.num_slots) == (64, 500_000, 7)
    assert config_flag.frozen(load("grabcut")) == GrabCutConfig()
    iodine = config_flag.run_config(load("iodine"))
    assert iodine == IodineConfig()
    assert (iodine.batch_size, iodine.iterations, iodine.model.num_slots) == (32, 1_000_000, 7)
    assert float(learning_rate(iodine.optimizer, 0)) == pytest.approx(3e-4)
    assert float(learning_rate(iodine.optimizer, 10**6)) == pytest.approx(3e-4)
    redo = config_flag.run_config(load("redo"))
    assert redo == ReDOConfig()
    assert (redo.batch_size, redo.optimizer.mask_learning_rate) == (40, 1e-5)
    assert redo.optimizer.learning_rate == 1e-4 and not redo.data.flip


@pytest.mark.parametrize("name", ["iodine", "redo", "slot_attention"])
def test_the_small_configs_are_the_papers_at_other_sizes(name):
    small, paper = (config_flag.run_config(load(n)) for n in (f"{name}_small", name))
    assert type(small) is type(paper) and small.image_size <= 32
    assert small.data.num_train >= small.batch_size and small.iterations < 20_000


def test_other_programs_refuse_in_one_line():
    with pytest.raises(UserError, match="grabcut is not trained"):
        config_flag.run_config(load("grabcut"))
    with pytest.raises(UserError, match="for drc, and this config is for slot_attention"):
        config_flag.train_config(load("slot_attention"))
    with pytest.raises(UserError, match="there is no method 'slots'; there are drc, "):
        config_flag.frozen(ConfigDict({"method": "slots"}))
    with pytest.raises(UserError, match=r"unknown config field sampler; the config has .*model"):
        config_flag.frozen(ConfigDict({"method": "slot_attention", "sampler": {}}))


def test_overrides_are_fields_of_the_files_method():
    file = f"--config={FOLDER / 'slot_attention.py'}"
    config_flag.check_arguments([file, "--config.model.num_slots=3"])
    with pytest.raises(
        UserError, match=r"unknown config field model.zf_dim; model has .*num_slots"
    ):
        config_flag.check_arguments([file, "--config.model.zf_dim=3"])
    tiny = f"--config={FOLDER.parent / 'tiny.py'}"
    config_flag.check_arguments([tiny, "--config.model.zf_dim=3"])
    with pytest.raises(UserError, match=r"unknown config field model\.num_queries"):
        config_flag.check_arguments([tiny, "--config.model.num_queries=3"])
