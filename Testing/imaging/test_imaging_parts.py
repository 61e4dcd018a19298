"""Volumes in several files: all of them are found, and count for the SHA-256."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from helpers.volumes import make_volume
from LRPExplainLib.errors import UserError
from LRPExplainLib.imaging import read_segment
from LRPExplainLib.imaging.reading import read_volume, volume_digest, volume_files


def _written(name: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        sitk.WriteImage(make_volume(), str(folder / name))
        return folder / name

    return write


def _in_slices(name: str, named: str, suffix: str = "raw") -> Callable[[Path], Path]:
    """The voxels in a file for each slice, which the header lists or gives a pattern of."""

    def write(folder: Path) -> Path:
        path = _written(name)(folder)
        (voxels,) = folder.glob(f"*.{suffix}")
        content = voxels.read_bytes()
        voxels.unlink()
        count = make_volume().GetSize()[2]
        for k in range(count):
            (folder / f"s{k + 1:02d}.raw").write_bytes(content[k * len(content) // count :][: len(content) // count])
        names = "".join(f"s{k + 1:02d}.raw\n" for k in range(count))
        header = path.read_text().replace(voxels.name, named.format(names=names, count=count))
        path.write_text(header.rstrip() + "\n")
        return path

    return write


CASES = {
    "mhd": (_written("a.mhd"), ["a.mhd", "a.raw"]),
    "nhdr": (_written("a.nhdr"), ["a.nhdr", "a.raw"]),
    "hdr": (_written("a.hdr"), ["a.hdr", "a.img"]),
    "img": (_written("a.img"), ["a.img", "a.hdr"]),
    "mha": (_written("a.mha"), ["a.mha"]),
    "nrrd": (_written("a.nrrd"), ["a.nrrd"]),
    "nii": (_written("a.nii"), ["a.nii"]),
    "mhd list": (_in_slices("a.mhd", "LIST\n{names}"), ["a.mhd", *(f"s{k:02d}.raw" for k in range(1, 15))]),
    "mhd pattern": (_in_slices("a.mhd", "s%02d.raw 1 {count} 1"), ["a.mhd", *(f"s{k:02d}.raw" for k in range(1, 15))]),
    "nhdr list": (_in_slices("a.nhdr", "LIST\n{names}"), ["a.nhdr", *(f"s{k:02d}.raw" for k in range(1, 15))]),
    "nhdr pattern": (
        _in_slices("a.nhdr", "s%02d.raw 1 {count} 1"),
        ["a.nhdr", *(f"s{k:02d}.raw" for k in range(1, 15))],
    ),
}


@pytest.mark.parametrize("case", list(CASES))
def test_the_files_are_those_that_are_read_and_each_counts(tmp_path: Path, case: str) -> None:
    write, names = CASES[case]
    path = write(tmp_path)
    np.testing.assert_array_equal(*(sitk.GetArrayFromImage(image) for image in (read_volume(path), make_volume())))
    files = volume_files(path)
    assert [file.name for file in files] == names
    before = volume_digest(path)
    for file in files:
        content = file.read_bytes()
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        assert volume_digest(path) != before, file
        file.write_bytes(content)
    assert volume_digest(path) == before


def test_voxels_that_have_gone_are_said(tmp_path: Path) -> None:
    path = _written("a.mhd")(tmp_path)
    (tmp_path / "a.raw").unlink()
    with pytest.raises(UserError, match=r"are to lie in '.*a\.raw', which is not there"):
        volume_digest(path)


@pytest.mark.parametrize("text", ["ElementDataFile = %d%d 1 2", "data file: %99999999d 1 2", "data file: x%03d 1 9 0"])
@pytest.mark.parametrize("suffix", [".mhd", ".nhdr"])
def test_a_header_that_is_none_does_no_harm(tmp_path: Path, text: str, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_text(f"NRRD0004\n{text}\n")
    with pytest.raises(UserError):
        read_volume(path)
    with suppress(UserError):
        assert volume_files(path) == [path]  # what names no file


@pytest.mark.parametrize(
    "rest", [" " * 900_000 + "x", "1 " * 450_000 + "x", "x" * 900_000], ids=["blanks", "numbers", "name"]
)
def test_a_header_with_an_endless_name_is_looked_at_in_no_time(tmp_path: Path, rest: str) -> None:
    path = tmp_path / "a.mhd"
    path.write_text(f"ElementDataFile = a%d {rest}\n")
    assert volume_files(path) == [path]


def test_a_segmentation_is_known_by_its_voxels(tmp_path: Path) -> None:
    labels = sitk.GetImageFromArray(np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4) % 2)
    sitk.WriteImage(labels, str(tmp_path / "a.mhd"))
    before = read_segment(tmp_path / "a.mhd", 1).sha256
    sitk.WriteImage(1 - labels, str(tmp_path / "a.mhd"))
    assert read_segment(tmp_path / "a.mhd", 1).sha256 != before
