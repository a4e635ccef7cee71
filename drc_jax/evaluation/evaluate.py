"""Scores a split: the regions of every image, and their masks and labels against the truth."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from drc_jax.data.packed.batches import eval_batches
from drc_jax.data.packed.format import PackedSplit
from drc_jax.data.pictures.files import printable
from drc_jax.errors import NonFiniteError, UserError
from drc_jax.evaluation import label_floors, label_metrics, mask_failures, metrics, slot_failures
from drc_jax.evaluation.regions import HostRegions, InferBatch, block_size, infer_on_host
from drc_jax.evaluation.report import Evaluation, LabelReport, Report, Score
from drc_jax.evaluation.saturation import saturation_masks

_SHOWN_IMAGES = 10
_NO_BACKGROUND = -1  # the label of no region


class _Kept:
    """What is kept of the regions of all N images; arrays are made for the first block's."""

    def __init__(self, split: PackedSplit) -> None:
        count, side = len(split), split.info.image_size
        self._split = split
        self.errors = np.zeros(count)
        self.labels: np.ndarray = np.zeros((count, side, side), np.uint16)
        self.foreground: np.ndarray = np.zeros((count, side, side), bool)
        self.saturated: np.ndarray = np.zeros((count, side, side), bool)
        self.slots: metrics.SlotMasks | None = None  # where regions have no foreground
        self.num_regions = 0
        self._shown: list[HostRegions] = []
        self._label_scores: list[label_metrics.LabelScores] = []
        self._floor_scores: dict[str, list[label_metrics.LabelScores]] = {}
        self._failures: list[slot_failures.Failure] = []

    def add(self, regions: HostRegions, images: np.ndarray, indices: np.ndarray) -> None:
        """Keeps the regions of the images uint8 [n, S, S, 3] that have these places."""
        observed = images.astype(np.float32) / 127.5 - 1.0
        difference = np.abs(observed - regions.reconstruction)
        self.errors[indices] = difference.mean((1, 2, 3), dtype=np.float64)
        self.saturated[indices] = saturation_masks(images)
        labels = self.labels[indices] = regions.labels()
        self.num_regions = regions.pi.shape[1]
        background = self.num_regions - 1
        if regions.foreground_weight is None:
            self._add_slots(metrics.slot_masks(regions.pi), indices)
            background = _NO_BACKGROUND
        else:
            self.foreground[indices] = regions.foreground_weight > 0.5
        if self._split.labels is not None:
            self._score_labels(labels, images, indices, background)
        if indices[0] < _SHOWN_IMAGES:
            self._shown.append(regions.take(indices < _SHOWN_IMAGES))

    def _add_slots(self, masks: metrics.SlotMasks, indices: np.ndarray) -> None:
        if self.slots is None:
            shape = (len(self._split), *masks.others.shape[1:])
            self.slots = metrics.SlotMasks(np.zeros(shape, bool), self.foreground)
        self.slots.others[indices] = masks.others
        self.slots.claimed[indices] = masks.claimed

    def _score_labels(
        self, labels: np.ndarray, images: np.ndarray, indices: np.ndarray, background: int
    ) -> None:
        """Scores label maps, and those that need no slots; finds what went wrong."""
        assert self._split.labels is not None
        true = self._split.labels[indices]
        score = label_metrics.label_scores
        self._label_scores.append(score(labels, true, background=background))
        floors = {"k_means": label_floors.cluster_labels(images, self.num_regions)}
        if self.slots is None:
            floors["components"] = label_floors.component_labels(self.foreground[indices])
            found = slot_failures.find(images, labels, true, background=background)
            self._failures += [f._replace(image=int(indices[f.image])) for f in found]
        for name, floor in floors.items():
            self._floor_scores.setdefault(name, []).append(score(floor, true))

    def label_scores(self) -> label_metrics.LabelScores | None:
        """The scores of the label maps of all images; None without true labels."""
        if not self._label_scores:
            return None
        return _joined(self._label_scores)

    def label_floors(self) -> dict[str, LabelReport]:
        """What label maps that need no slots score; empty without true labels."""
        return {
            name: LabelReport.of(_joined(scores), has_background=True)
            for name, scores in self._floor_scores.items()
        }

    def failures(self) -> list[slot_failures.Failure] | None:
        """What went wrong; None without true labels or a region for the background."""
        return None if self.slots is not None or not self._label_scores else self._failures

    def shown(self) -> HostRegions:
        """The regions of the first images."""
        return _joined(self._shown)


def _joined(blocks: list[Any]) -> Any:
    """One NamedTuple of arrays [N, ...] of several."""
    return jax.tree.map(lambda *arrays: np.concatenate(arrays), *blocks)


