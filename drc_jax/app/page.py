"""The page itself: what stands where, and which button calls what. Needs Gradio."""

import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from PIL import Image

from drc_jax.app import actions, chains, markup, moves, run_folder
from drc_jax.app.pictures import MOST
from drc_jax.config import LARGEST_SEED
from drc_jax.data.generated import scenes
from drc_jax.errors import UserError
from drc_jax.evaluation.cutouts import CROPS, FORMATS
from drc_jax.runs.trained import Run

TITLE = "Deep Region Competition"
HEAD = f"""<style>{markup.STYLE}
.html-container {{ padding: 0 !important; }}
.drc h1 {{ font-size: 1.5em; font-weight: 650; line-height: 1.2; margin: 0; }}
</style>"""
"""The style, not given to Gradio as CSS, which it would rewrite and lose parts of."""

_EXAMPLES = 4
_EXAMPLE_SIDE = 256
_SECONDS = 3.0  # between looks at a run's folder
_LONGEST = 20  # visitors that may wait


def build(run: Run, title: str, folder: pathlib.Path, workdir: pathlib.Path | None = None) -> Any:
    """Lays the page out.

    Args:
      run: a run of DRC.
      title: what is shown of the model in a line, plain text.
      folder: for examples and files to be downloaded; it must exist.
      workdir: the run's folder, for the tab ``run``; None leaves it out.

    Returns:
      A queued ``gradio.Blocks``, to be launched.

    Raises:
      UserError: if it is a run of another method.
    """
    import gradio as gr

    act = actions.Actions(run, folder)
    says = _saying(gr.Error)
    # One visitor's chain at a time; the others wait.
    alone: dict[str, Any] = dict(
        concurrency_id="model", concurrency_limit=1, api_visibility="private"
    )
    quick: dict[str, Any] = dict(queue=False, show_progress="hidden", api_visibility="private")

    with gr.Blocks(
        title=TITLE,
        analytics_enabled=False,
        fill_width=True,
        delete_cache=(600, int(actions.LONGEST)),
    ) as page:
        recording = gr.State(None, time_to_live=actions.LONGEST)
        gr.HTML(markup.block(f"<h1>{TITLE}</h1>", markup.paragraph(title)))
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                files = gr.File(label=f"Pictures, up to {MOST}", file_count="multiple", height=150)
                problems = gr.HTML(elem_id="problems", visible=False)
                paths = examples(folder)
                shown = gr.Dataset(
                    components=[gr.Image(visible=False)],
                    samples=[[path] for path in paths],
                    label="Or an example",
                    type="index",
                )
                test_steps = run.method.test_steps(run.config)
                steps = gr.Slider(
                    1,
                    min(chains.MOST_STEPS, max(1000, 2 * test_steps)),
                    value=min(test_steps, chains.MOST_STEPS),
                    step=1,
                    label="Langevin steps",
                    elem_id="steps",
                )
                with gr.Row():
                    go = gr.Button("Run", variant="primary", min_width=80, elem_id="go")
                    stop = gr.Button("Stop", min_width=80, elem_id="stop")
                status = gr.HTML(elem_id="status")
                with gr.Accordion("More settings", open=False):
                    start = gr.Radio(chains.starts(run), value="prior", label="Chains start at")
                    restarts = gr.Slider(
                        1,
                        chains.MOST_RESTARTS,
                        value=1,
                        step=1,
                        label="Restarts, of which the lowest energy is kept",
                    )
                    seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=LARGEST_SEED)
                    crop = gr.Radio(
                        list(CROPS), value="stretch", label="A picture that is not square"
                    )
                seen = gr.HTML(elem_id="seen")
            with gr.Column(scale=5, min_width=320):
                picture = gr.Dropdown([], label="Picture", visible=False, elem_id="picture")
                with gr.Tabs():
                    with gr.Tab("competition"):
                        panels = gr.HTML(act.view(None).panels, elem_id="panels")
                        step = gr.Slider(
                            0, 1, 0, step=1, label="Step shown", visible=False, elem_id="shown"
                        )
                        curves = gr.HTML(elem_id="curves")
                        keep = gr.Button(
                            "Make one HTML file that plays this", size="sm", visible=False
                        )
                        kept = gr.File(label="Recording", visible=False, interactive=False)
                    with gr.Tab("extract"):
                        _extract_tab(gr, act, says, alone, recording, picture)
                    with gr.Tab("sample"):
                        _sample_tab(gr, run, says, alone)
                    with gr.Tab("move"):
                        _move_tab(gr, run, says, alone, recording, picture)
                    with gr.Tab("objects"):
                        _objects_tab(gr, says, alone, recording, picture)
                    if workdir is not None:
                        with gr.Tab("run"):
                            _run_tab(gr, workdir, quick)

        def watch(
            files: list[str] | None,
            steps: int,
            start: str,
            restarts: int,
            seed: int,
            crop: str,
        ) -> Iterator[tuple[Any, ...]]:
            settings = chains.Settings(int(steps), start, int(restarts), int(seed or 0), crop)
            yield (
                gr.skip(),
                _sentence("Reading; a first chain compiles for a while."),
                *[gr.skip()] * 6,
            )
            for found, view in act.watch(files, settings):
                end = found.ends[-1].step
                choices = [(name, i) for i, name in enumerate(found.names)]
                several = len(choices) > 1
                every = max(1, found.steps()[1] if len(found.steps()) > 1 else 1)
                yield (
                    found,
                    _sentence(view.status),
                    view.panels,
                    view.curves,
                    gr.update(maximum=settings.steps, step=every, value=end, visible=True),
                    gr.update(choices=choices, value=0, visible=several),
                    gr.update(visible=True),
                    gr.update(visible=False),
                )

        running = go.click(
            says(watch),
            [files, steps, start, restarts, seed, crop],
            [recording, status, panels, curves, step, picture, keep, kept],
            show_progress_on=status,
            **alone,
        )
        stop.click(None, cancels=[running], api_visibility="private").then(
            lambda found: _sentence(act.stopped(found)),
            recording,
            status,
            **quick,
        )

        def look(files: list[str] | None, crop: str) -> tuple[Any, str]:
            problems, seen = act.look(files, crop)
            return gr.update(value=problems, visible=bool(problems)), seen

        def show(found: Any, step: int, picture: int | None) -> tuple[str, str]:
            view = act.view(found, int(step), picture or 0)
            return view.panels, view.curves

        for trigger in (step.input, picture.input):
            trigger(
                show,
                [recording, step, picture],
                [panels, curves],
                trigger_mode="always_last",
                **quick,
            )
        for trigger in (files.change, crop.change):
            trigger(look, [files, crop], [problems, seen], **quick)
        shown.click(lambda index: [paths[index]], shown, files, **quick)
        keep.click(
            says(
                lambda found, which: gr.update(
                    value=act.player_file(found, which or 0), visible=True
                )
            ),
            [recording, picture],
            kept,
            **alone,
        )
    page.queue(api_open=False, max_size=_LONGEST)
    return page


