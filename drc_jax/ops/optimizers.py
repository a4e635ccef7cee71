"""Adam with clipping, and an optimizer's step under strict promotion."""

from typing import Any

import jax
import optax


def clipped_adam(
    rate: optax.ScalarOrSchedule, *, clip_norm: float, b1: float, b2: float = 0.999
) -> optax.GradientTransformation:
    """Adam after scaling the gradient down to a norm of ``clip_norm`` at most; 0 for no limit."""
    clip = optax.clip_by_global_norm(clip_norm) if clip_norm else optax.identity()
    return optax.chain(clip, optax.adam(rate, b1=b1, b2=b2))


def updates_of(
    optimizer: optax.GradientTransformation, gradients: Any, opt_state: Any, params: Any
) -> tuple[Any, Any]:
    """``optimizer.update``: what to add to ``params``, and the optimizer's next state."""
    # Optax raises floats to integer powers, which callers with strict promotion could not run.
    with jax.numpy_dtype_promotion("standard"):
        return optimizer.update(gradients, opt_state, params)
