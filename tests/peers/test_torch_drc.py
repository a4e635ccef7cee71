"""The PyTorch peer against the parity fixture: what the authors' program and the supplement do."""

import dataclasses
import json
import pathlib

import numpy as np
import pytest

from drc_jax.config import ModelConfig, OptimizerConfig, SamplerConfig
from drc_jax.errors import UserError
from tests.helpers.small import TWO_BLOCKS

torch = pytest.importorskip("torch", reason="torch is absent: the PyTorch peer is an extra")

from experiments.peers import torch_drc, torch_model  # noqa: E402  (needs torch)

VARIANTS = ("supplement", "released")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # the networks are tiny
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def parity(shared: pathlib.Path) -> dict[str, np.ndarray]:
    with np.load(shared / "parity" / "drc_32px.npz") as file:
        return dict(file)


@pytest.fixture(scope="module", params=VARIANTS)
def case(request, parity):
    """A variant's peer with the fixture's weights, its expected values, z and images."""
    peer = torch_drc.TorchPeer(parity_config(parity, request.param))
    peer.load_arrays(weights(parity))
    prefix = request.param + "/"
    expected = {k.removeprefix(prefix): v for k, v in parity.items() if k.startswith(prefix)}
    return peer, expected, torch.tensor(parity["input/z"]), torch.tensor(parity["input/image"])


def parity_config(parity, variant: str, **fields) -> ModelConfig:
    meta = json.loads(str(parity["meta"]))
    same = ("ebm_width", "ebm_reassign_width", "num_fg_categories", "num_bg_categories", "sigma")
    sizes = dict(
        zf_dim=meta["zf"],
        zb_dim=meta["zb"],
        zs_dim=meta["zs"],
        generator_channels=tuple(meta["generator_channels"]),
        classifier_channels=tuple(meta["classifier_channels"]),
        **{name: meta[name] for name in same},
    )
    return getattr(ModelConfig, variant)(**sizes, **fields)


def weights(parity) -> dict[str, np.ndarray]:
    return {k.removeprefix("param/"): v for k, v in parity.items() if k.startswith("param/")}


def assert_close(actual, expected, relative: float) -> None:
    """Largest difference relative to the largest expected value."""
    actual = actual.detach().numpy()
    assert actual.shape == expected.shape
    error = np.abs(actual - expected).max() / max(np.abs(expected).max(), 1e-30)
    assert error < relative


def test_render(case):
    peer, expected, z, _ = case
    drawn = peer.model.render(z)
    pi = drawn.log_pi.exp()
    outputs = {
        "fg": drawn.images[:, 0],
        "bg_warped": drawn.images[:, 1],
        "bg": drawn.sources[1][:, :3],
        "pi_f": pi[:, 0],
        "pi_b": pi[:, 1],
        "grid": drawn.grid,
        "image_recon": drawn.reconstruction,
    }
    for name, value in outputs.items():
        assert_close(value, expected[name], 2e-5)


def test_class_logits_and_prior(case):
    peer, expected, z, _ = case
    fg_logits, bg_logits = peer.model.class_logits(peer.model.render(z).sources)
    assert_close(fg_logits, expected["fg_class_logits"], 2e-5)
    assert_close(bg_logits, expected["bg_class_logits"], 2e-5)
    assert_close(peer.model.ebm_net(z)[:, None], expected["ebm_value"], 2e-5)


def test_energies_and_gradients(case):
    peer, expected, z, x = case
    energies = {"posterior": lambda z: peer.posterior_energy(z, x), "prior": peer.prior_energy}
    for name, energy in energies.items():
        leaf = z.clone().requires_grad_()
        value = energy(leaf)
        assert value.shape == (3,)
        assert_close(value.sum(), expected[f"{name}_objective"], 2e-5)
        (gradient,) = torch.autograd.grad(value.sum(), leaf)
        assert_close(gradient, expected[f"{name}_grad"], 1e-3)


def test_channels_last_is_the_same_function(case, parity):
    peer, expected, z, x = case
    other = torch_drc.TorchPeer(peer.model.config, channels_last=True)
    other.load_arrays(weights(parity))
    weight = other.model.fg_net.decode_base.blocks[1].block[1].weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    loss, _ = other.generator_loss(z, x)
    assert_close(loss, expected["gen_loss"], 2e-5)
    leaf = z.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(other.posterior_energy(leaf, x).sum(), leaf)
    assert_close(gradient, expected["posterior_grad"], 1e-3)


