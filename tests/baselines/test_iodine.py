"""IODINE: the paper's sizes and equations, what gradients reach, and refusals."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drc_jax.baselines import iodine_likelihood as likelihood
from drc_jax.baselines import iodine_model as model
from drc_jax.baselines import iodine_networks as networks
from drc_jax.baselines.iodine_networks import Gradients, IodineModelConfig
from drc_jax.errors import UserError
from tests.helpers.slot_methods import IODINE as TINY
from tests.helpers.slot_methods import METHODS, SIZE, mixture_pixels, squares

SPRITES = IodineModelConfig(
    image_size=64,
    num_slots=6,
    latent_size=16,
    decoder_channels=(32,) * 4,
    decoder_kernel_size=5,
    refiner_channels=(32,) * 3,
    refiner_kernel_size=5,
    refiner_coordinates="cosine",
    refiner_mlp=(128,),
    lstm_size=128,
)
ORDER = np.array([2, 0, 1])
init_params = jax.jit(model.init_params, static_argnums=0)
jitted_loss = jax.jit(model.loss, static_argnums=0)


@pytest.fixture(scope="module")
def params():
    return init_params(TINY, jax.random.key(1))


@pytest.fixture(scope="module")
def images():
    return jnp.asarray(squares(2), "float32") / 255.0


@pytest.fixture(scope="module")
def noise():
    return model.draw_noise(TINY, jax.random.split(jax.random.key(2), 2))


def num_params(config) -> int:
    shapes = jax.eval_shape(lambda: model.init_params(config, jax.random.key(0)))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


def test_the_papers_sizes():
    """The published networks, less the weights of the release's constant channels."""
    shapes = jax.eval_shape(lambda: model.init_params(IodineModelConfig(), jax.random.key(0)))
    assert sum(x.size for x in jax.tree.leaves(shapes["decoder"])) == 151_748 - 9 * 64
    lstm = sum(x.size for x in jax.tree.leaves(shapes["refiner"]["lstm"]))
    assert lstm == 788_480 - 4 * 256
    assert shapes["refiner"]["Conv_0"]["kernel"].shape == (3, 3, 17, 64)
    assert num_params(IodineModelConfig()) == 1_174_992
    assert num_params(SPRITES) == 339_152 - 2 * 25 * 32 - 4 * 128
    tetrominoes = dataclasses.replace(
        SPRITES, image_size=35, num_slots=4, latent_size=32, lstm_size=0
    )
    assert num_params(tetrominoes) == 199_568 - 2 * 25 * 32 - 64


def test_flattened_features_keep_their_places():
    """Two strides of 2 leave 2x2 places of 8x8 pixels, each with 6 channels."""
    config = dataclasses.replace(TINY, refiner_pooling="flatten")
    shapes = jax.eval_shape(lambda: model.init_params(config, jax.random.key(0)))
    assert shapes["refiner"]["Dense_0"]["kernel"].shape == (2 * 2 * 6, 8)
    assert num_params(config) == num_params(TINY) + 3 * 6 * 8


def test_initial_parameters():
    """Kernels: normals of deviation fan_in^-1/2, cut at two of them. Posterior: uniform."""
    start = init_params(SPRITES, jax.random.key(0))
    posterior = np.abs(start["posterior"])
    assert posterior.shape == (32,) and 0.8 * 0.306 < posterior.max() <= (6 / 64) ** 0.5
    kernel = np.asarray(start["refiner"]["Conv_1"]["kernel"]) * (25 * 32) ** 0.5
    assert 1.9 < np.abs(kernel).max() <= 2.0 and kernel.std() == pytest.approx(0.88, abs=0.01)
    lstm = start["refiner"]["lstm"]["Dense_0"]
    bias = np.asarray(lstm["bias"]) * (192 + 128) ** 0.5
    assert np.abs(bias).max() <= 2.0 and bias.std() == pytest.approx(0.88, abs=0.08)


def test_samples_and_divergence_of_the_posterior():
    rng = np.random.default_rng(0)
    posterior, eps = rng.normal(size=(2, 3, 8)), rng.normal(size=(2, 3, 4))
    config = dataclasses.replace(TINY, prior_variance=0.7)
    latents, kl = model.sample_posterior(
        config, jnp.asarray(posterior, "float32"), jnp.asarray(eps, "float32")
    )
    loc, variance = posterior[..., :4], np.log1p(np.exp(posterior[..., 4:]))
    np.testing.assert_allclose(latents, loc + np.sqrt(variance) * eps, rtol=1e-4, atol=1e-5)
    each = variance / 0.7 + loc**2 / 0.7 - 1 - np.log(variance / 0.7)
    np.testing.assert_allclose(kl, 0.5 * each.sum((1, 2)), rtol=1e-4)
    as_prior = jnp.concatenate([jnp.zeros((1, 1, 4)), jnp.full((1, 1, 4), np.log(np.e - 1))], -1)
    _, none = model.sample_posterior(TINY, as_prior, jnp.zeros((1, 1, 4)))
    np.testing.assert_allclose(none, 0.0, atol=1e-5)


