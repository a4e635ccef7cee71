"""Several methods on the same images: which runs belong together, their means and their spread."""

import os
import statistics
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np

from drc_jax.data.packed.format import PackedSplit
from drc_jax.errors import UserError
from drc_jax.evaluation import metrics
from drc_jax.evaluation.evaluate import evaluate
from drc_jax.evaluation.regions import InferBatch, Watched
from drc_jax.evaluation.report import Evaluation, Report, Score

COLUMNS = {"fixed": "fixed", "set": "best per set", "image": "best per image"}
"""The columns of a comparison and how they are called. None may be compared with another one."""


class Entrant(NamedTuple):
    """A trained run, or a method without training, that takes part in a comparison.

    Attributes:
      method: the method's name.
      path: the run's folder, or the method's config file.
      config: what all runs have in common that differ in their seed alone.
      infer_batch: the inference.
      settings: what scores depend on, for the report; JSON only.
      changed: what its config has that is not the method's default, a text for each field.
      seed: of the training; None for methods without.
      iterations: of the training.
      num_parameters: numbers learnt.
      training_seconds: None where the run has no record of it.
      figure: how its regions are drawn, a key of `compare_figures.FIGURES`.
      column: which of `COLUMNS` its paper reports, ``fixed`` or ``set``.
      summary: one line on the ``outcomes`` of its regions, int [N], one for each image; None for
        methods whose regions have none.
    """

    method: str
    path: str
    config: Hashable
    infer_batch: InferBatch
    settings: dict[str, Any]
    changed: Sequence[str] = ()
    seed: int | None = None
    iterations: int = 0
    num_parameters: int = 0
    training_seconds: float | None = None
    figure: str = "regions"
    column: str = "fixed"
    summary: Callable[[np.ndarray], str] | None = None


class Result(NamedTuple):
    """An entrant and what it scored.

    Attributes:
      entrant: who.
      evaluation: the scores and the images behind them.
      seconds_per_image: of inference, without the first block of images, which may compile; None
        where there is no other.
      remark: the entrant's ``summary`` of all images; empty where it has none.
    """

    entrant: Entrant
    evaluation: Evaluation
    seconds_per_image: float | None = None
    remark: str = ""

    @property
    def is_slots(self) -> bool:
        """Whether the regions are exchangeable slots, none of which is the background."""
        return self.evaluation.report.background_slot is not None

    @property
    def column(self) -> str:
        """Which of `COLUMNS` the method's paper reports; for exchangeable slots always ``set``."""
        return "set" if self.is_slots else self.entrant.column

    @property
    def masks(self) -> np.ndarray:
        """The masks of that column, bool [N, S, S]."""
        is_flipped = self.column == "set" and self.evaluation.report.is_flipped
        return ~self.evaluation.predicted if is_flipped else self.evaluation.predicted

    @property
    def iou(self) -> np.ndarray:
        """Their IoU, float64 [N]."""
        return metrics.iou(self.masks, self.evaluation.true)


class Spread(NamedTuple):
    """Mean and standard deviation (of a sample, n - 1) over runs; the latter None for one run."""

    mean: float
    deviation: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Of at least one value."""
        several = len(values) > 1
        return cls(statistics.mean(values), statistics.stdev(values) if several else None)


class Group(NamedTuple):
    """Runs of one method and config that differ in their seed.

    Attributes:
      name: the method's, with a number where there are several groups of a method.
      results: the runs in the order given.
    """

    name: str
    results: list[Result]

    @property
    def first(self) -> Result:
        """The first run, which pictures show."""
        return self.results[0]

    def spread(self, value: Callable[[Report], float | None]) -> Spread | None:
        """Of a number of each run's report; None where a run has no such number."""
        return _spread([value(result.evaluation.report) for result in self.results])

    @property
    def training_seconds(self) -> Spread | None:
        """Of the runs' training; None where a run has no record of it."""
        return _spread([result.entrant.training_seconds for result in self.results])

    @property
    def seconds_per_image(self) -> Spread | None:
        """Of the runs' inference; None where a run has no such number."""
        return _spread([result.seconds_per_image for result in self.results])


