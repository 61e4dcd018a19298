"""Volumes in folders with letters of any script are read and written, by the library and after `read_as_utf8`."""

import locale
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from LRPExplainLib.file_names import read_as_utf8
from LRPExplainLib.imaging.reading import read_volume


def test_a_volume_in_a_folder_with_an_umlaut_is_read(tmp_path: Path) -> None:
    read_as_utf8()
    folder = tmp_path / "Jürgen Łukasz 山"
    folder.mkdir()
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    sitk.WriteImage(sitk.GetImageFromArray(values), str(folder / "Größe.nrrd"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read_volume(folder / "Größe.nrrd")), values)


@pytest.mark.parametrize(("platform", "told"), [("win32", [(locale.LC_CTYPE, ".UTF-8")]), ("linux", [])])
def test_windows_alone_is_told(platform: str, told: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[object] = []
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(locale, "setlocale", lambda category, name: said.append((category, name)))
    read_as_utf8()
    assert said == told
