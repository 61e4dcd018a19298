"""PNG files in grey with an alpha channel, for which SimpleITK has no pixel type.

A PNG's filters work on the bytes of whole pixels, whatever they mean. Two channels of 8 bits are filtered as one of 16
is, and two of 16 bits as four of 8: with a header that says so the same bytes are read, and parted afterwards.
"""

import struct
import tempfile
import zlib
from pathlib import Path

import numpy as np
import SimpleITK as sitk

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER = struct.Struct(">4x4sIIBBBBB")  # of the first chunk: its name, width, height, depth, colours, three methods
_GREY_ALPHA = 4
_INSTEAD = {8: (16, 0), 16: (8, 6)}  # bits of a channel -> bits and kind of colours of a picture with the same bytes
_KEPT = (b"IDAT", b"IEND")  # what other chunks say depends on the kind of colours, or is not for the voxels


def is_grey_with_alpha(path: Path) -> bool:
    """Whether this is such a file; False too where it cannot be read, which whoever reads it says."""
    try:
        with path.open("rb") as stream:
            start = stream.read(len(_SIGNATURE) + _HEADER.size)
    except OSError:
        return False
    if len(start) < len(_SIGNATURE) + _HEADER.size or not start.startswith(_SIGNATURE):
        return False
    name, _, _, depth, colours, *_ = _HEADER.unpack_from(start, len(_SIGNATURE))
    return (name, colours) == (b"IHDR", _GREY_ALPHA) and depth in _INSTEAD


def read_grey_with_alpha(path: Path) -> sitk.Image:
    """The file as an image of two unsigned components, grey and alpha.

    Raises:
        RuntimeError: it is damaged; SimpleITK's.
    """
    content = path.read_bytes()
    with tempfile.TemporaryDirectory(prefix="LRPExplain-") as folder:
        file = Path(folder) / "picture.png"
        file.write_bytes(_with_another_header(content))
        values = sitk.GetArrayFromImage(sitk.ReadImage(str(file)))
    if values.ndim == 2:  # 16 bits, of which the higher ones are grey
        parted = np.stack([values >> 8, values & 0xFF], axis=-1).astype(np.uint8)
    else:  # four bytes, the higher one of each pair first
        parted = values[..., ::2].astype(np.uint16) << 8 | values[..., 1::2]
    return sitk.GetImageFromArray(parted, isVector=True)


def _with_another_header(content: bytes) -> bytes:
    _, width, height, depth, _, *methods = _HEADER.unpack_from(content, len(_SIGNATURE))
    bits, colours = _INSTEAD[depth]
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, bits, colours, *methods)
    parts = [_SIGNATURE, struct.pack(">I", len(header) - 4), header, struct.pack(">I", zlib.crc32(header))]
    place = len(_SIGNATURE)
    while place + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, place)
        if content[place + 4 : place + 8] in _KEPT:
            parts.append(content[place : place + 12 + length])
        place += 12 + length
    return b"".join(parts)
