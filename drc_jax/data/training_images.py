"""The images a config trains on: where they lie, generating them, and whether they fit."""

import os
import pathlib

from drc_jax.config import SYNTHETIC_DATASETS, RunConfig, TrainConfig
from drc_jax.data.packed.batches import check_batch_size
from drc_jax.data.packed.format import PackedSplit, open_split, splits
from drc_jax.data.prepare import prepare_synthetic
from drc_jax.errors import UserError


def data_folder(config: RunConfig) -> pathlib.Path:
    """``data.path``, or a folder of ``data`` named after the data set where that is empty.

    The name is ``<dataset>_<image size>``, with the scene options that are not the demo's in
    between: ``scenes_objects1-3_flat_32``.
    """
    options = [
        name if value is True else name + "-".join(map(str, value)) if name == "objects" else value
        for name, value in config.data.scene_options().items()
    ]
    name = "_".join([config.data.dataset, *options, str(config.image_size)])
    return pathlib.Path(config.data.path or f"data/{name}")


def open_training_split(config: RunConfig, *, verify: bool = False) -> PackedSplit:
    """Opens the training images, generating a synthetic data set where it is missing.

    Of several processes one at a time may generate (``processes.in_turn``). ``verify`` is that of
    `open_split`.

    Raises:
      UserError: if there are none, or they do not fit the config.
    """
    folder = data_folder(config)
    if config.data.dataset in SYNTHETIC_DATASETS:
        _generate(config, folder)
    split = open_split(folder, "train", verify=verify)
    check_fits(config, split)
    return split


def _generate(config: RunConfig, folder: pathlib.Path) -> None:
    """Makes the splits of a synthetic data set that are missing."""
    data = config.data
    if "train" in splits(folder):
        check_fits(config, open_split(folder, "train"))
    else:
        print(f"generating {data.num_train} images of {data.dataset} in {folder}", flush=True)
    prepare_synthetic(
        data.dataset,
        folder,
        size=config.image_size,
        num_train=data.num_train,
        num_test=data.num_test,
        seed=data.seed,
        workers=os.cpu_count() or 1,
        **data.scene_options(),
    )


def check_fits(config: RunConfig, split: PackedSplit) -> None:
    """Refuses images that the config cannot be trained on.

    Raises:
      UserError: naming the size or number that does not fit and what would.
    """
    check_size(config, split)
    check_batch_size(config.batch_size, len(split), split.path)


def check_size(config: RunConfig, split: PackedSplit) -> None:
    """Refuses images of another size than the model's.

    Raises:
      UserError: naming both sizes and what would fit.
    """
    size, wanted = split.info.image_size, config.image_size
    if size == wanted:
        return
    blocks = (size // 4).bit_length() - 1
    other_model = ""
    if isinstance(config, TrainConfig) and blocks > 0 and size == 4 * 2**blocks:
        other_model = (
            f"give model.generator_channels {blocks + 1} entries and model.classifier_channels "
            f"{blocks}, or "
        )
    raise UserError(
        f"the images of {split.path} are {size}x{size}, the model's {wanted}x{wanted}; "
        f"{other_model}prepare the data at {wanted} pixels and set data.path to them"
    )
