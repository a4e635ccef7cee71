"""ReDO's masks, redrawings and losses as pure functions.

Two regions: M gives the masks m_0 = sigmoid(M(x)) and m_1 = 1 - m_0, a generator for each region
paints it anew from noise, g_k = G_k(z_k, m_k), and the discriminator D must not see the difference
in

    x_k = m_k g_k + (1 - m_k) x                                                    (redrawn)

Z must find the noise of both regions in y = m_0 g_0 + m_1 g_1, so no region can be empty. The paper
redraws one random region per step and shows Z that image; the released code, followed here, redraws
each region in every step and shows Z the fully redrawn y.
"""

import dataclasses
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from drc_jax.baselines.redo_networks import Critic, Generator, MaskNet
from drc_jax.baselines.redo_start import fresh
from drc_jax.config.fields import check, field
from drc_jax.errors import UserError

NUM_REGIONS = 2

Variables = dict[str, Any]
"""Of a network: ``params``, and ``spectral`` where it has spectral norm."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReDOModelConfig:
    """Network sizes; the defaults are the released code's for LFW at 128x128.

    Attributes:
      image_size: side S of the images in pixels, 4 * 2^n.
      noise_size: numbers of noise per region.
      mask_width: channels of M at a quarter of the side.
      residual_blocks: of M.
      generator_width: channels of each generator at full size; 32 for Flowers.
      discriminator_width, estimator_width: channels of D and Z after their first block.
      attention: whether D and the generators have it.
      start: how networks begin. ``paper``: all kernels orthogonal with gain 0.8, M's scales 1.
        ``released``: as the released program really ran, where the orthogonal start missed the
        kernels with spectral norm: these, and M's scales, are uniform as PyTorch 1.0 has them.
    """

    image_size: int = field(128, least=16, most=4096)
    noise_size: int = field(32, least=1, most=2**16)
    mask_width: int = field(64, least=4, most=2**16)
    residual_blocks: int = field(3, least=0, most=100)
    generator_width: int = field(64, least=2, most=2**16)
    discriminator_width: int = field(64, least=2, most=2**16)
    estimator_width: int = field(64, least=2, most=2**16)
    attention: bool = True
    start: str = field("released", choices=("paper", "released"))

    def __post_init__(self) -> None:
        check(self)
        if self.image_size & (self.image_size - 1):
            raise UserError(f"image_size must be a power of two, from 16 on, got {self.image_size}")
        if self.mask_width % 4:
            raise UserError(f"mask_width must be a multiple of 4, got {self.mask_width}")

    @property
    def num_blocks(self) -> int:
        """n of S = 4 * 2^n."""
        return self.image_size.bit_length() - 3

    def mask_net(self) -> MaskNet:
        return MaskNet(self.mask_width, self.residual_blocks)

    def generator(self) -> Generator:
        return Generator(self.generator_width, self.num_blocks, self.attention)

    def discriminator(self) -> Critic:
        return Critic(self.discriminator_width, self.num_blocks, 1, self.attention)

    def estimator(self) -> Critic:
        outputs = NUM_REGIONS * self.noise_size
        return Critic(self.estimator_width, self.num_blocks, outputs, False)


def init(config: ReDOModelConfig, key: chex.PRNGKey) -> dict[str, Variables]:
    """Fresh networks; traceable.

    Returns:
      Variables by name: ``mask``, ``generator_0``, ``generator_1``, ``discriminator``,
      ``estimator``.
    """
    side = config.image_size
    images = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    mask = jax.ShapeDtypeStruct((1, side, side), jnp.float32)
    noise = jax.ShapeDtypeStruct((1, config.noise_size), jnp.float32)
    keys = jax.random.split(key, 3 + NUM_REGIONS)
    generators = {
        f"generator_{k}": fresh(config.generator(), keys[3 + k], config.start, noise, mask)
        for k in range(NUM_REGIONS)
    }
    return {
        "mask": fresh(config.mask_net(), keys[0], config.start, images),
        "discriminator": fresh(config.discriminator(), keys[1], config.start, images),
        "estimator": fresh(config.estimator(), keys[2], config.start, images),
        **generators,
    }


def masks(config: ReDOModelConfig, mask: Variables, images: jax.Array) -> jax.Array:
    """m_0 = sigmoid(M(x)) and m_1 = 1 - m_0: images [B, S, S, 3] in [-1, 1] to [B, 2, S, S]."""
    logit: Any = config.mask_net().apply(mask, images)
    first = jax.nn.sigmoid(logit)
    return jnp.stack([first, 1.0 - first], axis=1)


def draw_noise(config: ReDOModelConfig, keys: chex.PRNGKey) -> jax.Array:
    """z ~ N(0, I), [B, 2, nz], from [B] keys, one per image."""
    shape = (NUM_REGIONS, config.noise_size)
    return jax.vmap(lambda key: jax.random.normal(key, shape))(keys)


def paint(
    config: ReDOModelConfig, networks: dict[str, Variables], noise: jax.Array, pi: jax.Array
) -> tuple[jax.Array, dict[str, Variables]]:
    """g_k = G_k(z_k, m_k): what each region's generator paints, on all pixels.

    Args:
      config: static.
      networks: with the generators.
      noise: z, [B, 2, nz].
      pi: the masks m, [B, 2, S, S].

    Returns:
      [B, 2, S, S, 3] in (-1, 1), and the generators with their spectral norms advanced.
    """
    painted, advanced = [], {}
    for k in range(NUM_REGIONS):
        name = f"generator_{k}"
        image, advanced[name] = _advancing(
            config.generator(), networks[name], noise[:, k], pi[:, k]
        )
        painted.append(image)
    return jnp.stack(painted, axis=1), advanced


def redraw(images: jax.Array, pi: jax.Array, painted: jax.Array) -> jax.Array:
    """x_k = m_k g_k + (1 - m_k) x, [B, 2, S, S, 3]: each region alone is redrawn.

    Args:
      images: x, [B, S, S, 3].
      pi: m, [B, 2, S, S].
      painted: g, [B, 2, S, S, 3].
    """
    weight = pi[..., None]
    return weight * painted + (1.0 - weight) * images[:, None]


def compose(pi: jax.Array, painted: jax.Array) -> jax.Array:
    """y = m_0 g_0 + m_1 g_1, [B, S, S, 3]: everything is redrawn."""
    return jnp.sum(pi[..., None] * painted, axis=1)


class RedrawAux(NamedTuple):
    """What the redrawing loss is made of.

    Attributes:
      fake_logit: mean D over the redrawn images of both regions.
      noise_error: mean squared error of Z over images, regions and numbers.
      area: mean of m_0 over images and pixels.
      redrawn: [B, 2, S, S, 3].
      advanced: generators, discriminator and estimator with their spectral norms advanced.
    """

    fake_logit: jax.Array
    noise_error: jax.Array
    area: jax.Array
    redrawn: jax.Array
    advanced: dict[str, Variables]


def redraw_loss(
    config: ReDOModelConfig,
    networks: dict[str, Variables],
    images: jax.Array,
    noise: jax.Array,
    noise_weight: float,
) -> tuple[jax.Array, RedrawAux]:
    """- mean D(x_k) + noise_weight mean (z - Z(y))^2, which M, the generators and Z minimise.

    Nothing is stopped: M has gradients through the products m g and (1 - m) x, through the masks
    that the generators see, and through y.

    Args:
      config: static.
      networks: all five.
      images: x, [B, S, S, 3] in [-1, 1].
      noise: z, [B, 2, nz].
      noise_weight: lambda_z.

    Returns:
      The scalar loss and its parts.
    """
    pi = masks(config, networks["mask"], images)
    painted, advanced = paint(config, networks, noise, pi)
    redrawn = redraw(images, pi, painted)
    logits, advanced["discriminator"] = discriminate(
        config, networks["discriminator"], redrawn.reshape(-1, *images.shape[1:])
    )
    found, advanced["estimator"] = _advancing(
        config.estimator(), networks["estimator"], compose(pi, painted)
    )
    noise_error = jnp.mean(jnp.square(noise - found.reshape(noise.shape)))
    fake_logit = jnp.mean(logits)
    aux = RedrawAux(fake_logit, noise_error, jnp.mean(pi[:, 0]), redrawn, advanced)
    return noise_weight * noise_error - fake_logit, aux


def discriminate(
    config: ReDOModelConfig, discriminator: Variables, images: jax.Array
) -> tuple[jax.Array, Variables]:
    """D of images [N, S, S, 3]: raw logits [N], and D with its spectral norms advanced."""
    logits, advanced = _advancing(config.discriminator(), discriminator, images)
    return logits[:, 0], advanced


class HingeAux(NamedTuple):
    """What the hinge loss saw.

    Attributes:
      real_logit, fake_logit: mean D over real and redrawn images.
      advanced: the discriminator with its spectral norms advanced.
    """

    real_logit: jax.Array
    fake_logit: jax.Array
    advanced: Variables


def discriminator_loss(
    config: ReDOModelConfig, discriminator: Variables, real: jax.Array, redrawn: jax.Array
) -> tuple[jax.Array, HingeAux]:
    """mean max(0, 1 - D(real)) + mean max(0, 1 + D(redrawn)), each mean over its own images.

    Args:
      config: static.
      discriminator: D.
      real: [B, S, S, 3] in [-1, 1], other images than those that were redrawn.
      redrawn: [B', 2, S, S, 3].

    Returns:
      The scalar loss and its parts. One call of D sees all images, so its spectral norms advance
      once, where the released code advances them for both groups.
    """
    together = jnp.concatenate([real, redrawn.reshape(-1, *real.shape[1:])])
    logits, advanced = discriminate(config, discriminator, together)
    on_real, on_redrawn = logits[: len(real)], logits[len(real) :]
    loss = hinge(on_real, on_redrawn)
    return loss, HingeAux(jnp.mean(on_real), jnp.mean(on_redrawn), advanced)


def hinge(on_real: jax.Array, on_redrawn: jax.Array) -> jax.Array:
    """mean max(0, 1 - a) + mean max(0, 1 + b) of logits a on real and b on redrawn images."""
    return jnp.mean(jax.nn.relu(1.0 - on_real)) + jnp.mean(jax.nn.relu(1.0 + on_redrawn))


def _advancing(module: Any, variables: Variables, *inputs: jax.Array) -> tuple[Any, Variables]:
    """A module's output, and its variables with the spectral norms advanced by one iteration."""
    output, spectral = module.apply(variables, *inputs, mutable=["spectral"])
    return output, {"params": variables["params"], **spectral}
