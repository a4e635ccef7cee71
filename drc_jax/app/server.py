"""Serving the page on this machine: bounds, a folder that is removed, and no word to anybody."""

import contextlib
import errno
import os
import pathlib
import signal
import socket
import tempfile
from collections.abc import Iterator
from types import FrameType
from typing import Any

from drc_jax import files
from drc_jax.app.pictures import LARGEST_FILE
from drc_jax.errors import UserError
from drc_jax.runs.trained import Run

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

ENVIRONMENT = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_SHARE": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
}
_PORTS = range(7860, 7960)
_SESSIONS = 16  # whose recordings are kept
# Gradio's page names hosts for fonts and frames; a browser is to ask none but this server.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self'; worker-src 'self' blob:; object-src 'none'; base-uri 'self'; "
    "form-action 'self'; frame-ancestors 'self'"
)


@contextlib.contextmanager
def served(
    run: Run,
    title: str,
    *,
    workdir: pathlib.Path | None = None,
    limits: str = "",
    host: str = "127.0.0.1",
    port: int | None = None,
) -> Iterator[str]:
    """Serves the page while its block runs; everything written is gone afterwards.

    Args:
      run: a run of DRC.
      title: what is shown of it, plain text.
      workdir: its folder, for the tab ``run``.
      limits: what is known of its limits, plain text.
      host: the address to listen at.
      port: None for the first free one from 7860.

    Yields:
      The page's address.

    Raises:
      UserError: if Gradio is not installed, it is a run of another method, or the port is taken.
    """
    port = free_port(host, port)
    with tempfile.TemporaryDirectory(prefix="drc_jax_app_") as name:
        # Gradio reads some of it when it is imported.
        os.environ.update(ENVIRONMENT, GRADIO_TEMP_DIR=f"{name}/uploads")
        gradio = _gradio()
        from drc_jax.app import page as pages

        folder = pathlib.Path(name) / "made"
        folder.mkdir()
        page = pages.build(run, title, folder, workdir, limits)
        fonts = dict(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
        try:
            _, address, _ = page.launch(
                server_name=host,
                server_port=port,
                share=False,
                prevent_thread_lock=True,
                quiet=True,
                max_file_size=LARGEST_FILE,
                allowed_paths=[],
                state_session_capacity=_SESSIONS,
                footer_links=[],
                run_history=False,
                enable_monitoring=False,
                ssr_mode=False,
                pwa=False,
                mcp_server=False,
                theme=gradio.themes.Base(**fonts),
                head=pages.HEAD,
                app_kwargs={"middleware": [_policy()]},
            )
        except OSError as error:
            raise UserError(f"cannot listen at {host}, port {port}: {error}") from None
        try:
            yield address
        finally:
            page.close(verbose=False)


def free_port(host: str, port: int | None) -> int:
    """The port, or the first free one from 7860.

    Raises:
      UserError: if it is taken, or the host is no address of this machine.
    """
    for number in _PORTS if port is None else [port]:
        try:
            family, kind, _, _, address = socket.getaddrinfo(
                host, number, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            with socket.socket(family, kind) as trial:
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                trial.bind(address)
                return number
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                why = files.reason(error)
                raise UserError(f"cannot listen at {host}, port {number}: {why}") from None
    taken = f"port {port} is" if port else f"the ports {_PORTS[0]} to {_PORTS[-1]} are"
    raise UserError(f"{taken} taken at {host}; choose another with --port")


def _gradio() -> Any:
    try:
        import gradio
    except ImportError as error:
        raise UserError(f"the page needs Gradio: pip install 'drc_jax[app]' ({error})") from None
    return gradio


def _policy() -> Any:
    """Middleware that adds the security policy to every answer."""
    from starlette.middleware import Middleware

    class Policy:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            async def sending(message: Any) -> None:
                if message["type"] == "http.response.start":
                    headers = list(message.get("headers", []))
                    headers.append((b"content-security-policy", _POLICY.encode()))
                    headers.append((b"referrer-policy", b"no-referrer"))
                    message = {**message, "headers": headers}
                await send(message)

            await self.app(scope, receive, sending)

    return Middleware(Policy)


class Stop:
    """While its ``with`` block runs, Ctrl-C and SIGTERM do not end the process but ``wait``.

    Python's handlers run in the main thread, which waits: so a pipe wakes it.
    """

    def __enter__(self) -> "Stop":
        self._read_end, self._write_end = os.pipe()
        os.set_blocking(self._write_end, False)
        self._old_wakeup = signal.set_wakeup_fd(self._write_end)
        self._old_handlers = {
            number: signal.signal(number, _ignore)
            for number in SIGNALS
            if signal.getsignal(number) is not signal.SIG_IGN  # as nohup does
        }
        return self

    def wait(self) -> int:
        """The number of the first signal that arrived, now or since the block began."""
        while True:
            number = os.read(self._read_end, 1)[0]
            if number in SIGNALS:
                return number

    def __exit__(self, *exc_info: object) -> None:
        for number, handler in self._old_handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._old_wakeup)
        os.close(self._write_end)
        os.close(self._read_end)


def _ignore(number: int, frame: FrameType | None) -> None:
    """A handler for Python to run; without one the wake-up is not written."""