def test_three_noiseless_steps(case):
    peer, expected, z, x = case
    before = z.clone()
    posterior = peer.posterior_sample(z, x, 3, 0.1, temperature=0.0)
    prior = peer.prior_sample(z, 3, 0.4, temperature=0.0)
    assert_close(prior, expected["prior_z_after_3_noiseless_steps"], 1e-5)
    # The image terms have kinks, so that a last-bit change of z grows to 0.1 or 0.4 in single
    # latents within three steps (median 4e-4); a step size off by 0.5 % moves the median by 0.2.
    difference = (posterior - torch.tensor(expected["posterior_z_after_3_noiseless_steps"])).abs()
    assert difference.median() < 0.02
    assert difference.mean() < 0.1
    assert torch.equal(z, before) and not z.requires_grad
    assert all(p.requires_grad and p.grad is None for p in peer.model.parameters())


def test_generator_loss_and_gradients(case):
    peer, expected, z, x = case
    loss, terms = peer.generator_loss(z, x)
    assert_close(loss, expected["gen_loss"], 2e-5)
    assert_close(terms["log_likelihood"], expected["gen_e_z_log_p"], 2e-5)
    assert_close(terms["total_variation"], expected["gen_tv"], 2e-5)
    assert_close(terms["pseudo_label_foreground"], expected["gen_pseudo_label_f"], 2e-5)
    assert_close(terms["pseudo_label_background"], expected["gen_pseudo_label_b"], 2e-5)
    assert_close(terms["orthogonality"], expected["gen_ortho"], 2e-5)
    check_gradients(peer.model, loss, expected, "gen_grad/")


def test_ebm_loss_and_gradients(case):
    peer, expected, z, _ = case
    loss, _ = peer.ebm_loss(z, torch.tensor(expected["z_prior"]))
    assert_close(loss, expected["ebm_loss"], 2e-5)
    check_gradients(peer.model, loss, expected, "ebm_grad/")


def check_gradients(model, loss, expected, prefix: str) -> None:
    """The loss's gradient to every parameter of the fixture, and to no other."""
    parameters = dict(model.named_parameters())
    gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    named = {k: g for k, g in zip(parameters, gradients, strict=True) if g is not None}
    assert set(named) == {k.removeprefix(prefix) for k in expected if k.startswith(prefix)}
    for name, gradient in named.items():
        assert torch.isfinite(gradient).all()
        # The fixture has NaN where it took the norm's slope at the mask heads' empty off-diagonal.
        if not (name.endswith("ma_head.0.weight") and np.isnan(expected[prefix + name]).all()):
            assert_close(gradient, expected[prefix + name], 1e-3)


def test_arrays_round_trip_and_refusal(parity):
    peer = torch_drc.TorchPeer(parity_config(parity, "supplement"))
    peer.load_arrays(weights(parity))
    saved = peer.arrays()
    assert saved.keys() == weights(parity).keys()
    for name, value in weights(parity).items():
        np.testing.assert_array_equal(saved[name], value)
    saved.pop("fg_net.fc.0.bias")
    with pytest.raises(UserError, match=r"fg_net\.fc\.0\.bias"):
        peer.load_arrays(saved)


def batch(config: ModelConfig = TWO_BLOCKS, size: int = 2):
    source = torch.Generator().manual_seed(1)
    x = torch.rand(size, 3, config.image_size, config.image_size, generator=source) * 2 - 1
    chains = [torch.randn(size, config.latent_dim, generator=source) for _ in range(2)]
    return x, *chains


def test_initial_weights_are_orthogonal():
    model = torch_model.TorchDRC(TWO_BLOCKS)
    flat = model.fg_net.decode_base.blocks[0].block[1].weight.detach().flatten(1)
    np.testing.assert_allclose(flat @ flat.T, np.eye(6), atol=1e-5)
    assert not model.fg_net.fc[0].bias.any()
    assert float(model.orthogonality().detach()) < 1e-4


