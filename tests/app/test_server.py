"""Serving: what is said without Gradio, and how a signal ends it."""

import os
import signal
import socket
import sys

import pytest

import drc_jax
from drc_jax.app import server


def test_without_gradio_there_is_a_sentence_and_nothing_is_left(run, monkeypatch, tmp_path):
    for name in (*server.ENVIRONMENT, "GRADIO_TEMP_DIR"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(server.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setitem(sys.modules, "gradio", None)
    with (
        pytest.raises(drc_jax.UserError, match=r"needs Gradio: pip install 'drc_jax\[app\]'"),
        server.served(run, "a run"),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_wakes_what_waits_and_handlers_come_back(number):
    before = signal.getsignal(number)
    with server.Stop() as stop:
        os.kill(os.getpid(), number)
        assert stop.wait() == number
    assert signal.getsignal(number) is before


def test_a_signal_that_was_ignored_stays_so():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with server.Stop() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop.wait() == signal.SIGTERM
    finally:
        signal.signal(signal.SIGHUP, before)


def test_ports():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(drc_jax.UserError, match=f"port {port} is taken at 127"):
            server.free_port("127.0.0.1", port)
    assert server.free_port("127.0.0.1", None) in range(7860, 7960)
    for host in ("192.0.2.1", "no such host"):
        with pytest.raises(drc_jax.UserError, match=f"cannot listen at {host}"):
            server.free_port(host, None)