def test_an_lstm_step_is_the_standard_one():
    """Gates in the order input, candidate, forget, output; 1 is added to the forget gate's."""
    rng = np.random.default_rng(0)
    state = networks.LstmState(*(jnp.asarray(rng.normal(size=(2, 5)), "float32") for _ in "ch"))
    x = jnp.asarray(rng.normal(size=(2, 3)), "float32")
    module = networks.Lstm(5)
    start = module.init(jax.random.key(0), state, x)["params"]
    found = module.apply({"params": start}, state, x)
    state, layer = jax.tree.map(np.asarray, (state, start["Dense_0"]))
    gates = np.concatenate([x, state.hidden], -1) @ layer["kernel"] + layer["bias"]
    i, g, f, o = np.split(gates, 4, axis=-1)

    def sigmoid(values):
        return 1 / (1 + np.exp(-values))

    cell = sigmoid(f + 1) * state.cell + sigmoid(i) * np.tanh(g)
    np.testing.assert_allclose(found.cell, cell, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.hidden, sigmoid(o) * np.tanh(cell), rtol=1e-4, atol=1e-6)


def refine(config, start, seen, means, logits, gradients, posterior=None):
    densities = likelihood.log_density(config.density, config.scale, seen, means)
    if posterior is None:
        posterior = jnp.ones((len(seen), config.num_slots, 2 * config.latent_size))
    state = networks.first_state(config, len(seen))
    refiner = networks.Refiner(config)
    return refiner.apply(
        {"params": start}, seen, means, logits, densities, posterior, gradients, state
    )[0]


def test_what_the_refinement_network_sees():
    seen, means, logits, _ = mixture_pixels()
    rng = np.random.default_rng(1)
    given = Gradients(
        jnp.asarray(rng.normal(size=means.shape), "float32"),
        jnp.asarray(rng.normal(size=logits.shape), "float32"),
        jnp.ones((2, 3, 8)),
    )
    densities = likelihood.log_density("gaussian", 0.1, seen, means)
    module = networks.RefinerInputs("linear")
    shown, _ = module.init_with_output(jax.random.key(0), seen, means, logits, densities, given)
    assert shown.shape == (2, 3, 4, 4, 17)

    def normed(x):
        x = np.asarray(x, np.float64)
        axes = (-3, -2, -1)
        return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-5)

    def softmax(x):
        x = np.exp(np.asarray(x, np.float64) - np.max(x, 1, keepdims=True))
        return x / x.sum(1, keepdims=True)

    pixel = np.log((softmax(logits) * np.exp(np.asarray(densities, np.float64))).sum(1))[:, None]
    without = likelihood.leave_one_out(logits, densities)
    expected = {
        0: seen[:, None],
        3: means,
        6: logits[..., None],
        7: softmax(logits)[..., None],
        8: softmax(densities)[..., None],
        9: normed(given.means),
        12: normed(given.logits[..., None]),
        13: normed(pixel[..., None]),
        14: normed((pixel - without)[..., None]),
        15: np.stack(np.meshgrid(*2 * [np.linspace(-1, 1, 4)], indexing="ij"), -1)[None, None],
    }
    for at, value in expected.items():
        value = np.broadcast_to(value, (*logits.shape, value.shape[-1]))
        found = shown[..., at : at + value.shape[-1]]
        np.testing.assert_allclose(found, value, rtol=2e-3, atol=2e-3, err_msg=str(at))


