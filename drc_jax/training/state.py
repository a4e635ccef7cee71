"""What a run of DRC carries from one iteration to the next."""

from typing import Any, NamedTuple

import flax.struct
import jax
import optax

from drc_jax.config import OptimizerConfig
from drc_jax.model.networks import Params
from drc_jax.ops.optimizers import clipped_adam


class Chains(NamedTuple):
    """Langevin chains: of a batch [B, D] each, or of all images and their mirrors [N, 2, D].

    Attributes:
      posterior: float32, z+.
      prior: float32, z-.
    """

    posterior: jax.Array
    prior: jax.Array


@flax.struct.dataclass
class TrainState:
    """Everything a run needs to go on.

    Attributes:
      step: int32 scalar, iterations done.
      params: from ``drc_jax.init_params``.
      generator_opt_state: of the generators and classifiers.
      ebm_opt_state: of the energy MLPs.
      posterior_chains, prior_chains: [N, 2, D] float32, one chain per (image, mirrored or not);
        None where the chains are kept elsewhere, as with ``config.chain_bank`` ``host``.
      encoder_opt_state: of the encoder, whose parameters are ``params["encoder"]``; None without.
    """

    step: jax.Array
    params: Params
    generator_opt_state: Any
    ebm_opt_state: Any
    posterior_chains: jax.Array | None = None
    prior_chains: jax.Array | None = None
    encoder_opt_state: Any = None


def split_params(params: Params) -> tuple[Params, Params]:
    """Parameters under the generator loss, and those under the EBM loss."""
    return {k: v for k, v in params.items() if k != "ebm"}, {"ebm": params["ebm"]}


def optimizers(
    config: OptimizerConfig,
) -> tuple[optax.GradientTransformation, optax.GradientTransformation]:
    """Adam for generators with classifiers, and Adam for the energies (docs/method.md 4)."""
    rates = config.generator_learning_rate, config.ebm_learning_rate
    options = {"clip_norm": config.clip_norm, "b1": config.beta1, "b2": config.beta2}
    generator, ebm = (clipped_adam(rate, **options) for rate in rates)
    return generator, ebm
