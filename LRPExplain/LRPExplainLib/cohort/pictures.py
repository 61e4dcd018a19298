"""Mean maps as pictures: a few hundred blocks need no renderer, and are drawn where Slicer's core is absent too."""

import struct
import tempfile
import zlib
from pathlib import Path

import numpy as np
import SimpleITK as sitk

VIEWS = ("axial", "sagittal", "coronal")
_SIDE = 360  # pixels of the longest side, about
_GREY = 0.55  # of white: how bright the anatomy is at most under the colours
_FOR = ((0.75, 0.05, 0.0), (1.0, 0.95, 0.2))  # the colours of weak and strong relevance for the target
_AGAINST = ((0.0, 0.15, 0.75), (0.2, 0.95, 1.0))


def projections(mean: sitk.Image, anatomy: sitk.Image | None = None) -> dict[str, bytes]:
    """Relevance summed along each axis over the mean anatomy, as PNGs by `VIEWS`; one scale of colour for the three.

    The patient's right is on the left, anterior up or on the left, superior up, as Slicer shows it. Of a single slice,
    as of X-rays, there is one picture: across it would be lines.

    Args:
        mean: in a space whose axes run to the left, posterior and superior.
        anatomy: on its grid, 0 to 1.
    """
    values = sitk.GetArrayFromImage(mean).astype(np.float64)
    ground = np.zeros_like(values) if anatomy is None else sitk.GetArrayFromImage(anatomy).astype(np.float64)
    views = [view for view in VIEWS if min(_along(values, view).shape[1:]) > 1] or VIEWS
    flat = {view: _along(values, view).sum(axis=0) for view in views}
    grey = {view: _along(ground, view).mean(axis=0) for view in views}
    limit = max(float(np.abs(one).max()) for one in flat.values()) or 1.0
    bright = max(float(one.max()) for one in grey.values()) or 1.0
    scale = max(1, round(_SIDE / max(values.shape)))
    return {view: png(_enlarged(_colored(flat[view] / limit, grey[view] / bright), scale)) for view in views}


def png(picture: np.ndarray) -> bytes:
    """uint8 [height, width, 3] as PNG."""
    height, width, _ = picture.shape
    rows = b"".join(b"\0" + row.tobytes() for row in np.ascontiguousarray(picture))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    chunks = (struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
              for kind, data in parts)  # fmt: skip
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def shrunk(picture: bytes, factor: int = 2) -> bytes:
    """A PNG at a fraction of its size, for a page that shows it small."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "picture.png"
        file.write_bytes(picture)
        image = sitk.ReadImage(str(file))
    if image.GetNumberOfComponentsPerPixel() != 3 or min(image.GetSize()) < factor:
        return picture
    values = sitk.GetArrayFromImage(sitk.BinShrink(sitk.Cast(image, sitk.sitkVectorFloat32), [factor] * 2))
    return png(np.clip(np.round(values), 0, 255).astype(np.uint8))


def _along(values: np.ndarray, view: str) -> np.ndarray:
    """[depth, rows, columns] of a view, from [S, P, L]."""
    if view == "axial":
        return values
    return values[::-1].transpose((2, 0, 1) if view == "sagittal" else (1, 0, 2))


def _colored(relevance: np.ndarray, grey: np.ndarray) -> np.ndarray:
    """uint8 RGB; the weaker the relevance (-1 to 1), the more of the anatomy (0 to 1) shows through."""
    strength = np.abs(relevance)[..., None]
    weak, strong = (
        np.where(relevance[..., None] > 0, np.array(a), np.array(b)) for a, b in zip(_FOR, _AGAINST, strict=True)
    )
    color = weak + (strong - weak) * strength
    cover = np.minimum(1.0, 1.2 * np.sqrt(strength))
    mixed = cover * color + (1 - cover) * _GREY * grey[..., None]
    return np.round(255 * np.clip(mixed, 0, 1)).astype(np.uint8)


def _enlarged(picture: np.ndarray, scale: int) -> np.ndarray:
    return picture.repeat(scale, axis=0).repeat(scale, axis=1)
