"""Parameters from the authors' PyTorch files, without importing PyTorch."""

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from drc_jax.config import ModelConfig
from drc_jax.errors import UserError
from drc_jax.model.networks import BASE_SIZE, Params

_Take = Callable[[str, tuple[int, ...]], np.ndarray]


def params_from_torch(config: ModelConfig, arrays: Mapping[str, Any]) -> Params:
    """The parameter pytree from arrays under the authors' PyTorch names.

    Args:
      config: the model the arrays belong to; every shape is checked against it.
      arrays: ``{"fg_net.fc.0.weight": array, ...}``: convolutions [out, in, kh, kw], linear
        layers [out, in]. The classifiers' last convolution may have the released 6x6 form.

    Returns:
      A pytree like that of ``init_params``, float32.

    Raises:
      UserError: for a missing or left-over name, or a shape that ``config`` does not have.
    """
    left = dict(arrays)

    def take(name: str, shape: tuple[int, ...]) -> np.ndarray:
        if name not in left:
            raise UserError(f"the PyTorch arrays lack {name!r}, which this model config needs")
        array = np.asarray(left.pop(name), np.float32)
        if array.shape[2:] == (6, 6) and shape[2:] == (4, 4):
            array = array[:, :, 1:5, 1:5]  # the outer ring only ever meets padding
        if array.shape != shape:
            raise UserError(f"{name!r} has shape {array.shape}; the model config wants {shape}")
        return array

    blocks = config.generator_channels
    params: Params = {
        "generator": {
            "foreground": _generator(take, "fg_net", config.zf_dim, blocks),
            "background": _generator(take, "bg_net", config.zb_dim, blocks),
            "reassignment": {
                "base": _base(take, "sp_net", config.zs_dim, blocks[0]),
                **_blocks(take, "sp_net.decode_base_deform", (2 * blocks[0], *blocks[1:])),
                "head": {
                    "kernel": _kernel(
                        take("sp_net.decode_deform.model.0.weight", (2, blocks[-1], 3, 3))
                    ),
                    "bias": take("sp_net.decode_deform.model.0.bias", (2,)),
                },
            },
        },
        "classifier": {
            "foreground": _classifier(take, "fg_net", config, config.num_fg_categories),
            "background": _classifier(take, "bg_net", config, config.num_bg_categories),
        },
        "ebm": {
            "foreground": _ebm(
                take,
                "ebm_net.fg_model",
                (config.zf_dim, *[config.ebm_width] * 2),
                config.num_fg_categories,
            ),
            "background": _ebm(
                take,
                "ebm_net.bg_model",
                (config.zb_dim, *[config.ebm_width] * 2),
                config.num_bg_categories,
            ),
            "reassignment": _ebm(
                take, "ebm_net.sp_model", (config.zs_dim, *[config.ebm_reassign_width] * 3), 1
            ),
        },
    }
    if left:
        raise UserError(
            f"the PyTorch arrays hold {sorted(left)[0]!r}, which this model config lacks"
        )
    return _to_jax(params)


def _to_jax(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {name: _to_jax(value) for name, value in tree.items()}
    return jnp.asarray(tree)


def _kernel(array: np.ndarray) -> np.ndarray:
    """[out, in, kh, kw] -> [kh, kw, in, out]."""
    return array.transpose(2, 3, 1, 0)


def _dense(take: _Take, name: str, inputs: int, outputs: int) -> dict[str, np.ndarray]:
    return {"kernel": take(f"{name}.weight", (outputs, inputs)).T,
            "bias": take(f"{name}.bias", (outputs,))}  # fmt: skip


def _norm(take: _Take, name: str, channels: int) -> dict[str, np.ndarray]:
    return {
        "scale": take(f"{name}.weight", (channels,)),
        "shift": take(f"{name}.bias", (channels,)),
    }


def _base(take: _Take, net: str, inputs: int, channels: int) -> dict[str, Any]:
    """The first linear layer; its outputs are channel-major there and channel-minor here."""
    linear = _dense(take, f"{net}.fc.0", inputs, channels * BASE_SIZE**2)
    order = np.arange(channels * BASE_SIZE**2).reshape(channels, -1).T.reshape(-1)
    return {"linear": {"kernel": linear["kernel"][:, order], "bias": linear["bias"][order]}}


def _blocks(take: _Take, name: str, channels: tuple[int, ...]) -> dict[str, Any]:
    return {
        f"block_{i}": {
            "kernel": _kernel(take(f"{name}.blocks.{i}.block.1.weight", (after, before, 3, 3))),
            "norm": _norm(take, f"{name}.blocks.{i}.block.2", after),
        }
        for i, (before, after) in enumerate(itertools.pairwise(channels))
    }


def _generator(take: _Take, net: str, inputs: int, channels: tuple[int, ...]) -> dict[str, Any]:
    last = channels[-1]
    return {
        "base": _base(take, net, inputs, channels[0]),
        **_blocks(take, f"{net}.decode_base", channels),
        "image_kernel": _kernel(take(f"{net}.im_head.model.0.weight", (3, last, 3, 3))),
        "mask_kernel": _kernel(take(f"{net}.ma_head.0.weight", (1, last, 3, 3))),
        "head_bias": np.concatenate(
            [take(f"{net}.im_head.model.0.bias", (3,)), take(f"{net}.ma_head.0.bias", (1,))]
        ),
    }


def _classifier(take: _Take, net: str, config: ModelConfig, categories: int) -> dict[str, Any]:
    name = f"{net}.encode_base.blocks"
    channels = (3, *config.classifier_channels)
    params: dict[str, Any] = {}
    for i, (before, after) in enumerate(itertools.pairwise(channels)):
        kernel = take(f"{name}.{i}.block.0.weight", (after, before, 4, 4))
        params[f"conv_{i}"] = {"kernel": _kernel(kernel)}
        params[f"norm_{i}"] = _norm(take, f"{name}.{i}.block.1", after)
    last = f"{name}.{len(config.classifier_channels)}"
    kernel = take(f"{last}.weight", (categories, channels[-1], 4, 4))
    params["out"] = {"kernel": _kernel(kernel), "bias": take(f"{last}.bias", (categories,))}
    return params


def _ebm(take: _Take, name: str, widths: tuple[int, ...], outputs: int) -> dict[str, Any]:
    """Linear layers stand at even places, leaky ReLUs between them."""
    params = {
        f"linear_{i}": _dense(take, f"{name}.{2 * i}", before, after)
        for i, (before, after) in enumerate(itertools.pairwise(widths))
    }
    hidden = len(widths) - 1
    return {**params, "out": _dense(take, f"{name}.{2 * hidden}", widths[-1], outputs)}