class Comparison(NamedTuple):
    """What a comparison found.

    Attributes:
      groups: in the order in which their first runs were given; at least one.
      failed: path and reason of the entrants that gave no scores.
    """

    groups: list[Group]
    failed: list[tuple[str, str]]

    @property
    def report(self) -> Report:
        """One of the reports, for what all have in common: the split and its floors."""
        return self.groups[0].first.evaluation.report


def in_columns(report: Report) -> dict[str, Score | None]:
    """The scores of any method under `COLUMNS`.

    ``fixed`` is None for exchangeable slots. ``set`` takes the orientation or, of slots, the better
    of both ways of appendix E for the whole set; ``image`` the orientation or the background slot
    for each image, which needs the truth of that image.
    """
    if report.background_slot is None:
        scores = report.scores
        return {"fixed": scores["fixed"], "set": scores["dataset_flip"], "image": scores["oracle"]}
    return {"fixed": None, "set": report.reported, "image": report.scores["background_oracle"]}


def compare(
    entrants: Sequence[Entrant],
    split: PackedSplit,
    *,
    mean_train_mask: np.ndarray | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Comparison:
    """Scores every entrant on the same images.

    An entrant whose inference fails is left out and named; the others go on.

    Args:
      entrants: at least one; no two with the same path.
      split: images with masks.
      mean_train_mask: see `evaluate.evaluate`.
      progress: called after each block with the entrant's path and the numbers of images done and
        in all.

    Returns:
      The scores.

    Raises:
      UserError: before any inference, if there is no entrant, one is given twice or the split has
        no masks; after all of it, if no entrant has any scores.
    """
    if not entrants:
        raise UserError("there is nothing to compare: give runs, configs, or both")
    places = [os.path.realpath(entrant.path) for entrant in entrants]
    for i, place in enumerate(places):
        if place in places[:i]:
            raise UserError(f"{entrants[i].path} is given twice; give every run once")
    same: dict[Hashable, str] = {}
    for entrant in entrants:
        key = (*_group(entrant), entrant.seed)
        if key in same:
            raise UserError(
                f"{entrant.path} is the same as {same[key]}: method, config, images, iterations "
                "and seed; give one of them"
            )
        same[key] = entrant.path
    split.require_masks()
    results, failed = [], []
    for entrant in entrants:
        watched = Watched(entrant.infer_batch)
        try:
            found = evaluate(
                watched,
                split,
                mean_train_mask=mean_train_mask,
                settings=entrant.settings,
                progress=_named(progress, entrant.path),
            )
        except UserError as error:
            failed.append((entrant.path, str(error)))
        else:
            remark = entrant.summary(watched.outcomes(len(split))) if entrant.summary else ""
            results.append(Result(entrant, found, watched.seconds_per_image, remark))
    if not results:
        raise UserError(f"no entrant has any scores; {failed[0][0]}: {failed[0][1]}")
    return Comparison(_grouped(results), failed)


def _spread(values: Sequence[float | None]) -> Spread | None:
    """None where a value is None."""
    numbers = [value for value in values if value is not None]
    return Spread.of(numbers) if len(numbers) == len(values) else None


def _named(
    progress: Callable[[str, int, int], None] | None, path: str
) -> Callable[[int, int], None] | None:
    return None if progress is None else lambda done, total: progress(path, done, total)


def _group(entrant: Entrant) -> tuple[Hashable, ...]:
    """What runs have in common that differ in their seed alone."""
    return entrant.method, entrant.config, entrant.iterations


def _grouped(results: list[Result]) -> list[Group]:
    """Results that differ in their seed alone, together and named."""
    together: dict[Hashable, list[Result]] = {}
    for result in results:
        together.setdefault(_group(result.entrant), []).append(result)
    methods = [found[0].entrant.method for found in together.values()]
    groups = []
    for i, (method, found) in enumerate(zip(methods, together.values(), strict=True)):
        number = methods[: i + 1].count(method)
        name = method if methods.count(method) == 1 else f"{method} {number}"
        groups.append(Group(name, found))
    return groups
