"""Listing folders: what is closed to us is told apart from what is left out by rule."""

import os
import pathlib
import tempfile

import pytest

from drc_jax.data.pictures.files import list_files
from drc_jax.errors import UserError


def test_hidden_files_and_links_to_folders_are_left_out(tmp_path):
    for name in ("b.jpg", "sub/a.jpg", ".hidden.jpg", ".git/c.jpg", "out/d.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "circle").symlink_to(tmp_path)
    (tmp_path / "link.jpg").symlink_to(tmp_path / "b.jpg")
    found = list_files(tmp_path, [tmp_path / "out"])
    assert found.names == ["b.jpg", "link.jpg", "sub/a.jpg"] and found.closed == []
    assert found.left_out == [
        (".git", "is hidden"),
        (".hidden.jpg", "is hidden"),
        ("circle", "is a link to a folder"),
    ]


def test_closed_folders_are_named():
    # Not tmp_path, whose parents are closed to the user that root has to become here.
    with tempfile.TemporaryDirectory() as name:
        root = pathlib.Path(name)
        root.chmod(0o755)
        (root / "sub/closed").mkdir(parents=True)
        (root / "a.jpg").touch()
        (root / "sub/closed").chmod(0)
        user = os.geteuid()
        try:
            if user == 0:
                os.seteuid(65534)
            found = list_files(root)
            assert found.names == ["a.jpg"]
            assert found.closed == [("sub/closed", "cannot be entered: Permission denied")]
            with pytest.raises(UserError, match="cannot read the folder"):
                list_files(root / "sub/closed")
        finally:
            os.seteuid(user)
            (root / "sub/closed").chmod(0o755)