def evaluate(
    infer_batch: InferBatch,
    split: PackedSplit,
    *,
    mean_train_mask: np.ndarray | None = None,
    settings: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Infers the regions of every image of a split and scores them.

    The scores are those of docs/method.md, "6 Evaluation". Where regions have a foreground, a pixel
    is foreground where the foregrounds' mixing weights sum to more than 0.5, which for two regions
    is pi_f > 0.5. Exchangeable slots are scored in both ways of appendix E. Where the split has
    instance labels, the label maps are scored too.

    Args:
      infer_batch: the inference. Every block has the same shape; the last is filled up with
        repeated images, whose results are dropped.
      split: images with masks.
      mean_train_mask: float [S, S], `metrics.mean_mask` of the training masks; None leaves that
        floor out.
      settings: kept in the report as they are; JSON only.
      progress: called first, and after each block, with the numbers of images done and in all.

    Returns:
      The report and the images behind it; `report.write` puts them on disk.

    Raises:
      UserError: before any inference, if the split has no masks or the mean training mask has
        another size; after a block, if its results are not finite.
      ValueError: if ``infer_batch`` returns wrong shapes.
    """
    masks = split.require_masks()
    if mean_train_mask is not None and mean_train_mask.shape != masks.shape[1:]:
        raise UserError(
            f"the mean training mask is {mean_train_mask.shape} but the masks of {split.path} are "
            f"{masks.shape[1:]}; both must come from one data set"
        )
    kept_settings = dict(settings or {})
    json.dumps(kept_settings)  # Fails here rather than after an hour of inference.

    kept = _infer_all(infer_batch, split, progress)
    true = np.asarray(masks) != 0
    scores, choices, predicted = _columns(kept, true)
    floor = None
    if mean_train_mask is not None:
        floor = Score.mean(metrics.mean_mask_floor(true, mean_train_mask))
    labels = kept.label_scores()
    failures = kept.failures()
    bad_masks = mask_failures.count(split.images, predicted, true, scores[choices["headline"]].iou)
    report = Report(
        split=split.info.split,
        num_images=len(split),
        num_regions=kept.num_regions,
        scores={name: Score.mean(s) for name, s in scores.items() if name != "flipped"},
        **choices,
        floors={
            "all_foreground": Score.mean(metrics.all_foreground_floor(true)),
            "mean_train_mask": floor,
            "saturation": Score.mean(metrics.overlap(kept.saturated, true)),
        },
        labels=LabelReport.of(labels, has_background=kept.slots is None) if labels else None,
        label_floors=kept.label_floors(),
        failures=None if failures is None else slot_failures.count(failures),
        bad_masks=bad_masks,
        reconstruction_error=float(np.mean(kept.errors)),
        true_share=float(np.mean(true)),
        predicted_share=float(np.mean(predicted)),
        settings=kept_settings,
    )
    return Evaluation(
        report=report,
        names=split.names,
        scores=scores,
        label_scores=labels,
        failures=failures,
        errors=kept.errors,
        observed=split.images,
        true=true,
        true_labels=split.labels,
        predicted=predicted,
        labels=kept.labels,
        shown=kept.shown(),
    )


def _columns(
    kept: _Kept, true: np.ndarray
) -> tuple[dict[str, metrics.Overlap], dict[str, Any], np.ndarray]:
    """The scores of each image by column, what was chosen for them, and the reported masks."""
    if kept.slots is None:
        columns = metrics.columns(kept.foreground, true)
        names = ("fixed", "flipped", "dataset_flip", "oracle")
        scores = {name: getattr(columns, name) for name in names}
        return scores, {"headline": "fixed", "is_flipped": columns.is_flipped}, kept.foreground
    found = metrics.slot_scores(kept.slots, true)
    scores = {
        "background_slot": found.background,
        "combined": found.combined,
        "background_oracle": found.background_oracle,
    }
    slot = found.background_slot
    headline = "combined" if found.is_combined else "background_slot"
    masks = kept.slots.claimed if found.is_combined else kept.slots.others[:, slot]
    return scores, {"headline": headline, "background_slot": slot}, masks


def _infer_all(
    infer_batch: InferBatch, split: PackedSplit, progress: Callable[[int, int], None] | None
) -> _Kept:
    """Runs inference on every image and keeps what the scores and pictures need."""
    kept = _Kept(split)
    if progress is not None:
        progress(0, len(split))
    for images, indices, valid in eval_batches(split, block_size()):
        try:
            # Repeated images of the last block end here.
            regions = infer_on_host(infer_batch, images).take(slice(valid))
        except NonFiniteError:
            raise _not_finite(split, int(indices[0])) from None
        is_finite = regions.is_finite()
        if not is_finite.all():
            raise _not_finite(split, int(indices[np.argmin(is_finite)]))
        kept.add(regions, images[:valid], indices[:valid])
        if progress is not None:
            progress(int(indices[valid - 1]) + 1, len(split))
    return kept


def _not_finite(split: PackedSplit, bad: int) -> UserError:
    return UserError(
        f"inference gave values that are not finite for image {bad} "
        f"({printable(split.names[bad])}) of {split.path}; try fewer or smaller Langevin steps, or "
        "another checkpoint"
    )
