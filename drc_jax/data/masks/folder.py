"""Masks that lie in a folder, for published pictures that come without."""

import hashlib
import os
import pathlib

from drc_jax.data.pictures import decode
from drc_jax.errors import UserError


class MaskFolder:
    """Masks in a folder, named as their pictures but for the extension.

    A mask belongs to the picture with its file name. Where pictures of several folders share a
    name, the mask's folder has to be named as the picture's.

    Attributes:
      fingerprint: identifies the masks by their names and bytes.
    """

    def __init__(self, folder: str | os.PathLike[str], *, unique_names: bool) -> None:
        """Lists the files.

        Args:
          folder: searched with its sub-folders.
          unique_names: whether the data set's file names differ between its folders.

        Raises:
          UserError: if there is no such folder or no picture in it.
        """
        self._unique_names = unique_names
        self._paths: dict[str, list[pathlib.Path]] = {}
        root = pathlib.Path(folder)
        if not root.is_dir():
            raise UserError(f"there is no folder {root}; --masks must name a folder of masks")
        digest = hashlib.sha256()
        for path in sorted(root.rglob("*")):
            if path.suffix.lower() in decode.EXTENSIONS and path.is_file():
                digest.update(f"{path.relative_to(root)}\n".encode())
                digest.update(hashlib.sha256(path.read_bytes()).digest())
                self._paths.setdefault(path.stem, []).append(path)
        if not self._paths:
            raise UserError(f"{root} holds no pictures; --masks must name a folder of masks")
        self.fingerprint = digest.hexdigest()

    def find(self, name: str) -> pathlib.Path | None:
        """The mask of a picture, if it has one."""
        picture = pathlib.PurePath(name)
        # Names without an extension may contain dots.
        stem = picture.stem if picture.suffix.lower() in decode.EXTENSIONS else picture.name
        found = self._paths.get(stem, [])
        beside = [path for path in found if path.parent.name == picture.parent.name]
        if beside:
            return beside[0]
        return found[0] if found and self._unique_names else None