def test_pixel_responsibility_and_gaussian_by_hand():
    config = dataclasses.replace(TWO_BLOCKS, responsibility="pixel", likelihood="gaussian")
    model = torch_model.TorchDRC(config)
    x, z, _ = batch()
    drawn = model.render(z)
    fit = model.expected_log_likelihood(drawn, x, 8.0).detach().numpy()
    log_pi, images = (t.detach().numpy().astype(np.float64) for t in (drawn.log_pi, drawn.images))
    log_p = -8.0 * ((images - x.numpy()[:, None]) ** 2).sum(2)
    joint = np.exp(log_pi[:, :, 0] + log_p)
    gamma = joint / joint.sum(1, keepdims=True)
    by_hand = (gamma * np.log(joint)).sum(1, keepdims=True)
    np.testing.assert_allclose(fit, by_hand, rtol=1e-4)


def test_langevin_variance_of_a_gaussian():
    """The discrete chain's exact stationary variance on |z|^2/2 is 1 / (1 - delta^2/4)."""
    source = torch.Generator().manual_seed(0)
    z = torch.randn(100_000, 1, generator=source)
    z = torch_drc.langevin(lambda z: z.square().sum(1) / 2, z, 40, 0.8, source)
    assert abs(float(z.var()) - 1 / (1 - 0.16)) < 0.02
    assert abs(float(z.mean())) < 0.02


@pytest.mark.parametrize("variant", VARIANTS)
def test_train_step_repeats_and_moves_every_parameter(variant):
    config = getattr(ModelConfig, variant)(
        **{k: v for k, v in vars(TWO_BLOCKS).items() if "dim" in k or "channels" in k}
    )
    sampler = SamplerConfig(prior_steps=2, posterior_steps=2)
    rates = OptimizerConfig(generator_learning_rate=1e-2, ebm_learning_rate=1e-2, clip_norm=1.0)
    torch.manual_seed(0)
    peers = [torch_drc.TorchPeer(config, sampler, rates) for _ in range(2)]
    start = peers[0].arrays()
    peers[1].load_arrays(start)
    results = [p.train_step(*batch(config), torch.Generator().manual_seed(3)) for p in peers]
    ends = [p.arrays() for p in peers]
    for name, value in ends[0].items():
        assert np.isfinite(value).all()
        # The last bias of F_s shifts E(z+) and E(z-) alike.
        assert np.array_equal(value, start[name]) == (name == "ebm_net.sp_model.6.bias")
        np.testing.assert_array_equal(value, ends[1][name])
    for first, second in zip(results[0][:2], results[1][:2], strict=True):
        assert torch.equal(first, second) and not first.requires_grad
    metrics = results[0][2]
    assert all(torch.isfinite(value) and value.shape == () for value in metrics.values())


def test_train_step_first_adam_step_by_hand():
    """After one step from zero moments Adam moves by the rate, against the gradient's sign."""
    sampler = SamplerConfig(prior_steps=1, posterior_steps=1)
    peer = torch_drc.TorchPeer(TWO_BLOCKS, sampler)
    start = peer.model.ebm_net.sp_model[0].weight.detach().clone()
    peer.train_step(*batch(), torch.Generator().manual_seed(3))
    moved = peer.model.ebm_net.sp_model[0].weight.detach() - start
    gradient = peer.model.ebm_net.sp_model[0].weight.grad
    large = gradient.abs() > 1e-5
    assert large.any()
    torch.testing.assert_close(moved[large], -2e-5 * gradient[large].sign(), rtol=2e-2, atol=1e-8)


def test_bfloat16_stays_near_float32(parity):
    config = parity_config(parity, "supplement")
    z, x = torch.tensor(parity["input/z"]), torch.tensor(parity["input/image"])
    energies = []
    for bf16 in (False, True):
        model = torch_model.TorchDRC(config, bf16)
        model.load_arrays(weights(parity))
        energies.append(model.posterior_energy(z, x))
    assert energies[1].dtype == torch.float32
    assert not torch.equal(*energies)
    torch.testing.assert_close(energies[1], energies[0], rtol=2e-2, atol=0)


def test_unknown_compile_mode():
    with pytest.raises(UserError, match="'fast'"):
        torch_drc.TorchPeer(TWO_BLOCKS, compile_mode="fast")
