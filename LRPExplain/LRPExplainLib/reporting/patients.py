"""Whose DICOM volume it is, for records that are to say so."""

import re
from pathlib import Path

import SimpleITK as sitk

from ..errors import UserError
from ..imaging.reading import volume_files

_TOLD = {"name": "0010|0010", "id": "0010|0020", "study_date": "0008|0020"}  # DICOM tags
_CHARACTERS = "0008|0005"
# DICOM's names of character sets -> Python's; with code extensions they are called "ISO 2022 IR 100" and so on.
_CODECS = {
    "ISO_IR 100": "latin_1", "ISO_IR 101": "iso8859_2", "ISO_IR 109": "iso8859_3", "ISO_IR 110": "iso8859_4",
    "ISO_IR 144": "iso8859_5", "ISO_IR 127": "iso8859_6", "ISO_IR 126": "iso8859_7", "ISO_IR 138": "iso8859_8",
    "ISO_IR 148": "iso8859_9", "ISO_IR 203": "iso8859_15", "ISO_IR 166": "iso8859_11", "ISO_IR 13": "shift_jis",
    "ISO_IR 192": "utf_8", "GB18030": "gb18030", "GBK": "gbk", "ISO_IR 87": "iso2022_jp",
    "ISO_IR 159": "iso2022_jp_2", "ISO_IR 149": "euc_kr", "ISO_IR 58": "gb2312",
}  # fmt: skip
_ESCAPE = re.compile(rb"\x1b[$(),\-./]{1,2}[0-9A-Z]")  # says which set follows; Python's of Japanese alone read them


def patient_of(path: str | None) -> dict[str, str] | None:
    """Name, ID and date of the study as the volume's first file tells them; None for what is no DICOM."""
    if path is None or not Path(path).exists():
        return None
    reader = sitk.ImageFileReader()
    try:
        reader.SetFileName(str(volume_files(Path(path))[0]))
        reader.ReadImageInformation()
    except (RuntimeError, UserError, IndexError):
        return None
    told = {key: reader.GetMetaData(tag) for key, tag in _TOLD.items() if reader.HasMetaDataKey(tag)}
    characters = reader.GetMetaData(_CHARACTERS) if reader.HasMetaDataKey(_CHARACTERS) else ""
    return {key: _decoded(text, characters).strip() for key, text in told.items()} or None


def _decoded(text: str, characters: str) -> str:
    """Text whose bytes SimpleITK has handed on as if they were UTF-8, those that are not as lone surrogates.

    Args:
        characters: the file's Specific Character Set; of several the last one is the one with the others' letters.
    """
    names = [name.strip() for name in characters.split("\\") if name.strip()]
    codec = _CODECS.get(names[-1].replace("ISO 2022 IR", "ISO_IR"), "utf_8") if names else "utf_8"
    told = text.encode("utf-8", errors="surrogateescape")
    told = told if codec.startswith("iso2022") else _ESCAPE.sub(b"", told)
    return told.decode(codec, errors="replace")
