"""The plain definition of docs/method.md 1, 2 and 4 in float64, to hold the fast forms against.

Every operation is written out once more, for one image and from the text alone: nothing of
``drc_jax`` is used but the parameter tree's names. Slow, and meant to be read beside that page.
``evaluate``; the other functions need its x64 context. An image is [H, W, 3], a latent [D].
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

LISTING_EPSILON = 1e-8


def evaluate(function: Callable[..., Any], *arrays: Any) -> Any:
    """``function`` of float64 copies of all ``arrays``, as float64 numpy arrays."""
    with (
        jax.enable_x64(True),
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
    ):
        wide = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf, np.float64)), arrays)
        return jax.tree.map(np.asarray, function(*wide))


def leaky(x, slope):
    return jnp.where(x >= 0, x, slope * x)


def upsample(x):
    """Bilinear, half-pixel centres, clamped edges: the same matrix for rows and for columns."""
    size = len(x)
    matrix = np.zeros((2 * size, size))
    for i in range(2 * size):
        centre = (i + 0.5) / 2 - 0.5
        below = int(np.floor(centre))
        for row, weight in ((below, below + 1 - centre), (below + 1, centre - below)):
            matrix[i, min(max(row, 0), size - 1)] += weight
    return jnp.einsum("ai,bj,ijc->abc", matrix, matrix, x)


def convolve(x, kernel, stride=1, padding=1):
    """[H, W, C_in] with [kh, kw, C_in, C_out]: the sum over taps, zeros outside."""
    height, width = kernel.shape[:2]
    x = jnp.pad(x, ((padding, padding), (padding, padding), (0, 0)))
    rows, columns = (x.shape[0] - height) // stride + 1, (x.shape[1] - width) // stride + 1
    i = np.arange(rows)[:, None] * stride + np.arange(height)
    j = np.arange(columns)[:, None] * stride + np.arange(width)
    return jnp.einsum("aibjc,ijcd->abd", x[i[:, :, None, None], j], kernel)


def normalise(x, norm):
    mean = x.mean(axis=(0, 1))
    variance = ((x - mean) ** 2).mean(axis=(0, 1))
    return (x - mean) / jnp.sqrt(variance + 1e-5) * norm["scale"] + norm["shift"]


def grid_sample(image, grid):
    """Every pixel counts by how near it is, none from one pixel away; grid[..., 0] is x."""
    height, width, _ = image.shape
    x, y = ((grid[..., 0] + 1) * width - 1) / 2, ((grid[..., 1] + 1) * height - 1) / 2
    near_rows = jnp.maximum(1 - jnp.abs(y[..., None] - np.arange(height)), 0)
    near_columns = jnp.maximum(1 - jnp.abs(x[..., None] - np.arange(width)), 0)
    return jnp.einsum("abi,abj,ijc->abc", near_rows, near_columns, image)


def base(net, z, slope):
    linear = net["base"]["linear"]
    return leaky(z @ linear["kernel"] + linear["bias"], slope).reshape(4, 4, -1)


def blocks(net, x):
    for i in range(sum(name.startswith("block_") for name in net)):
        block = net[f"block_{i}"]
        x = leaky(normalise(convolve(upsample(x), block["kernel"]), block["norm"]), 0.01)
    return x


def paint(net, z, slope):
    """G_f or G_b: image in (-1, 1), mask logit [H, W], 4x4 base."""
    start = base(net, z, slope)
    x = blocks(net, start)
    image = convolve(x, net["image_kernel"]) + net["head_bias"][:3]
    logit = convolve(x, net["mask_kernel"]) + net["head_bias"][3:]
    return jnp.tanh(image), logit[..., 0], start


def split(config, z):
    return jnp.split(z, [config.zf_dim, config.zf_dim + config.zb_dim])


def render(config, params, z):
    """Foreground, re-assigned background, log pi [2, H, W], and both images with their logits."""
    z_f, z_b, z_s = split(config, z)
    nets, slope = params["generator"], config.generator_base_slope
    f_image, f_logit, _ = paint(nets["foreground"], z_f, slope)
    b_image, b_logit, b_lat = paint(nets["background"], z_b, slope)
    net = nets["reassignment"]
    x = jnp.concatenate([jax.lax.stop_gradient(b_lat), base(net, z_s, slope)], axis=-1)
    grid = jnp.tanh(convolve(blocks(net, x), net["head"]["kernel"]) + net["head"]["bias"])
    moved = grid_sample(jnp.concatenate([b_image, b_logit[..., None]], axis=-1), grid)
    logits = jnp.stack([f_logit, moved[..., 3]])
    log_pi = logits - jax.scipy.special.logsumexp(logits, axis=0)
    return f_image, moved[..., :3], log_pi, ((f_image, f_logit), (b_image, b_logit))


def likelihood(f_image, b_image, log_pi, image, scale):
    """J per pixel and channel with the listing's epsilons, Laplace: [H, W, 3]."""
    pi = jnp.exp(log_pi)[..., None]
    log_f, log_b = -scale * jnp.abs(image - f_image), -scale * jnp.abs(image - b_image)
    joint_f, joint_b = pi[0] * jnp.exp(log_f), pi[1] * jnp.exp(log_b)
    gamma_f = jax.lax.stop_gradient(joint_f / (joint_f + joint_b + LISTING_EPSILON))
    terms_f = jnp.log(pi[0] + LISTING_EPSILON) + log_f
    terms_b = jnp.log(pi[1] + LISTING_EPSILON) + log_b
    return gamma_f * terms_f + (1 - gamma_f) * terms_b


