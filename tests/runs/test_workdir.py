"""A run's folder is the run's alone."""

import json
import pathlib

import pytest

from drc_jax.config import DataConfig, ModelConfig, OptimizerConfig, SamplerConfig, TrainConfig
from drc_jax.errors import UserError
from drc_jax.runs.workdir import claimed, load_config

CONFIG = TrainConfig(seed=3, data=DataConfig(dataset="pets", path="data/pets"))


def claim(workdir: pathlib.Path, config: TrainConfig = CONFIG, fingerprint: str = "abc") -> None:
    with claimed(workdir, config, fingerprint):
        pass


def test_new_folder_gets_the_config(tmp_path):
    claim(tmp_path / "a" / "run")
    assert load_config(tmp_path / "a" / "run", TrainConfig) == CONFIG
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / ".config.json.7.partial").touch()
    claim(tmp_path / "empty")
    assert load_config(tmp_path / "empty", TrainConfig) == CONFIG


def test_length_cadence_and_place_of_the_data_may_change(tmp_path):
    claim(tmp_path)
    longer = TrainConfig(
        seed=3,
        data=DataConfig(dataset="pets", path="/moved/pets"),
        iterations=5,
        log_every=7,
        image_every=0,
        checkpoint_every=2,
        keep_checkpoints=1,
    )
    claim(tmp_path, longer)
    assert load_config(tmp_path, TrainConfig) == longer


def test_another_config_or_other_images_are_refused_by_name(tmp_path):
    claim(tmp_path)
    before = (tmp_path / "config.json").read_bytes()
    other = TrainConfig(
        model=ModelConfig(zf_dim=64),
        sampler=SamplerConfig(prior_steps=9),
        optimizer=OptimizerConfig(beta1=0.25),
        data=DataConfig(dataset="pets", path="data/pets", flip=False),
        batch_size=7,
        seed=4,
    )
    with pytest.raises(UserError) as raised:
        claim(tmp_path, other, "def")
    for line in (
        "model.zf_dim: 256 -> 64",
        "sampler.prior_steps: 60 -> 9",
        "optimizer.beta1: 0.5 -> 0.25",
        "data.flip: True -> False",
        "data.fingerprint: 'abc' -> 'def'",
        "batch_size: 48 -> 7",
        "seed: 3 -> 4",
    ):
        assert line in str(raised.value)
    assert str(raised.value).count("->") == 7
    assert (tmp_path / "config.json").read_bytes() == before


def test_a_foreign_folder_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(UserError, match=r"holds files but no config\.json"):
        claim(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(UserError, match=r"thesis\.tex is a file"):
        claim(tmp_path / "thesis.tex")
    with pytest.raises(UserError, match="cannot write the run to"):
        claim(tmp_path / "thesis.tex" / "run")
    with pytest.raises(UserError, match="is not a training folder"):
        load_config(tmp_path, TrainConfig)


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"config": {"modle": 1}, "data_fingerprint": 1}']
)
def test_an_unreadable_config_is_an_error(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"config\.json is not a config this version can read"):
        claim(tmp_path)


def test_a_config_of_an_older_version_takes_defaults(tmp_path):
    claim(tmp_path)
    stored = json.loads((tmp_path / "config.json").read_text())
    del stored["config"]["model"]["langevin_weight"]
    (tmp_path / "config.json").write_text(json.dumps(stored))
    claim(tmp_path)
    assert load_config(tmp_path, TrainConfig) == CONFIG


def test_one_process_at_a_time(tmp_path):
    with claimed(tmp_path, CONFIG, "abc"), pytest.raises(UserError, match="another process"):
        claim(tmp_path)
    claim(tmp_path)
