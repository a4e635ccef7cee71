"""Data from a NumPy archive: the array ``images`` and, optionally, ``masks`` and ``names``."""

import hashlib
import math
import os
import pathlib
import zipfile
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from drc_jax.data.packed.datasets import Part, check_division, divide, write_dataset
from drc_jax.data.packed.format import Record
from drc_jax.data.pictures.images import resize_image, resize_mask
from drc_jax.errors import UserError

# No byte of a zip file stands for more bytes than this.
_LARGEST_RATIO = 1032


class Arrays(NamedTuple):
    """The contents of an archive.

    Attributes:
      images: uint8 [N, S, S, 3], RGB.
      masks: uint8 or bool [N, S, S] of 0 and 1, 1 = foreground; None if the archive has none.
      names: N strings.
    """

    images: np.ndarray
    masks: np.ndarray | None
    names: list[str]


def load(source: str | os.PathLike[str]) -> Arrays:
    """Reads and checks an archive.

    Args:
      source: path of the ``.npz`` file. ``masks`` and ``names`` are optional in it.

    Raises:
      UserError: if it is no such archive, or an array is missing or of the wrong form.
    """
    path = pathlib.Path(source)
    if not path.is_file():
        raise UserError(f"there is no file {path}; --source must name an .npz file")
    try:
        # Opened here, for NumPy leaves a damaged file open.
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            keys = [key for key in ("images", "masks", "names") if key in archive]
            for key in keys:
                _check_declared(path, archive.zip, key)
            arrays = {key: archive[key] for key in keys}
    except UserError:
        raise
    except MemoryError:
        raise UserError(f"{path} does not fit in this machine's memory") from None
    except (ValueError, OSError, EOFError, AttributeError, TypeError, zipfile.BadZipFile):
        raise UserError(f"{path} is not a readable .npz archive of plain arrays") from None
    if "images" not in arrays:
        raise UserError(f"{path} has no array 'images'; it must be uint8 [N, S, S, 3]")
    images, masks = arrays["images"], arrays.get("masks")
    shape = images.shape
    if images.dtype != np.uint8 or len(shape) != 4 or shape[1] != shape[2] or shape[3] != 3:
        raise UserError(
            f"'images' of {path} must be uint8 [N, S, S, 3], got {images.dtype} {list(shape)}"
        )
    if images.size == 0:
        raise UserError(f"'images' of {path} must hold at least one image, got {list(shape)}")
    if masks is not None:
        if masks.dtype not in (np.uint8, np.bool_) or masks.shape != shape[:3]:
            raise UserError(
                f"'masks' of {path} must be uint8 or bool {list(shape[:3])}, got "
                f"{masks.dtype} {list(masks.shape)}"
            )
        if masks.max() > 1:
            raise UserError(f"'masks' of {path} must be 0 and 1 only, got {masks.max()}")
    if "names" in arrays:
        names = [str(name) for name in arrays["names"].reshape(-1)]
    else:
        names = [f"{path.stem}/{i:06d}" for i in range(len(images))]
    if len(names) != len(images):
        raise UserError(f"{path} must have one name per image: {len(images)}, got {len(names)}")
    return Arrays(images, masks, names)


def _check_declared(path: pathlib.Path, archive: zipfile.ZipFile, key: str) -> None:
    """Refuses an array whose header declares more bytes than there are, before it gets memory."""
    names = archive.namelist()
    member = archive.getinfo(f"{key}.npy" if f"{key}.npy" in names else key)
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }.get(version)
        if read_header is None:
            raise ValueError("a version of arrays with named fields")
        shape, _, dtype = read_header(file)
        held = min(member.file_size - file.tell(), _LARGEST_RATIO * member.compress_size)
    size = math.prod(shape) * dtype.itemsize
    if size > held:
        raise UserError(
            f"{key!r} of {path} declares {size:,} bytes, and the file holds at most {held:,}; it "
            "is damaged"
        )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if size > memory:
        raise UserError(
            f"{key!r} of {path} is of {size:,} bytes, more than this machine's memory of "
            f"{memory:,}; use a folder of pictures (--dataset=folder)"
        )


def prepare(
    output: str | os.PathLike[str],
    *,
    source: str,
    size: int | None = None,
    test_fraction: float = 0.1,
    seed: int = 0,
    overwrite: bool = False,
) -> None:
    """Writes an archive as packed splits ``train`` and ``test``, divided at random.

    Args:
      output: folder of the data set.
      source: path of the ``.npz`` file.
      size: image side to resize to; None keeps the archive's.
      test_fraction: share of the images in ``test``, 0 to 1; at 0 or 1 there is one split only.
      seed: seed of the division.
      overwrite: replace splits that are there.

    Raises:
      UserError: if the archive, an argument or what lies at ``output`` is not as required.
    """
    check_division(test_fraction, seed)
    if size is not None and size < 1:
        raise UserError(f"size must be at least 1, got {size}")
    arrays = load(source)
    count = len(arrays.images)
    image_size = size or arrays.images.shape[1]
    write_dataset(
        output,
        {
            split: Part(_records(arrays, indices, image_size), len(indices))
            for split, indices in divide(count, test_fraction, seed).items()
        },
        image_size=image_size,
        has_masks=arrays.masks is not None,
        source={
            "dataset": "npz",
            "file": pathlib.Path(source).name,
            "sha256": hashlib.sha256(pathlib.Path(source).read_bytes()).hexdigest(),
            "test_fraction": test_fraction,
            "seed": seed,
        },
        overwrite=overwrite,
    )


def _records(arrays: Arrays, indices: np.ndarray, size: int) -> Iterator[Record]:
    for i in indices:
        mask = None if arrays.masks is None else resize_mask(arrays.masks[i], size)
        yield Record(resize_image(arrays.images[i], size), mask, arrays.names[i])
