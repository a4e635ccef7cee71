"""A run so small that nothing takes long: random parameters, 8x8 pixels. Its page in a browser."""

import contextlib
import dataclasses
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import drc_jax
from drc_jax.config import EncoderConfig, SamplerConfig, TrainConfig
from drc_jax.model.encoder import init_encoder
from drc_jax.runs.trained import Run
from tests.helpers.page import SECONDS, Server, write_run
from tests.helpers.small import ONE_BLOCK

SAMPLER = SamplerConfig(
    test_steps=9, warm_up_steps=2, warm_up_step_size=0.02, prior_steps=3, drift_limit=0.3
)


def small_run(num_slots: int = 1, **sampler) -> Run:
    """A run with noise in the place of trained parameters, and with an encoder."""
    model = dataclasses.replace(ONE_BLOCK, num_slots=num_slots, responsibility="auto")
    config = TrainConfig(
        model=model,
        sampler=dataclasses.replace(SAMPLER, **sampler),
        encoder=EncoderConfig(enabled=True, width=8),
    )

    def fresh():
        params = drc_jax.init_params(model, jax.random.key(0))
        return {**params, "encoder": init_encoder(model, 8, jax.random.key(1))}

    rng = np.random.default_rng(0)
    draws = jax.tree.map(lambda x: rng.normal(size=x.shape, scale=0.3), jax.eval_shape(fresh))
    params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), draws)
    return Run(drc_jax.DRC(), config, params, 7)


@pytest.fixture(scope="session")
def run() -> Run:
    return small_run()


@pytest.fixture
def photos(tmp_path) -> list[pathlib.Path]:
    """Three pictures, none of them square."""
    rng = np.random.default_rng(0)
    paths = [tmp_path / name for name in ("rose.png", "tulip.png", "thistle.png")]
    for path in paths:
        small = Image.fromarray(rng.integers(0, 256, (3, 4, 3), dtype=np.uint8))
        small.resize((40, 30), Image.Resampling.NEAREST).save(path)
    return paths


@pytest.fixture(scope="module")
def workdir(tmp_path_factory) -> pathlib.Path:
    """The folder of a run whose chains can be long."""
    folder = tmp_path_factory.mktemp("page") / "run"
    write_run(folder, small_run(test_steps=5000))
    return folder


@pytest.fixture(scope="module")
def server(workdir, tmp_path_factory) -> Iterator[Server]:
    """The page of that run, with temporary files in a folder of its own."""
    server = Server(workdir, tmp_path_factory.mktemp("temporary"))
    yield server
    if server.process.poll() is None:
        server.process.kill()
        server.process.communicate()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Debian's Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, server, request):
    """Opens the page as one more visitor; no browser may ask another host or see an error."""
    with contextlib.ExitStack() as stack:
        asked, errors = [], []

        def opened(**options):
            if videos := os.environ.get("DRC_JAX_VIDEOS"):
                options["record_video_dir"] = pathlib.Path(videos) / request.node.name
                options["record_video_size"] = options.get("viewport")
            context = browser.new_context(accept_downloads=True, **options)
            stack.callback(context.close)
            page = context.new_page()
            page.set_default_timeout(SECONDS * 1000)
            page.on("request", lambda request: asked.append(request.url))
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.goto(server.address)
            page.wait_for_selector("#go")
            return page

        yield opened
        hosts = {url for url in asked if not url.startswith((server.address, "data:", "blob:"))}
        assert not hosts and not errors
