"""Folders to write to: what cannot be one, and that one process alone holds a lock."""

import fcntl
import os
import signal

import pytest

from drc_jax import files
from drc_jax.errors import UserError
from tests.helpers import small_disk
from tests.helpers.starting import run_code


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
        return run_code(program, str(tmp_path / "new"))

    with files.locked(tmp_path / "new", "data", "it is taken"):
        with (
            pytest.raises(UserError, match="it is taken"),
            files.locked(tmp_path / "new", "data", "it is taken"),
        ):
            pass
        assert "it is taken" in take().stderr
    assert take().returncode == 0


def test_a_file_is_written_whole_with_the_usual_permissions(tmp_path):
    path = tmp_path / "report.json"
    files.write_atomically(path, b"old")
    files.write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    (tmp_path / "plain").touch()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert sorted(p.name for p in tmp_path.iterdir()) == ["plain", "report.json"]


def test_links_are_replaced_and_foreseen_names_of_no_use(tmp_path, monkeypatch):
    secret = tmp_path / "secret"
    secret.write_bytes(b"mine")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.json").symlink_to(secret)
    for number in range(3):
        (folder / f".config.json.{os.getpid() + number}.partial").symlink_to(secret)
    seen = []
    monkeypatch.setattr(os, "replace", lambda a, b, do=os.replace: (seen.append(a), do(a, b)))
    files.write_atomically(folder / "config.json", b"one")
    files.write_atomically(folder / "config.json", b"two")
    assert secret.read_bytes() == b"mine"
    assert not (folder / "config.json").is_symlink()
    assert (folder / "config.json").read_bytes() == b"two"
    assert seen[0] != seen[1] and str(os.getpid()) not in seen[0].name


def test_what_a_killed_process_left_is_removed(tmp_path):
    program = (
        "import os, signal, sys\n"
        "from drc_jax import files\n"
        "os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)\n"
        "files.write_atomically(sys.argv[1], b'half')\n"
    )
    path = tmp_path / "report.json"
    path.write_bytes(b"old")
    child = run_code(program, str(path))
    assert child.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 2
    files.write_atomically(path, b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["report.json"]


def test_what_another_process_is_writing_stays(tmp_path):
    partial = tmp_path / ".other.0123.partial"
    with partial.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        files.write_atomically(tmp_path / "report.json", b"new")
        assert partial.exists()


def test_a_full_disk_is_one_line_and_the_old_file_stays(tmp_path):
    with small_disk.mounted(tmp_path / "disk", "128k") as disk:
        files.write_atomically(disk / "report.json", b"old")
        with pytest.raises(UserError, match=r"cannot write .*report\.json: No space left on devi"):
            files.write_atomically(disk / "report.json", bytes(1 << 20))
        assert (disk / "report.json").read_bytes() == b"old"
        assert [p.name for p in disk.iterdir()] == ["report.json"]


def test_a_limit_on_file_sizes_is_one_line(tmp_path):
    program = (
        "import resource, signal, sys\n"
        "from drc_jax import files\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "files.write_atomically(sys.argv[1], bytes(5000))\n"
    )
    child = run_code(program, str(tmp_path / "report.json"))
    assert child.stderr.splitlines()[-1].endswith("report.json: File too large")
    assert list(tmp_path.iterdir()) == []


def test_read_only_places_are_called_so(tmp_path):
    with small_disk.mounted(tmp_path / "disk", "128k", read_only=True) as disk:
        for work in (
            lambda: files.writable(disk / "out", "results"),
            lambda: files.write_atomically(disk / "report.json", b""),
            lambda: files.check_writable_file(disk / "report.json"),
        ):
            with pytest.raises(UserError, match="Read-only file system"):
                work()


def test_a_files_place_is_checked_before_the_work(tmp_path):
    assert files.check_writable_file(tmp_path / "new" / "a.PNG", ".png").parent.is_dir()
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(UserError, match="it is a folder; give a file's name"):
        files.check_writable_file(tmp_path / "folder.png", ".png")
    with pytest.raises(UserError, match=r"must be named \*\.png"):
        files.check_writable_file(tmp_path / "a.jpg", ".png")
    with pytest.raises(UserError, match="File name too long") as raised:
        files.check_writable_file(tmp_path / ("x" * 5000), "")
    assert len(str(raised.value)) < 500
    with pytest.raises(UserError, match="File name too long") as raised:
        files.writable(tmp_path / ("x" * 5000), "results")
    assert len(str(raised.value)) < 500
