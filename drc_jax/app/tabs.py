"""The tabs of the page beside the competition, each with its settings and its button.

``gr`` is Gradio; ``alone`` and ``quick`` are how events of the model, and others, are queued.
"""

import contextlib
import inspect
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

from drc_jax.app import actions, markup, moves, run_folder
from drc_jax.app.pictures import MOST
from drc_jax.config import LARGEST_SEED
from drc_jax.errors import UserError
from drc_jax.evaluation.cutouts import FORMATS
from drc_jax.runs.trained import Run

_SECONDS = 3.0  # between looks at a run's folder


def extract_tab(
    gr: Any, act: actions.Actions, says: Callable, alone: dict, recording: Any, picture: Any
) -> None:
    gr.Markdown("The picture of the chain, cut by its mask, at its own size.")
    with gr.Row():
        soft = gr.Checkbox(False, label="Mask in shades of grey", min_width=200)
        refine = gr.Radio(
            [("as the model has it", ""), ("along edges", "edges"), ("cut by colours", "colours")],
            value="",
            label="Mask",
            min_width=320,
        )
        kind = gr.Radio(list(FORMATS), value="png", label="Files as", min_width=260)
    button = gr.Button("Extract", variant="primary", elem_id="extract")
    html = gr.HTML(elem_id="extracted")
    made = gr.File(
        label="Files", file_count="multiple", interactive=False, visible=False, elem_id="made"
    )

    def extract(
        found: Any, which: int | None, soft: bool, refine: str, kind: str
    ) -> tuple[Any, Any]:
        html, paths = act.extract(found, which or 0, soft, kind, refine)
        return html, gr.update(value=paths, visible=True)

    button.click(says(extract), [recording, picture, soft, refine, kind], [html, made], **alone)


def sample_tab(gr: Any, run: Run, says: Callable, alone: dict) -> None:
    gr.Markdown("Drawn from the prior alone: no picture is looked at, and nothing competes.")
    with gr.Row():
        count = gr.Slider(1, moves.MOST_SAMPLES, value=6, step=1, label="Samples")
        steps = gr.Slider(
            1, 500, value=min(500, run.config.sampler.prior_steps), step=1, label="Langevin steps"
        )
        seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=LARGEST_SEED)
    button = gr.Button("Sample", variant="primary", elem_id="sample")
    html = gr.HTML(elem_id="samples")

    def sample(count: int, steps: int, seed: int) -> str:
        return moves.sample(run, int(count), int(steps), int(seed or 0))

    button.click(says(sample), [count, steps, seed], html, **alone)


def move_tab(gr: Any, run: Run, says: Callable, alone: dict, recording: Any, picture: Any) -> None:
    gr.Markdown("Turn one part of the inferred latents towards a random direction.")
    with gr.Row():
        part = gr.Radio(
            [(label, name) for name, label in moves.PARTS.items()],
            value="foreground",
            label="Part",
            min_width=260,
        )
        seed = gr.Number(0, label="Direction (seed)", precision=0, minimum=0, maximum=LARGEST_SEED)
    button = gr.Button("Walk", variant="primary", elem_id="walk")
    html = gr.HTML(elem_id="walked")

    def walk(found: Any, which: int | None, part: str, seed: int) -> str:
        return moves.walk(run, found, which or 0, part, int(seed or 0))

    button.click(says(walk), [recording, picture, part, seed], html, **alone)
    gr.Markdown("Swap the backgrounds of two pictures that ran together, by their numbers.")
    with gr.Row():
        first = gr.Slider(1, MOST, value=1, step=1, label="One picture")
        second = gr.Slider(1, MOST, value=2, step=1, label="Another")
    swap_button = gr.Button("Swap backgrounds", variant="primary", elem_id="swap")
    swapped = gr.HTML(elem_id="swapped")

    def swap(found: Any, first: int, second: int) -> str:
        return moves.swap(run, found, int(first) - 1, int(second) - 1)

    swap_button.click(says(swap), [recording, first, second], swapped, **alone)


def objects_tab(gr: Any, says: Callable, alone: dict, recording: Any, picture: Any) -> None:
    gr.Markdown("Every slot alone, and the picture without it.")
    button = gr.Button("Take slots away", variant="primary", elem_id="objects")
    html = gr.HTML(elem_id="slots")
    button.click(
        says(lambda found, which: moves.objects(found, which or 0)),
        [recording, picture],
        html,
        **alone,
    )


def run_tab(gr: Any, workdir: pathlib.Path, quick: dict) -> None:
    back = gr.Slider(0, 1, value=0, step=1, label="Pictures before the newest", visible=False)
    html = gr.HTML(elem_id="run")
    timer = gr.Timer(_SECONDS)
    last = gr.State(None)

    def look(back: int, last: Any) -> tuple[Any, Any, Any]:
        now = (*run_folder.stamp(workdir), back)
        if now == last:
            return gr.skip(), gr.skip(), gr.skip()
        html, count = run_folder.view(workdir, int(back))
        return html, gr.update(maximum=max(1, count - 1), visible=count > 1), now

    for trigger in (timer.tick, back.input):
        trigger(look, [back, last], [html, back, last], **quick)


def sentence(text: str) -> str:
    return markup.block(markup.paragraph(text))


def saying(error: Callable[..., Exception]) -> Callable:
    """A decorator: what the visitor can mend becomes a message on the page, and no traceback."""

    @contextlib.contextmanager
    def said() -> Iterator[None]:
        try:
            yield
        except UserError as problem:
            raise error(str(problem), print_exception=False) from None

    def decorate(function: Callable) -> Callable:
        def steps(*arguments: Any) -> Iterator[Any]:
            with said():
                yield from function(*arguments)

        def once(*arguments: Any) -> Any:
            with said():
                return function(*arguments)

        return steps if inspect.isgeneratorfunction(function) else once

    return decorate