def test_gradients_stop_where_they_should(params, images):
    """Nothing flows through likelihoods and gradients; it does through means, masks, lambda."""
    means = images[:, None] + jnp.linspace(-0.2, 0.1, 3)[None, :, None, None, None]
    logits = jnp.linspace(0.0, 1.0, 2 * 3 * SIZE * SIZE).reshape(2, 3, SIZE, SIZE)
    flat = jnp.linspace(0.0, 1.0, 2 * 3 * 8).reshape(2, 3, 8)
    start, given = params["refiner"], Gradients(0.5 * means, logits**2, flat)

    def total(which):
        densities = likelihood.log_density("gaussian", 0.1, images, which["means"])
        module, state = networks.Refiner(TINY), networks.first_state(TINY, 2)
        change, _ = module.apply(
            {"params": start}, images, which["means"], which["logits"], densities,
            which["posterior"], given, state,
        )  # fmt: skip
        return jnp.sum(change**2)

    def inputs(means, logits):
        densities = likelihood.log_density("gaussian", 0.1, images, means)
        module = networks.RefinerInputs("linear")
        return module.apply({"params": start["inputs"]}, images, means, logits, densities, given)

    reached = jax.jit(jax.grad(total))({"means": means, "logits": logits, "posterior": flat})
    assert all(np.abs(x).max() > 0 for x in reached.values())
    _, moved = jax.jvp(inputs, (means, logits), (means, logits))
    assert np.abs(moved[..., 3:9]).max(axis=(0, 1, 2, 3)).min() > 0
    assert not moved[..., 9:].any() and not moved[..., :3].any()


def test_permuting_the_noise_permutes_the_slots(params, images, noise):
    (loss, a), (other, b) = (
        jitted_loss(TINY, params, images, each) for each in (noise, noise[:, :, ORDER])
    )
    assert np.abs(a.posterior - b.posterior).max() > 1e-3
    np.testing.assert_allclose(a.posterior[:, ORDER], b.posterior, atol=1e-4)
    np.testing.assert_allclose(a.regions.pi[:, ORDER], b.regions.pi, atol=1e-4)
    np.testing.assert_allclose(a.regions.images[:, ORDER], b.regions.images, atol=1e-4)
    assert float(loss) == pytest.approx(float(other), rel=1e-4)


def test_decodes_and_their_weights(params, images, noise):
    """T + 1 decodes with weights 0, 1/2, 1 for T = 2; the first is of the initial posterior."""
    loss, output = jitted_loss(TINY, params, images, noise, 0.3)
    assert output.nll.shape == output.kl.shape == (3, 2)
    each = np.asarray(output.nll + 0.3 * output.kl).mean(1)
    assert float(loss) == pytest.approx(0.5 * each[1] + each[2], rel=1e-5)

    initial = jnp.broadcast_to(params["posterior"], (2, 3, 8))
    for at, posterior in ((0, initial), (-1, output.posterior)):
        latents, kl = model.sample_posterior(TINY, posterior, noise[:, at])
        means, logits = model.decode(TINY, params, latents)
        densities = likelihood.log_density("gaussian", 0.1, images, means)
        nll = -likelihood.log_likelihood(logits, densities).sum((1, 2))
        np.testing.assert_allclose(output.nll[at], nll, rtol=1e-4)
        np.testing.assert_allclose(output.kl[at], kl, rtol=1e-4)
    np.testing.assert_allclose(output.regions.images, 2 * means - 1, atol=1e-4)
    np.testing.assert_allclose(output.regions.pi, jax.nn.softmax(logits, axis=1), atol=1e-5)
    np.testing.assert_allclose(output.regions.pi.sum(1), 1.0, rtol=1e-5)


def test_one_refinement_by_hand(params, images, noise):
    """Its gradients are those of the whole loss of one image by autodiff."""
    config = dataclasses.replace(TINY, refinements=1)
    initial = jnp.broadcast_to(params["posterior"], (2, 3, 8))

    def scored(posterior):
        latents, kl = model.sample_posterior(config, posterior, noise[:, 0])
        means, logits = model.decode(config, params, latents)
        densities = likelihood.log_density("gaussian", 0.1, images, means)
        nll = -likelihood.log_likelihood(logits, densities).sum()
        return nll + 0.5 * kl.sum(), (means, logits)

    of_posterior, (means, logits) = jax.grad(scored, has_aux=True)(initial)

    def of_pixels(means, logits):
        densities = likelihood.log_density("gaussian", 0.1, images, means)
        return -likelihood.log_likelihood(logits, densities).sum()

    gradients = Gradients(*jax.grad(of_pixels, argnums=(0, 1))(means, logits), of_posterior)
    expected = initial + refine(
        config, params["refiner"], images, means, logits, gradients, initial
    )
    iterate = jax.jit(model.iterate, static_argnums=0)
    found = iterate(config, params, images, noise[:, :2], 0.5).posterior
    assert np.abs(found - initial).max() > 1e-3
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_every_parameter_is_trained_through_the_refinements(params, images, noise):
    """The first decode has no weight, yet the initial posterior gets a gradient."""
    config = dataclasses.replace(TINY, refinements=1)
    reached = jax.grad(lambda p: jitted_loss(config, p, images, noise)[0])(params)
    assert np.abs(reached["posterior"]).min() > 0
    for path, leaf in jax.tree_util.tree_leaves_with_path(reached):
        assert np.abs(leaf).max() > 0, path


