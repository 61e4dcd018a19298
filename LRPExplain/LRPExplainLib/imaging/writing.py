"""Images to files."""

from __future__ import annotations

from pathlib import Path

import SimpleITK as sitk

from ..errors import reason


def write_image(image: sitk.Image, path: Path, compressed: bool = True, level: int = -1) -> None:
    """Write an image in the format of the file's name; ``level`` of compression from 1, quick, to 9.

    Raises:
        OSError: it cannot be written, as of Python's own files; SimpleITK says RuntimeError of a full disk.
    """
    try:
        sitk.WriteImage(image, str(path), useCompression=compressed, compressionLevel=level)
    except RuntimeError as error:
        raise OSError(reason(error)) from error
