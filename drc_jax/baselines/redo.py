"""ReDO as a ``Method``: its config and training iteration."""

import dataclasses
import functools
from typing import Any, ClassVar, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from drc_jax.baselines import redo_model as model
from drc_jax.baselines.redo_model import ReDOModelConfig, Variables
from drc_jax.baselines.redo_state import (
    CRITICS,
    ReDOOptimizerConfig,
    ReDORestartConfig,
    ReDOState,
    StepConfig,
    make_optimizers,
    start,
    with_area,
)
from drc_jax.baselines.slots import to_floats
from drc_jax.baselines.trained import TrainedMethod
from drc_jax.config.fields import field
from drc_jax.config.run import DataConfig, RunConfig
from drc_jax.errors import UserError
from drc_jax.ops.optimizers import updates_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReDOConfig(RunConfig):
    """A training run of ReDO; the defaults are the released code's.

    Attributes:
      model, optimizer, restart: the parts above.
      batch_size: half of these images are redrawn, the other half are the real ones that the
        discriminator compares them with; the released code takes 20 and 20.
      iterations: in all, with those before a restart.
    """

    method: ClassVar[str] = "redo"

    data: DataConfig = DataConfig(flip=False)
    model: ReDOModelConfig = dataclasses.field(default=ReDOModelConfig())
    optimizer: ReDOOptimizerConfig = dataclasses.field(default=ReDOOptimizerConfig())
    restart: ReDORestartConfig = dataclasses.field(default=ReDORestartConfig())
    batch_size: int = field(40, least=2, most=2**20)
    iterations: int = field(20_000, least=1, most=10**12)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch_size % (2 * self.num_devices):
            raise UserError(
                f"batch_size must be a multiple of {2 * self.num_devices}, for each device redraws "
                f"half of its images, got {self.batch_size}"
            )


class ReDORegions(NamedTuple):
    """The two regions of B images.

    ReDO's regions are exchangeable: which of them takes the objects is chance, the same for all
    images of a run as a rule, and nothing in the method says which. Region 0 is first in every
    array and stands for the foreground here, so of the three columns of scores ``fixed`` is a coin
    toss per run; ``dataset_flip`` is the one to report, and the oracle per image is the protocol
    of ReDO's paper.

    Attributes:
      images: [B, 2, H, W, 3] in (-1, 1), what the generators paint over each region, on all
        pixels; random, and no likeness of the image.
      pi: [B, 2, H, W], masks, summing to 1.
      reconstruction: [B, H, W, 3], the fully redrawn image y.
    """

    images: jax.Array
    pi: jax.Array
    reconstruction: jax.Array

    @property
    def foreground_weight(self) -> jax.Array:
        """[B, H, W], the mask of region 0."""
        return self.pi[:, 0]


@dataclasses.dataclass(frozen=True)
class ReDO(TrainedMethod):
    """See ``drc_jax.runs.method.Method``; nothing belongs to single images."""

    name = "redo"
    config_type = ReDOConfig

    def step_config(self, config: ReDOConfig) -> StepConfig:
        return StepConfig(config.model, config.optimizer, config.restart)

    def fresh_state(self, config: ReDOConfig) -> ReDOState:
        seed, zero = jnp.asarray(config.seed, jnp.uint32), jnp.zeros((), jnp.int32)
        return start(self.step_config(config), zero, seed, zero)

    def update(
        self,
        step_config: StepConfig,
        state: ReDOState,
        images: jax.Array,
        keys: chex.PRNGKey,
        chains: tuple[()],
        axis_name: str | None = None,
    ) -> tuple[ReDOState, tuple[()], dict[str, jax.Array]]:
        """One step of M, the generators and Z, then one of D; see ``Method.update``.

        Every other image is redrawn, with the noise of its key; the rest are D's real images. D
        learns from images redrawn anew, by the networks after their step, from the same noise.

        The metrics are both losses, what they are made of, the norms of all gradients, ``area``
        (the mean share of region 0) and ``restarts``.
        """
        config, pmean = step_config.model, functools.partial(_mean_over, axis_name)
        networks = {**state.params, **state.critics}
        opt_state, optimizers = dict(state.opt_state), make_optimizers(step_config.optimizer)
        floats = to_floats(images)
        observed, real = floats[0::2], floats[1::2]
        noise = model.draw_noise(config, keys[0::2])
        norms = {}

        def descend(name: str, gradients: Any) -> None:
            norms[f"{name}_gradient_norm"] = optax.tree.norm(gradients)
            params = networks[name]["params"]
            updates, opt_state[name] = updates_of(
                optimizers[name], gradients, opt_state[name], params
            )
            networks[name] = {**networks[name], "params": optax.apply_updates(params, updates)}

        def redraw_loss(learned: dict[str, Any]) -> tuple[jax.Array, model.RedrawAux]:
            changed = {name: {**networks[name], "params": p} for name, p in learned.items()}
            weight = step_config.optimizer.noise_weight
            return model.redraw_loss(config, {**networks, **changed}, observed, noise, weight)

        learned = {n: v["params"] for n, v in networks.items() if n != "discriminator"}
        (loss, aux), gradients = jax.value_and_grad(redraw_loss, has_aux=True)(learned)
        gradients = pmean(gradients)
        networks.update(aux.advanced)
        for name, gradient in gradients.items():
            descend(name, gradient)

        pi = model.masks(config, networks["mask"], observed)
        painted, advanced = model.paint(config, networks, noise, pi)
        networks.update(advanced)
        redrawn = model.redraw(observed, pi, painted)

        def hinge_loss(params: Any) -> tuple[jax.Array, model.HingeAux]:
            discriminator = {**networks["discriminator"], "params": params}
            return model.discriminator_loss(config, discriminator, real, redrawn)

        (hinge, seen), gradient = jax.value_and_grad(hinge_loss, has_aux=True)(
            networks["discriminator"]["params"]
        )
        networks["discriminator"] = seen.advanced
        descend("discriminator", pmean(gradient))

        metrics = pmean(
            {
                "generator_loss": loss,
                "discriminator_loss": hinge,
                "noise_error": aux.noise_error,
                "real_logit": seen.real_logit,
                "fake_logit": seen.fake_logit,
                "area": aux.area,
            }
        )
        critics = {name: networks.pop(name) for name in CRITICS}
        state = dataclasses.replace(
            state, step=state.step + 1, params=networks, critics=critics, opt_state=opt_state
        )
        state, is_collapsed = with_area(step_config.restart, state, metrics["area"])
        state = jax.lax.cond(
            is_collapsed,
            lambda old: start(step_config, old.step, old.seed, old.restarts + 1),
            lambda old: old,
            state,
        )
        restarts = state.restarts.astype(jnp.float32)
        return state, (), {**metrics, **norms, "restarts": restarts}

    def regions(
        self,
        config: ReDOModelConfig,
        params: dict[str, Variables],
        images: jax.Array,
        keys: chex.PRNGKey,
    ) -> ReDORegions:
        """M's masks, which do not depend on the keys, and a painting of each region."""
        pi = model.masks(config, params["mask"], images)
        painted, _ = model.paint(config, params, model.draw_noise(config, keys), pi)
        return ReDORegions(painted, pi, model.compose(pi, painted))

    def advice(self, problem: str) -> str:
        return "try a smaller optimizer.learning_rate or optimizer.mask_learning_rate"


def _mean_over(axis_name: str | None, tree: Any) -> Any:
    return tree if axis_name is None else jax.lax.pmean(tree, axis_name)
