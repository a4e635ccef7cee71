"""Averages of parameters over a run's iterations, which inference takes where a run keeps them.

An addition of this program: the paper takes the parameters as the last iteration left them.
"""

from drc_jax.model.networks import Params

NAME = "average"
"""The key under which parameters hold their own averages, where there are any."""


def for_inference(params: Params) -> Params:
    """Parameters with averages in the place of those that have one; others as they are.

    Args:
      params: of a training state; see ``optimizer.average_decay``.

    Returns:
      Parameters for ``drc_jax.infer`` and the like, without ``NAME``.
    """
    if NAME not in params:
        return params
    others = {name: value for name, value in params.items() if name != NAME}
    return others | params[NAME]
