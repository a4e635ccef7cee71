"""A comparison on disk: tables, figures, and one page with everything."""

import io
import pathlib

import numpy as np
from PIL import Image

from drc_jax import files
from drc_jax.data.pictures.files import printable
from drc_jax.evaluation import compare_figures, compare_tables, mask_failures, page
from drc_jax.evaluation.compare import Comparison, Group

HTML, MARKDOWN, CSV, JSON = "index.html", "table.md", "table.csv", "table.json"

_OVERVIEW = "The same images for all: what each method's first run calls foreground."
_FIGURES = {
    "regions": "What the method divides the first images into: the rows of the paper's Figures 5 "
    "to 8.",
    "cut-outs": "What the masks cut out of the first images, as in the paper's Figure 10.",
    "channels": "The masks of both regions, as in the paper's Figure 11; which of them is the "
    "foreground, the method does not say.",
}
_OBJECTS = (
    "What the method divides the first images into, as in the paper's Figures 18 and 19: slots in "
    "the order of their area, cut out, and the region that weighs most at each pixel."
)
_SLOTS = (
    "What each slot paints of the first images where its mask is, as in the paper's Figures 12 to "
    "15; below, the slot with the largest mask at each pixel, and the mask that is scored."
)
_FAILURES = (
    "The images with the lowest IoU, from the worst, and what went wrong, as in the paper's Figure "
    "9; the mask is the one that is scored."
)


def write(comparison: Comparison, folder: pathlib.Path) -> None:
    """Writes a comparison, each file at once and whole; earlier files of the names are replaced.

        table.md, table.csv, table.json    the numbers
        overview.png                       all methods on the same images
        1_regions.png, 1_failures.png      of the first method, and so on
        index.html                         everything; needs no other file

    Args:
      comparison: what to write.
      folder: where to; it must exist.

    Raises:
      UserError: if a file cannot be written.
    """
    files.write_atomically(folder / MARKDOWN, compare_tables.to_markdown(comparison).encode())
    files.write_atomically(folder / CSV, compare_tables.to_csv(comparison).encode())
    files.write_atomically(folder / JSON, compare_tables.to_json(comparison).encode())
    drawn = {"overview": _png(compare_figures.overview(comparison))}
    for i, group in enumerate(comparison.groups, 1):
        draw = compare_figures.FIGURES[group.first.entrant.figure]
        drawn[f"{i}_regions"] = _png(draw(group.first.evaluation))
        drawn[f"{i}_failures"] = _png(compare_figures.failures(group.first))
    for name, png in drawn.items():
        files.write_atomically(folder / f"{name}.png", png)
    files.write_atomically(folder / HTML, _page(comparison, drawn).encode())


def _page(comparison: Comparison, drawn: dict[str, bytes]) -> str:
    report = comparison.report
    methods = ", ".join(printable(group.name) for group in comparison.groups)
    body = [
        page.heading(f"Comparison: {methods}", 1),
        page.paragraph(f"{report.num_images} images of the split {report.split}."),
        page.table(compare_tables.means(comparison)),
        page.paragraph(_sentence(compare_tables.explanation(comparison))),
        page.paragraph("What the words mean stands at the end of the page."),
        *(
            page.paragraph(f"{printable(path)} has no scores: {printable(why)}")
            for path, why in comparison.failed
        ),
        page.figure(drawn["overview"], _OVERVIEW),
        page.heading("Costs"),
        page.table(compare_tables.costs(comparison)),
        *(page.paragraph(printable(remark)) for remark in compare_tables.remarks(comparison)),
    ]
    for i, group in enumerate(comparison.groups, 1):
        body += [
            page.heading(printable(group.name)),
            page.paragraph(_about(group)),
            page.figure(drawn[f"{i}_regions"], _caption(group)),
            page.paragraph(compare_figures.failure_summary(group.first)),
            page.figure(drawn[f"{i}_failures"], _FAILURES),
            page.paragraph(f"These are {compare_figures.failure_names(group.first)}."),
        ]
    body += [
        page.heading("Every run"),
        page.table(compare_tables.every_run(comparison)),
        page.heading("Words"),
        page.terms(compare_tables.terms(comparison)),
        page.heading("What goes wrong", 3),
        page.terms(mask_failures.KINDS),
    ]
    return page.page(f"Comparison: {methods}", body)


def _caption(group: Group) -> str:
    """Of the picture of a method's regions."""
    if group.first.is_slots:
        return _SLOTS
    is_of_objects = group.first.evaluation.report.num_regions > 2
    return _OBJECTS if is_of_objects else _FIGURES[group.first.entrant.figure]


def _about(group: Group) -> str:
    """Which run is shown and how it was scored."""
    entrant, report = group.first.entrant, group.first.evaluation.report
    seed = "" if entrant.seed is None else f", seed {entrant.seed}"
    text = f"Pictures are of {printable(entrant.path)}{seed}."
    if "trained_on" in entrant.settings:
        text += f" It was trained on {printable(entrant.settings['trained_on'])}."
    if entrant.changed:
        text += f" What its config sets: {printable(', '.join(entrant.changed))}."
    if report.background_slot is not None:
        scores = {name: compare_tables.both(score) for name, score in report.scores.items()}
        better = "the second" if report.headline == "combined" else "the first"
        text += (
            " In the two ways of the paper's appendix E, its IoU / Dice is "
            f"{scores['background_slot']} where all but slot {report.background_slot + 1} of "
            f"{report.num_regions} is foreground, {scores['combined']} where every pixel is that a "
            f"slot claims; {better} is the better one."
        )
    elif group.first.column == "set":
        text += f" Mask {2 if report.is_flipped else 1} is the foreground that is scored, always."
    return text


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def _png(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG")
    return buffer.getvalue()
