"""The page itself: what stands where, and which button calls what. Needs Gradio."""

import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from drc_jax.app import actions, chains, markup, tabs
from drc_jax.app.pictures import MOST
from drc_jax.config import LARGEST_SEED
from drc_jax.data.generated import scenes
from drc_jax.evaluation.cutouts import CROPS
from drc_jax.runs.trained import Run

TITLE = "Deep Region Competition"
HEAD = f"""<style>{markup.STYLE}
.html-container {{ padding: 0 !important; }}
.drc h1 {{ font-size: 1.5em; font-weight: 650; line-height: 1.2; margin: 0; }}
</style>"""
"""The style, not given to Gradio as CSS, which it would rewrite and lose parts of."""

_EXAMPLES = 4
_EXAMPLE_SIDE = 256
_LONGEST = 20  # visitors that may wait


def build(
    run: Run,
    title: str,
    folder: pathlib.Path,
    workdir: pathlib.Path | None = None,
    limits: str = "",
) -> Any:
    """Lays the page out.

    Args:
      run: a run of DRC.
      title: what is shown of the model in a line, plain text.
      folder: for examples and files to be downloaded; it must exist.
      workdir: the run's folder, for the tab ``run``; None leaves it out.
      limits: what is known of the model's limits, plain text.

    Returns:
      A queued ``gradio.Blocks``, to be launched.

    Raises:
      UserError: if it is a run of another method.
    """
    import gradio as gr

    act = actions.Actions(run, folder)
    says = tabs.saying(gr.Error)
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
        if limits:
            with gr.Accordion("What this model can and cannot do", open=False):
                gr.HTML(tabs.sentence(limits))
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
                        step = gr.Slider(
                            0, 1, 0, step=1, label="Step shown", visible=False, elem_id="shown"
                        )
                        panels = gr.HTML(act.view(None).panels, elem_id="panels")
                        curves = gr.HTML(elem_id="curves")
                        keep = gr.Button(
                            "Make one HTML file that plays this", size="sm", visible=False
                        )
                        kept = gr.File(label="Recording", visible=False, interactive=False)
                    with gr.Tab("extract"):
                        tabs.extract_tab(gr, act, says, alone, recording, picture)
                    with gr.Tab("sample"):
                        tabs.sample_tab(gr, run, says, alone)
                    with gr.Tab("move"):
                        tabs.move_tab(gr, run, says, alone, recording, picture)
                    with gr.Tab("objects"):
                        tabs.objects_tab(gr, says, alone, recording, picture)
                    if workdir is not None:
                        with gr.Tab("run"):
                            tabs.run_tab(gr, workdir, quick)

        def watch(
            files: list[str] | None,
            steps: int,
            start: str,
            restarts: int,
            seed: int,
            crop: str,
        ) -> Iterator[tuple[Any, ...]]:
            settings = chains.Settings(int(steps), start, int(restarts), int(seed or 0), crop)
            views = act.watch(files, settings)
            waiting = tabs.sentence("Started; the first chain of this size compiles for a while.")
            yield None, waiting, "", "", gr.update(visible=False), *[gr.skip()] * 3
            chosen: tuple[Any, ...] = ()
            for found, view in views:
                end = found.ends[-1].step
                slider = gr.update(maximum=settings.steps, value=end, visible=True)
                names = [(f"{i + 1}. {name}", i) for i, name in enumerate(found.names)]
                # Once, so that what a visitor chooses meanwhile stays.
                chosen = (
                    (gr.skip(),) * 3
                    if chosen
                    else (
                        gr.update(choices=names, value=0, visible=len(names) > 1),
                        gr.update(visible=True),
                        gr.update(visible=False),
                    )
                )
                yield found, tabs.sentence(view.status), view.panels, view.curves, slider, *chosen

        running = go.click(
            says(watch),
            [files, steps, start, restarts, seed, crop],
            [recording, status, panels, curves, step, picture, keep, kept],
            show_progress_on=status,
            **alone,
        )
        stop.click(None, cancels=[running], api_visibility="private").then(
            lambda found: tabs.sentence(act.stopped(found)),
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
