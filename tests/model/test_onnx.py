"""Generators and encoder in onnxruntime give what they give in JAX."""

import sys

import jax
import numpy as np
import pytest

from drc_jax.config import ModelConfig
from drc_jax.errors import UserError
from drc_jax.interop import onnx
from drc_jax.model import encoder
from drc_jax.model.render import init_params, render

CONFIG = ModelConfig(
    zf_dim=8,
    zb_dim=4,
    zs_dim=4,
    generator_channels=(8, 8, 4),
    classifier_channels=(4, 8),
)


def outputs(content, name, value):
    session = pytest.importorskip("onnxruntime").InferenceSession(content)
    assert [given.name for given in session.get_inputs()] == [name]
    names = [found.name for found in session.get_outputs()]
    return dict(zip(names, session.run(names, {name: value}), strict=True))


@pytest.mark.usefixtures("as_users_call")
def test_generators_in_onnxruntime():
    pytest.importorskip("jax2onnx")
    params = init_params(CONFIG, jax.random.key(0))
    z = np.random.default_rng(0).normal(size=(3, CONFIG.latent_dim)).astype(np.float32)
    found = outputs(onnx.generators(CONFIG, params, 3), "z", z)
    expected = render(CONFIG, params, z)
    assert set(found) == {"images", "pi", "reconstruction", "foreground_weight"}
    for name, value in found.items():
        np.testing.assert_allclose(value, getattr(expected, name), atol=1e-4)
    assert np.ptp(found["pi"]) > 0.01


@pytest.mark.usefixtures("as_users_call")
def test_the_encoder_in_onnxruntime():
    pytest.importorskip("jax2onnx")
    net = encoder.init_encoder(CONFIG, 16, jax.random.key(1))
    images = np.random.default_rng(1).uniform(-1, 1, (2, 16, 16, 3)).astype(np.float32)
    found = outputs(onnx.encoder_network(CONFIG, {encoder.NAME: net}, 2), "images", images)
    expected = encoder.guess(CONFIG, net, images)
    for name in ("mean", "log_scale"):
        np.testing.assert_allclose(found[name], getattr(expected, name), atol=1e-4)


def test_without_jax2onnx_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "jax2onnx", None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[onnx\]'"):
        onnx.generators(CONFIG, init_params(CONFIG, jax.random.key(0)), 1)
