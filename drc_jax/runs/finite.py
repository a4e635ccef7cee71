"""What training stops at: metrics and states with values that are not finite."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from drc_jax.errors import NonFiniteError


def finite_values(step: int, metrics: Mapping[str, jax.Array]) -> dict[str, float]:
    """Fetches one step's metrics, waiting for the device to finish that step.

    Args:
      step: number of completed steps.
      metrics: name to scalar.

    Raises:
      NonFiniteError: naming the step and the metrics that are not finite.
    """
    values = {name: float(value) for name, value in jax.device_get(dict(metrics)).items()}
    bad = [f"{name} = {value}" for name, value in values.items() if not math.isfinite(value)]
    if values.get("latents_finite", 1.0) == 0:
        bad.append("a latent is not finite")
    if bad:
        raise NonFiniteError(f"training diverged at step {step}: {', '.join(bad)}")
    return values


def check_finite(step: int, state: Any) -> float:
    """Refuses a state that training cannot go on from.

    The metrics of a step are computed before its update, so an update that fails shows in the
    state alone.

    Args:
      step: number of completed steps.
      state: a dataclass of NumPy arrays.

    Returns:
      The largest absolute parameter.

    Raises:
      NonFiniteError: naming the first array with a value that is not finite.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        if jnp.issubdtype(leaf.dtype, jnp.floating) and not np.isfinite(leaf).all():
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            raise NonFiniteError(f"training diverged at step {step}: {name} is not finite")
    return max((float(np.abs(leaf).max()) for leaf in jax.tree.leaves(state.params)), default=0.0)
