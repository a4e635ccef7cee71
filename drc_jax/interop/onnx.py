"""The generators and the encoder as ONNX, through jax2onnx (the extra ``onnx``).

The chains between them, which draw noise and follow gradients, are no part of it: see `stablehlo`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from drc_jax.config import ModelConfig
from drc_jax.errors import UserError
from drc_jax.model import encoder
from drc_jax.model.render import render


def generators(config: ModelConfig, params: Any, batch_size: int) -> bytes:
    """Latents to regions, for any sampler or for latents that were kept.

    The input is ``z`` float32 [B, D]; the outputs are ``images`` [B, K, S, S, 3], ``pi``
    [B, K, S, S], ``reconstruction`` [B, S, S, 3] and ``foreground_weight`` [B, S, S], as `render`
    gives them.

    Args:
      config: the model.
      params: trained parameters.
      batch_size: B.

    Returns:
      The bytes of an ONNX file.

    Raises:
      UserError: if jax2onnx is not installed.
    """

    def program(z: jax.Array) -> tuple[jax.Array, ...]:
        regions = render(config, params, z)
        return regions.images, regions.pi, regions.reconstruction, regions.foreground_weight

    names = ["images", "pi", "reconstruction", "foreground_weight"]
    return _converted(program, "z", (batch_size, config.latent_dim), names)


def encoder_network(config: ModelConfig, params: Any, batch_size: int) -> bytes:
    """The encoder q(z | x) of a run that has one, `encoder.guess`.

    The input is ``images`` float32 [B, S, S, 3] in [-1, 1]; the outputs are ``mean`` and
    ``log_scale`` [B, D].

    Args and errors as for `generators`.
    """

    def program(images: jax.Array) -> tuple[jax.Array, ...]:
        return tuple(encoder.guess(config, params[encoder.NAME], images))

    side = config.image_size
    return _converted(program, "images", (batch_size, side, side, 3), ["mean", "log_scale"])


def _converted(
    program: Callable[[jax.Array], tuple[jax.Array, ...]],
    name: str,
    shape: tuple[int, ...],
    outputs: list[str],
) -> bytes:
    try:
        from jax2onnx import to_onnx
    except ImportError as error:
        raise UserError(f"ONNX needs jax2onnx ({error}): pip install -e '.[onnx]'") from None
    specification = jax.ShapeDtypeStruct(shape, jnp.float32)
    with jax.numpy_rank_promotion("allow"):  # which jax2onnx needs for biases
        model = to_onnx(
            program, [specification], model_name="drc", input_names=[name], output_names=outputs
        )
    return model.SerializeToString()