def differences(image):
    return jnp.abs(jnp.diff(image, axis=1)), jnp.abs(jnp.diff(image, axis=0))


def mlp(net, z):
    for i in range(sum(name.startswith("linear_") for name in net)):
        z = leaky(z @ net[f"linear_{i}"]["kernel"] + net[f"linear_{i}"]["bias"], 0.2)
    return z @ net["out"]["kernel"] + net["out"]["bias"]


def energy(config, params, z):
    """E(z), a scalar."""
    z_f, z_b, z_s = split(config, z)
    nets = params["ebm"]
    return (
        jax.scipy.special.logsumexp(mlp(nets["foreground"], z_f))
        + jax.scipy.special.logsumexp(mlp(nets["background"], z_b))
        + mlp(nets["reassignment"], z_s)[0]
    )


def prior_energy(config, params, z):
    return energy(config, params, z) + (z**2).sum() / 2


def posterior_energy(config, params, z, image):
    f_image, b_image, log_pi, _ = render(config, params, z)
    j = likelihood(f_image, b_image, log_pi, image, 1 / (2 * config.sigma**2)).sum()
    variation = sum(d.sum() for d in differences(b_image))
    return prior_energy(config, params, z) + config.langevin_weight * (0.01 * variation - j)


def classify(net, image):
    x = image
    for i in range(sum(name.startswith("conv_") for name in net)):
        x = normalise(convolve(x, net[f"conv_{i}"]["kernel"], stride=2), net[f"norm_{i}"])
        x = leaky(x, 0.2)
    return convolve(x, net["out"]["kernel"], padding=0)[0, 0] + net["out"]["bias"]


def orthogonality(config, tree: Mapping[str, Any]):
    total = jnp.zeros(())
    for kernel in jax.tree.leaves(tree):
        if kernel.ndim == 4:
            rows = kernel.reshape(-1, kernel.shape[-1]).T
            gram = rows @ rows.T
            squares = ((gram - jnp.diag(jnp.diag(gram))) ** 2).sum()
            if config.orthogonality == "squared":
                total += squares
            elif len(rows) > 1:  # a single row is orthogonal to nothing, and its norm has no slope
                total += jnp.sqrt(squares)
    return total


def generator_loss(config, params, z, images):
    """docs/method.md 4 over a batch, z [B, D] and images [B, H, W, 3]: a scalar."""
    scale = 1 / (2 * config.sigma**2) if config.scale_loss_likelihood else 1.0

    def of_one(z, image):
        f_image, b_image, log_pi, sources = render(config, params, z)
        fit = likelihood(f_image, b_image, log_pi, image, scale).mean()
        variation = sum(d.mean() for d in differences(b_image))
        labels = 0.0
        parts = split(config, z)
        for name, part, (picture, logit) in zip(
            ("foreground", "background"), parts[:2], sources, strict=True
        ):
            if config.mask_classifier_input:
                picture = picture * jax.nn.sigmoid(logit)[..., None]
            target = jax.nn.softmax(jax.lax.stop_gradient(mlp(params["ebm"][name], part)))
            guess = jax.nn.log_softmax(classify(params["classifier"][name], picture))
            labels -= (target * guess).sum()
        return -fit + 0.01 * variation + 0.1 * labels

    nets = [params["generator"]["foreground"], params["generator"]["background"]]
    if config.orthogonality_classifiers:
        nets.append(params["classifier"])
    spread = sum(orthogonality(config, net) for net in nets)
    return jax.vmap(of_one)(z, images).mean() + config.orthogonality_weight * spread


def ebm_loss(config, params, z_posterior, z_prior):
    """mean E(z+) - mean E(z-) over batches [B, D]: a scalar."""
    of_batch = jax.vmap(lambda z: energy(config, params, z))
    return of_batch(z_posterior).mean() - of_batch(z_prior).mean()
