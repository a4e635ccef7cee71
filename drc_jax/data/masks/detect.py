"""Finding objects in pictures: the Mask R-CNN that stands in for annotators of dogs and cars."""

import hashlib
import os
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from drc_jax.data.pictures.crops import Box
from drc_jax.errors import UserError

# torchvision's models by name, the better one first.
_MODELS = ("maskrcnn_resnet50_fpn_v2", "maskrcnn_resnet50_fpn")


class Detection(NamedTuple):
    """One object that was found.

    Attributes:
      label: its COCO category, such as ``dog``, ``car`` or ``person``.
      score: the detector's confidence, 0 to 1.
      mask: float32 [H, W], each pixel's probability of belonging to it.
      box: xmin, ymin, xmax, ymax in pixels.
    """

    label: str
    score: float
    mask: np.ndarray
    box: Box


# Takes a picture uint8 [H, W, 3].
Detector = Callable[[np.ndarray], list[Detection]]


def weights_id(weights: str | os.PathLike[str] | None) -> str:
    """What identifies the weights of `mask_rcnn`: its file's hash, or torchvision's name for them.

    Raises:
      UserError: if there is no such file.
    """
    if weights is None:
        return f"torchvision {_MODELS[0]} COCO_V1"
    path = pathlib.Path(weights)
    if not path.is_file():
        raise UserError(f"there is no file {path}; --weights must name a Mask R-CNN of torchvision")
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def mask_rcnn(weights: str | os.PathLike[str] | None = None) -> Detector:
    """torchvision's Mask R-CNN (ResNet-50 FPN) trained on COCO.

    The paper took detectron2's with a ResNet-101 (appendix A.2).

    Args:
      weights: a file of torchvision's weights, of either version of the model; None downloads those
        of version 2 from PyTorch's hub.

    Returns:
      The detector, on the GPU if PyTorch sees one.

    Raises:
      UserError: if the extra ``masks`` is not installed, or the weights are missing or others.
    """
    try:
        import torch
        from torchvision.models import detection
    except (ImportError, RuntimeError) as error:  # RuntimeError: built for another PyTorch
        raise UserError(
            f"{error}: detecting masks needs the extra `masks`; install it with `pip install "
            "'drc_jax[masks]'` or pass a folder of masks with --masks"
        ) from None
    model, categories = _load(torch, detection, weights)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device).eval()

    def detect(image: np.ndarray) -> list[Detection]:
        pixels = torch.from_numpy(image.transpose(2, 0, 1) / np.float32(255)).to(device)
        with torch.inference_mode():
            found = {key: value.cpu().numpy() for key, value in model([pixels])[0].items()}
        return [
            Detection(
                label=categories[found["labels"][i]],
                score=float(found["scores"][i]),
                mask=found["masks"][i, 0],
                box=tuple(found["boxes"][i].tolist()),
            )
            for i in range(len(found["scores"]))
        ]

    return detect


def _load(
    torch: Any, detection: Any, weights: str | os.PathLike[str] | None
) -> tuple[Any, list[str]]:
    """The model and the names of its categories."""
    # Every model has the weights "COCO_V1", which also tell the names of the categories.
    published = {
        "maskrcnn_resnet50_fpn_v2": detection.MaskRCNN_ResNet50_FPN_V2_Weights.COCO_V1,
        "maskrcnn_resnet50_fpn": detection.MaskRCNN_ResNet50_FPN_Weights.COCO_V1,
    }
    categories = published[_MODELS[0]].meta["categories"]
    if weights is None:
        try:
            return getattr(detection, _MODELS[0])(weights=published[_MODELS[0]]), categories
        except OSError as error:
            raise UserError(
                f"cannot download {published[_MODELS[0]].url} ({error}); get it elsewhere and pass "
                "the file with --weights, or pass a folder of masks with --masks"
            ) from None
    try:
        state = torch.load(weights, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises anything on a file that is not its own
        raise UserError(
            f"{weights} is no file of PyTorch weights ({type(error).__name__}); --weights must "
            "name one of a Mask R-CNN of torchvision"
        ) from None
    for name in _MODELS:
        model = getattr(detection, name)(weights=None, weights_backbone=None)
        if isinstance(state, dict) and state.keys() == model.state_dict().keys():
            model.load_state_dict(state)
            return model, categories
    raise UserError(
        f"{weights} holds weights of another model; --weights must be those of torchvision's "
        f"{' or '.join(_MODELS)}"
    )
