"""A run's folder is the run's alone."""

import dataclasses
import json
import pathlib

import numpy as np
import pytest

from drc_jax.config import DataConfig, ModelConfig, OptimizerConfig, SamplerConfig, TrainConfig
from drc_jax.errors import UserError
from drc_jax.runs.checkpoint import CheckpointWriter, restore_params
from drc_jax.runs.workdir import claimed, load_config
from tests.helpers import small_disk

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


def test_a_run_from_before_there_were_scene_options_goes_on(tmp_path):
    claim(tmp_path)
    stored = json.loads((tmp_path / "config.json").read_text())
    for name in ("objects", "shading", "touching", "two_tone", "one_hue", "floor"):
        del stored["config"]["data"][name]
    (tmp_path / "config.json").write_text(json.dumps(stored))
    claim(tmp_path)
    assert load_config(tmp_path, TrainConfig) == CONFIG


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


def trained(workdir: pathlib.Path, *steps: int) -> None:
    """A run with checkpoints."""
    claim(workdir)
    with CheckpointWriter(workdir, keep=9) as writer:
        for step in steps:
            writer.save(step, State({"w": np.ones(3, np.float32)}, np.zeros(2, np.float32)))
        writer.wait()


def test_a_lost_config_is_taken_from_the_newest_checkpoint(tmp_path):
    trained(tmp_path, 2, 4)
    config_file = tmp_path / "config.json"
    before = config_file.read_bytes()
    config_file.unlink()
    assert load_config(tmp_path, TrainConfig) == CONFIG
    assert not config_file.exists()  # reading changes nothing
    with pytest.raises(UserError, match="was trained with another config"):
        claim(tmp_path, dataclasses.replace(CONFIG, seed=9))
    claim(tmp_path)
    assert config_file.read_bytes() == before
    config_file.unlink()
    for step in (2, 4):
        (tmp_path / "checkpoints" / str(step) / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"holds files but no config\.json"):
        claim(tmp_path)


@dataclasses.dataclass
class State:
    params: dict
    moments: np.ndarray


def change(workdir: pathlib.Path, **values) -> None:
    """Edits config.json by hand, as ``group__field=value``."""
    path = workdir / "config.json"
    stored = json.loads(path.read_text())
    for name, value in values.items():
        *groups, last = name.split("__")
        part = stored["config"]
        for group in groups:
            part = part[group]
        part[last] = value
    path.write_text(json.dumps(stored))


def test_a_config_changed_after_training_is_refused_by_name(tmp_path):
    trained(tmp_path, 4, 8)
    change(tmp_path, model__sigma=0.5, iterations=77, data__path="/moved")
    with pytest.raises(UserError, match=r"undo: model\.sigma: 0\.25 -> 0\.5$"):
        load_config(tmp_path, TrainConfig)
    # Nor may training go on with the same change.
    changed = dataclasses.replace(CONFIG, model=ModelConfig(sigma=0.5))
    with pytest.raises(UserError, match=r"step 4 was trained with; undo: model\.sigma: 0\.25 -> "):
        claim(tmp_path, changed)
    change(tmp_path, model__sigma=0.25)
    assert load_config(tmp_path, TrainConfig).iterations == 77
    claim(tmp_path)


def test_a_changed_fingerprint_is_refused(tmp_path):
    trained(tmp_path, 4)
    path = tmp_path / "config.json"
    path.write_text(path.read_text().replace('"abc"', '"abd"'))
    with pytest.raises(UserError, match=r"undo: data\.fingerprint: 'abc' -> 'abd'"):
        load_config(tmp_path, TrainConfig)


def test_the_config_of_a_checkpoint_is_covered_by_its_digests(tmp_path, caplog):
    trained(tmp_path, 4, 8)
    path = tmp_path / "checkpoints" / "8" / "config.json"
    path.write_text(path.read_text().replace("0.25", "0.5"))
    # It is damaged, so it says nothing against config.json, and the one before is used.
    assert load_config(tmp_path, TrainConfig) == CONFIG
    assert restore_params(tmp_path)[0] == 4
    assert "config.json is not as it was written" in caplog.text


def test_checkpoints_of_older_versions_have_no_config(tmp_path):
    with CheckpointWriter(tmp_path / "run", keep=1) as writer:
        writer.save(4, State({"w": np.ones(3, np.float32)}, np.zeros(2, np.float32)))
        writer.wait()
    assert not (tmp_path / "run" / "checkpoints" / "4" / "config.json").exists()
    claim(tmp_path / "new")
    (tmp_path / "run" / "config.json").write_bytes((tmp_path / "new" / "config.json").read_bytes())
    assert load_config(tmp_path / "run", TrainConfig) == CONFIG
    assert restore_params(tmp_path / "run")[0] == 4
    claim(tmp_path / "run")


@pytest.mark.parametrize("name", ["checkpoints", "images", "tensorboard", "chain_banks"])
def test_a_file_in_a_folders_place_is_one_line(tmp_path, name):
    claim(tmp_path)
    (tmp_path / name).touch()
    with pytest.raises(UserError, match=f"{name} is a file, and a run has a folder of that name"):
        claim(tmp_path)


def test_a_folder_in_a_files_place_is_one_line(tmp_path):
    claim(tmp_path)
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(UserError, match=r"metrics\.jsonl is not a file"):
        claim(tmp_path)


def test_full_and_read_only_disks_are_one_line(tmp_path):
    with small_disk.mounted(tmp_path / "disk", "64k") as disk:
        claim(disk / "run")
        small_disk.fill(disk)
        longer = dataclasses.replace(CONFIG, iterations=99)
        with pytest.raises(UserError, match="No space left on device"):
            claim(disk / "run", longer)
        assert load_config(disk / "run", TrainConfig) == CONFIG
    with (
        small_disk.mounted(tmp_path / "disk", "64k", read_only=True) as disk,
        pytest.raises(UserError, match=r"cannot write the run to .*: Read-only file system"),
    ):
        claim(disk / "run")


def test_an_endless_path_is_one_short_line(tmp_path):
    message = r"cannot use --workdir .*: File name too long"
    for work in (claim, lambda path: load_config(path, TrainConfig)):
        with pytest.raises(UserError, match=message) as raised:
            work(tmp_path / ("x" * 5000))
        assert len(str(raised.value)) < 500