def examples(folder: pathlib.Path) -> list[str]:
    """Generated scenes as files, drawn anew."""
    paths = []
    for index in range(_EXAMPLES):
        scene = scenes.generate(index, size=_EXAMPLE_SIDE, seed=4, split="examples")
        path = folder / f"scene_{index + 1}.png"
        Image.fromarray(np.asarray(scene.image)).save(path)
        paths.append(str(path))
    return paths


def _extract_tab(
    gr: Any, act: actions.Actions, says: Callable, alone: dict, recording: Any, picture: Any
) -> None:
    gr.Markdown("The picture of the chain, cut by its mask, at its own size.")
    with gr.Row():
        soft = gr.Checkbox(False, label="Mask in shades of grey")
        kind = gr.Radio(list(FORMATS), value="png", label="Files as")
    button = gr.Button("Extract", variant="primary", elem_id="extract")
    html = gr.HTML(elem_id="extracted")
    made = gr.File(
        label="Files", file_count="multiple", interactive=False, visible=False, elem_id="made"
    )

    def extract(found: Any, which: int | None, soft: bool, kind: str) -> tuple[Any, Any]:
        html, paths = act.extract(found, which or 0, soft, kind)
        return html, gr.update(value=paths, visible=True)

    button.click(says(extract), [recording, picture, soft, kind], [html, made], **alone)


def _sample_tab(gr: Any, run: Run, says: Callable, alone: dict) -> None:
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


def _move_tab(gr: Any, run: Run, says: Callable, alone: dict, recording: Any, picture: Any) -> None:
    gr.Markdown("Turn one part of the inferred latents towards a random direction.")
    with gr.Row():
        part = gr.Radio(
            [(label, name) for name, label in moves.PARTS.items()],
            value="foreground",
            label="Part",
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


def _objects_tab(gr: Any, says: Callable, alone: dict, recording: Any, picture: Any) -> None:
    gr.Markdown("Every slot alone, and the picture without it.")
    button = gr.Button("Take slots away", variant="primary", elem_id="objects")
    html = gr.HTML(elem_id="slots")
    button.click(
        says(lambda found, which: moves.objects(found, which or 0)),
        [recording, picture],
        html,
        **alone,
    )


def _run_tab(gr: Any, workdir: pathlib.Path, quick: dict) -> None:
    back = gr.Slider(0, 1, value=0, step=1, label="Pictures before the newest", visible=False)
    html = gr.HTML(elem_id="run")
    timer = gr.Timer(_SECONDS)
    last = gr.State(None)

    def look(back: int, last: Any) -> tuple[Any, Any, Any]:
        html, count = run_folder.view(workdir, int(back))
        if (html, count) == last:
            return gr.skip(), gr.skip(), gr.skip()
        slider = gr.update(maximum=max(1, count - 1), visible=count > 1)
        return html, slider, (html, count)

    for trigger in (timer.tick, back.input):
        trigger(look, [back, last], [html, back, last], **quick)


def _sentence(text: str) -> str:
    return markup.block(markup.paragraph(text))


def _saying(error: type[Exception]) -> Callable:
    """A decorator: what the visitor can mend becomes a message on the page, and no traceback."""

    def decorate(function: Callable) -> Callable:
        def steps(*arguments: Any) -> Iterator[Any]:
            try:
                yield from function(*arguments)
            except UserError as problem:
                raise error(str(problem), print_exception=False) from None  # type: ignore[call-arg]

        def once(*arguments: Any) -> Any:
            try:
                return function(*arguments)
            except UserError as problem:
                raise error(str(problem), print_exception=False) from None  # type: ignore[call-arg]

        import inspect

        return steps if inspect.isgeneratorfunction(function) else once

    return decorate
