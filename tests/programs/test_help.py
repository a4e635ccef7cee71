"""The list of programs, their help, and the list of what a config can have."""

import re

import pytest

from drc_jax.config import TrainConfig, described
from drc_jax.runs import method as methods
from experiments.__main__ import programs
from tests.helpers.starting import ROOT, start

PROGRAMS = sorted(path.stem for path in (ROOT / "experiments").glob("[a-z]*.py"))


def test_every_program_is_listed_with_a_line():
    done = start("")
    assert done.returncode == 0, done.stderr
    listed = dict(re.findall(r"^  (\w+) +(\S.*)$", done.stdout, re.MULTILINE))
    assert set(listed) == set(PROGRAMS) - {"cli", "config_flag"}
    assert listed == programs() and max(map(len, listed.values())) <= 90

    wrong = start("", "trian")
    assert wrong.returncode == 2 and "did you mean 'train'?" in wrong.stderr


@pytest.mark.parametrize("name", programs())
def test_help_begins_with_a_command(name):
    done = start(name, "--help")
    assert done.returncode == 0, done.stderr
    first, *rest = done.stdout.splitlines()
    assert re.fullmatch(rf" *python -m experiments\.{name} --\S+=.*", first)
    assert programs()[name] in rest  # what it does, once
    assert done.stdout.count(programs()[name]) == 1


def test_mistakes_in_flags_and_their_choices_name_the_nearest():
    done = start("prepare", "--dataset=scenez", "--output=x")
    assert done.returncode == 2 and "did you mean 'scenes'?" in done.stderr
    done = start("prepare", "--datset=scenes", "--output=x")
    assert done.returncode == 2 and "Did you mean: dataset" in done.stderr


@pytest.mark.parametrize("name", methods.METHODS)
def test_every_field_of_every_method_has_a_meaning(name):
    fields = described.describe(methods.find(name).config_type())
    assert fields and all(field.meaning for field in fields)
    assert all(field.value == field.default for field in fields)


def test_config_help_lists_meaning_bounds_and_what_the_file_changes():
    done = start("train", f"--config={ROOT / 'configs' / 'tiny.py'}", "--config.help")
    assert done.returncode == 0, done.stderr
    assert "model.zf_dim = 8   (int from 1 to 65536; default 256)" in done.stdout
    assert "model.likelihood = 'laplace'   (laplace or gaussian)" in done.stdout
    assert "``laplace`` (absolute error) or" in done.stdout
    for field in described.describe(TrainConfig()):
        assert f"\n{field.name} = " in done.stdout
    without = start("evaluate", "--config.help")
    assert without.returncode == 0 and "model.zf_dim = 256   (int" in without.stdout


def test_the_table_has_a_row_for_every_field():
    rows = described.table(TrainConfig()).splitlines()[2:]
    assert [row.split("`")[1] for row in rows] == [
        field.name for field in described.describe(TrainConfig())
    ]
    assert all(len(re.split(r"(?<!\\)\|", row)) == 6 for row in rows)


def test_differences_are_what_is_not_the_default():
    config = TrainConfig(batch_size=7)
    assert list(described.differences(config)) == ["batch_size=7"]
    assert not described.differences(TrainConfig())
