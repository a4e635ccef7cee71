"""The logs of a run: a full disk never stops it, and what cannot be read is set aside."""

import json
import logging
import os
import pathlib
import struct
import threading

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

from drc_jax.errors import NonFiniteError, UserError
from drc_jax.runs.recorder import Recorder, truncate_log
from tests.helpers import small_disk


def recorder(workdir: pathlib.Path, start: int = 0) -> Recorder:
    return Recorder(workdir, start=start, iterations=10_000, batch_size=2, log_every=1)


def values(step: int) -> dict:
    return {f"metric_{i}": np.float32(step + i) for i in range(20)}


def events(workdir: pathlib.Path) -> list[Event]:
    """Everything in the event files of a run, in order."""
    found = []
    for path in sorted((workdir / "tensorboard").iterdir()):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("Q", content[:8])
            found.append(Event.FromString(content[12 : 12 + length]))
            content = content[16 + length :]
    return found


def steps(workdir: pathlib.Path) -> list[int]:
    text = (workdir / "metrics.jsonl").read_text()
    return [json.loads(line)["step"] for line in text.splitlines()]


def within(seconds: float, work) -> None:
    """Calls ``work`` in a thread; fails where it has not ended in time."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), "it hangs"


def test_both_logs_have_every_number(tmp_path):
    with recorder(tmp_path) as log:
        for step in (1, 2, 3):
            log.record(step, values(step))
    assert steps(tmp_path) == [1, 2, 3]
    with recorder(tmp_path, start=2) as log:
        log.record(3, values(30))
    assert steps(tmp_path) == [1, 2, 3]
    first, *_ = found = events(tmp_path)
    assert first.file_version == "brain.Event:2"
    scalars = {(e.step, v.tag): v.simple_value for e in found for v in e.summary.value}
    assert scalars[2, "metric_7"] == 9 and scalars[3, "metric_0"] == 30
    # TensorBoard drops the steps that are trained again.
    assert [e.step for e in found if e.session_log.status == 1] == [1, 3]


def test_a_full_disk_stops_neither_the_run_nor_its_end(tmp_path, caplog):
    with small_disk.mounted(tmp_path / "disk", "256k") as disk:

        def run():
            with caplog.at_level(logging.WARNING), recorder(disk) as log:
                log.record(1, values(1))
                filler = small_disk.fill(disk)
                for step in range(2, 200):
                    log.record(step, values(step))
                filler.unlink()
                log.record(200, values(200))

        within(60, run)
        assert steps(disk) == list(range(1, 201))
    assert caplog.text.count("cannot write TensorBoard's files") == 1
    assert caplog.text.count("metrics.jsonl: No space left on device") == 1


def test_no_room_from_the_start(tmp_path, caplog):
    with small_disk.mounted(tmp_path / "disk", "64k") as disk:
        small_disk.fill(disk)

        def run():
            with recorder(disk) as log:
                for step in range(1, 50):
                    log.record(step, values(step))

        within(60, run)
    assert "training goes on without them" in caplog.text
    assert "could not be written" in caplog.text


def test_numbers_that_are_not_finite_end_training(tmp_path):
    with recorder(tmp_path) as log, pytest.raises(NonFiniteError, match="step 4: loss = nan"):
        log.record(4, {"loss": np.float32(np.nan)})


DAMAGED = [b"\xff\xfe\x00", b"5", b"{}", b'{"step": "4"}', b"[" * 100_000, b'{"st']


@pytest.mark.parametrize("bad", DAMAGED, ids=lambda bad: repr(bad[:10]))
def test_damaged_lines_are_set_aside(tmp_path, bad, caplog):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n' + bad + b'\n{"step": 2}\n{"step": 3}\n' + bad)
    (tmp_path / "metrics.damaged.jsonl").write_bytes(b"older\n")
    with recorder(tmp_path, start=2) as log:
        log.record(3, {"loss": np.float32(1)})
    assert steps(tmp_path) == [1, 2, 3]
    aside = (tmp_path / "metrics.damaged.jsonl").read_bytes()
    assert aside == b"older\n" + bad + b"\n" + bad + b"\n"
    assert "2 lines of" in caplog.text and "metrics.damaged.jsonl" in caplog.text


def test_a_whole_log_is_left_alone(tmp_path, caplog):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n')
    before = os.stat(path)
    truncate_log(path, 2)
    after = os.stat(path)  # reading moves its time of access
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)
    assert not caplog.records
    assert not (tmp_path / "metrics.damaged.jsonl").exists()


def test_a_folder_in_the_logs_place_is_one_line(tmp_path):
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(UserError, match=r"cannot read .*metrics\.jsonl: Is a directory"):
        recorder(tmp_path)