def test_rematerialising_changes_nothing(params, images, noise):
    again = dataclasses.replace(TINY, rematerialise=True)
    kept, computed = (
        jax.jit(jax.grad(lambda p, c=config: model.loss(c, p, images, noise)[0]))(params)
        for config in (TINY, again)
    )
    for a, b in zip(jax.tree.leaves(kept), jax.tree.leaves(computed), strict=True):
        np.testing.assert_array_less(np.linalg.norm(a - b), 1e-3 * np.linalg.norm(a) + 1e-6)


def test_an_images_noise_depends_on_its_key_alone(noise):
    keys = jax.random.split(jax.random.key(2), 2)
    np.testing.assert_array_equal(model.draw_noise(TINY, keys[1:]), noise[1:])
    longer = model.draw_noise(dataclasses.replace(TINY, refinements=4), keys)
    np.testing.assert_array_equal(longer[:, :3], noise)
    assert noise.shape == (2, 3, 3, 4)
    assert np.abs(noise[:, 0] - noise[:, 1]).min() > 0 and float(noise.std()) > 0.7


def test_of_several_draws_the_one_of_lowest_loss_is_kept(params, images):
    keys = jax.random.split(jax.random.key(5), 2)
    infer = jax.jit(model.infer, static_argnums=0)

    def draw(number):
        """Regions and loss of one draw alone."""
        mine = (
            keys if number == 0 else jax.vmap(lambda k: jax.random.fold_in(k, 1000 + number))(keys)
        )
        output = model.iterate(TINY, params, images, model.draw_noise(TINY, mine))
        return output.regions, np.asarray(output.nll[-1] + output.kl[-1])

    draws = [draw(number) for number in range(4)]
    losses = np.stack([loss for _, loss in draws])
    found = infer(dataclasses.replace(TINY, test_draws=4), params, images, keys)
    for i, best in enumerate(losses.argmin(axis=0)):
        np.testing.assert_allclose(found.pi[i], draws[best][0].pi[i], atol=1e-5)
        np.testing.assert_allclose(found.images[i], draws[best][0].images[i], atol=1e-4)
    first = infer(TINY, params, images, keys)
    np.testing.assert_allclose(first.pi, draws[0][0].pi, atol=1e-5)
    assert len(set(losses.argmin(axis=0)) | {0}) > 1  # some draw is better than the first


def test_the_weight_of_the_divergence():
    slow = dataclasses.replace(TINY, kl_warmup_steps=100)
    weights = [float(model.kl_weight(slow, step)) for step in (0, 50, 100, 1000)]
    np.testing.assert_allclose(weights, [0.0, 0.5, 1.0, 1.0])
    assert float(model.kl_weight(TINY, 0)) == 1.0
    method, images = METHODS["iodine"][0], jnp.zeros((1, SIZE, SIZE, 3))
    keys, start = jax.random.split(jax.random.key(0), 1), init_params(TINY, jax.random.key(1))
    loss = jax.jit(method.loss, static_argnums=0)
    early, late = (loss(slow, start, images, keys, jnp.int32(t))[0] for t in (0, 100))
    constant, metrics = loss(TINY, start, images, keys, jnp.int32(0))
    assert float(late) == pytest.approx(float(constant), rel=1e-6)
    assert abs(float(early) - float(late)) > 1.0
    assert metrics.keys() == {"nll", "kl", "nll_gain", "largest_area"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_slots": 1}, "num_slots must be at least 2, got 1"),
        ({"refinements": 0}, "refinements must be at least 1, got 0"),
        ({"decoder_channels": ()}, "decoder_channels must have 1 entry or more, got none"),
        ({"refiner_mlp": ()}, "refiner_mlp must have 1 entry or more, got none"),
        ({"refiner_channels": (4,) * 5}, "image_size must then be at least 16, got 8"),
        ({"density": "gausian"}, "did you mean 'gaussian'"),
        ({"scale": 0.0}, "scale must be at least 0.0001, got 0.0"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(fields, message):
    with pytest.raises(UserError, match=message):
        dataclasses.replace(TINY, **fields)
