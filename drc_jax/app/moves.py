"""What else a model can do with latents: draw them, turn them, swap them, leave some out.

Each function gives a piece of HTML; problems that the visitor can mend are UserErrors.
"""

import jax
import jax.numpy as jnp
import numpy as np

from drc_jax import inference
from drc_jax.app import chains, markup
from drc_jax.app.actions import present
from drc_jax.app.recording import Recording, shares
from drc_jax.errors import UserError
from drc_jax.evaluation import slot_pictures
from drc_jax.evaluation.pictures import cut_out, to_uint8
from drc_jax.model.latents import Latents, join_latents, split_latents
from drc_jax.runs.trained import Run

MOST_SAMPLES = 16
PARTS = {
    "foreground": "the objects: z_f",
    "background": "the background: z_b",
    "reassignment": "where the background's pixels move: z_s",
}
"""The latent parts that can be walked."""

_ANGLES = (-80, -60, -40, -20, 0, 20, 40, 60, 80)  # degrees of a walk


def sample(run: Run, count: int, steps: int, seed: int) -> str:
    """Samples of the prior, as HTML.

    Raises:
      UserError: if a number is out of range.
    """
    chains.Settings(steps=steps, seed=seed).check()
    if not isinstance(count, int) or not 1 <= count <= MOST_SAMPLES:
        raise UserError(f"samples must be a whole number from 1 to {MOST_SAMPLES}, {count!r}")
    sampler = run.config.sampler
    # All that may be asked for, so that one program is compiled.
    regions = inference.sample_prior(
        run.config.model,
        run.params,
        jax.random.key(seed),
        num_samples=MOST_SAMPLES,
        num_steps=steps,
        step_size=sampler.prior_step_size,
        drift_limit=sampler.drift_limit,
    )
    pi = np.asarray(regions.pi)[:count]
    weight = 1.0 - pi[:, -1]
    images = np.asarray(regions.images)[:count]
    rows = {"sample": to_uint8(np.asarray(regions.reconstruction)[:count])}
    if images.shape[1] == 2:
        rows["foreground"] = cut_out(images[:, 0], weight)
    rows |= {"background": to_uint8(images[:, -1]), "mask": shares(pi)}
    return markup.block(
        *(
            markup.grid([markup.figure(row[i], name) for name, row in rows.items()], "two")
            for i in range(count)
        )
    )


def walk(run: Run, recording: Recording | None, picture: int, part: str, seed: int) -> str:
    """A picture's latents with one part turned towards a random direction, as HTML.

    z cos(a) + n sin(a) with n from N(0, I): what N(0, I) makes likely stays likely.

    Raises:
      UserError: if no chain has run, or there is no such part.
    """
    recording = present(recording)
    if part not in PARTS:
        raise UserError(f"part must be one of {', '.join(PARTS)}; got {part!r}")
    chains.Settings(steps=1, seed=seed).check()
    z = jnp.asarray(recording.latents()[picture])
    parts = split_latents(run.config.model, z)
    old = getattr(parts, part)
    noise = jax.random.normal(jax.random.key(seed), old.shape)
    turned = [
        join_latents(parts._replace(**{part: old * np.cos(angle) + noise * np.sin(angle)}))
        for angle in np.radians(np.array(_ANGLES, np.float32))
    ]
    regions = inference.rendered(run.config.model, run.params, jnp.stack(turned))
    images = to_uint8(np.asarray(regions.reconstruction))
    masks = shares(np.asarray(regions.pi))
    captions = [f"{angle}\u00b0" if angle else "as inferred" for angle in _ANGLES]
    rows = [
        markup.grid(
            [markup.figure(image, caption) for image, caption in zip(row, captions, strict=True)],
            columns=len(_ANGLES),
        )
        for row in (images, masks)
    ]
    return markup.block(*rows)


def swap(run: Run, recording: Recording | None, first: int, second: int) -> str:
    """Two pictures with each other's background, as HTML.

    Raises:
      UserError: if no chain of two pictures has run.
    """
    recording = present(recording)
    if len(recording.names) < 2:
        raise UserError("Run a chain with two pictures or more first; their backgrounds swap.")
    if not 0 <= min(first, second) <= max(first, second) < len(recording.names):
        raise UserError(f"These pictures have numbers up to {len(recording.names)}.")
    if first == second:
        raise UserError("Choose two different pictures.")
    z = jnp.asarray(recording.latents()[[first, second]])
    parts = split_latents(run.config.model, z)
    swapped = join_latents(
        Latents(parts.foreground, parts.background[::-1], parts.reassignment[::-1])
    )
    images = to_uint8(
        np.asarray(
            inference.rendered(
                run.config.model, run.params, jnp.concatenate([z, swapped])
            ).reconstruction
        )
    )
    names = [recording.names[i] for i in (first, second)]
    captions = (
        f"{names[0]}, as inferred",
        f"{names[1]}, as inferred",
        f"{names[0]} before the background of {names[1]}",
        f"{names[1]} before the background of {names[0]}",
    )
    figures = [markup.figure(*pair) for pair in zip(images, captions, strict=True)]
    return markup.block(markup.grid(figures, "two", columns=4))


def objects(recording: Recording | None, picture: int) -> str:
    """A picture's slots, and what is left without each, as HTML.

    Raises:
      UserError: if no chain has run.
    """
    recording = present(recording)
    regions = recording.regions()
    chosen = slice(picture, picture + 1)
    images, pi = slot_pictures.by_area(regions.images[chosen], regions.pi[chosen])
    slots = pi.shape[1] - 1
    told = ""
    if slots == 1:
        told = (
            "This model has one slot for the foreground. Without it the background alone is "
            "left. A model with several slots has an object in each."
        )
    rows = [
        markup.grid(
            [
                markup.figure(recording.squares[picture], "observed"),
                markup.figure(to_uint8(regions.reconstruction[picture]), "reconstruction"),
                markup.figure(shares(pi)[0], "mask" if slots == 1 else "slots in colours"),
            ],
        )
    ]
    for slot in range(slots):
        alone = cut_out(images[:, slot], pi[:, slot])[0]
        without = to_uint8(slot_pictures.without_slot(images, pi, slot))[0]
        rows.append(
            markup.grid(
                [
                    markup.figure(alone, f"slot {slot + 1} alone"),
                    markup.figure(without, f"without slot {slot + 1}"),
                ]
            )
        )
    return markup.block(markup.paragraph(told), *rows)
