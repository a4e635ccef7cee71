"""Folders to write to: what cannot be one, and that one process alone holds a lock."""

import subprocess
import sys

import pytest

from drc_jax import files
from drc_jax.errors import UserError


def test_a_folder_is_made_with_those_above_it(tmp_path):
    assert files.writable(tmp_path / "a" / "b", "results") == tmp_path / "a" / "b"
    assert (tmp_path / "a" / "b").is_dir()


@pytest.mark.parametrize("below", ["file", "file/folder"])
def test_a_file_in_the_way_is_named(tmp_path, below):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=f"cannot write results to {tmp_path / below}: "):
        files.writable(tmp_path / below, "results")


def test_a_lock_keeps_others_out_until_the_block_ends(tmp_path):
    program = (
        "import pathlib, sys\n"
        "from drc_jax import files\n"
        "with files.locked(pathlib.Path(sys.argv[1]), 'data', 'it is taken'):\n"
        "    pass\n"
    )

    def take():
        command = [sys.executable, "-c", program, str(tmp_path / "new")]
        return subprocess.run(command, capture_output=True, text=True)

    with files.locked(tmp_path / "new", "data", "it is taken"):
        with (
            pytest.raises(UserError, match="it is taken"),
            files.locked(tmp_path / "new", "data", "it is taken"),
        ):
            pass
        assert "it is taken" in take().stderr
    assert take().returncode == 0
