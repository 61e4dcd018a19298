"""Reading volumes, and refusing what is none."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from helpers.volumes import make_volume, write_series
from LRPExplainLib.errors import UserError
from LRPExplainLib.imaging.grid import Grid
from LRPExplainLib.imaging.reading import read_volume, volume_files


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mha", ".mhd"])
def test_files_keep_voxels_and_oblique_geometry(tmp_path, oblique_volume, suffix):
    path = tmp_path / f"volume{suffix}"
    sitk.WriteImage(oblique_volume, str(path))
    read = read_volume(path)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read), sitk.GetArrayFromImage(oblique_volume))
    np.testing.assert_allclose(Grid.of(read).axes, Grid.of(oblique_volume).axes, atol=1e-5)
    np.testing.assert_allclose(read.GetOrigin(), oblique_volume.GetOrigin(), atol=1e-4)
    assert volume_files(path)[0] == path


def test_a_dicom_series_folder_is_a_volume(tmp_path, oblique_volume):
    volume = sitk.Cast(oblique_volume, sitk.sitkInt16)
    write_series(volume, tmp_path / "series")
    read = read_volume(tmp_path / "series")
    assert read.GetSize() == volume.GetSize()
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read), sitk.GetArrayFromImage(volume))
    np.testing.assert_allclose(Grid.of(read).axes, Grid.of(volume).axes, atol=1e-4)
    np.testing.assert_allclose(read.GetOrigin(), volume.GetOrigin(), atol=1e-4)
    assert len(volume_files(tmp_path / "series")) == volume.GetSize()[2]


def test_a_series_that_is_straight_but_for_rounding_is_read(tmp_path):
    path = _told(lambda k, place, axes: (np.round(place + 0.01 * (k % 3) * axes[0], 2), np.round(axes, 4)))(tmp_path)
    assert read_volume(path).GetSize() == make_volume().GetSize()


def test_slices_that_are_scaled_each_by_itself_keep_their_values(tmp_path):
    """As in PET; ITK holds a series in the pixel type of its first slice, where others overflow or are cut off."""
    pydicom = pytest.importorskip("pydicom")
    volume = sitk.Cast(200 * make_volume(), sitk.sitkInt16)
    write_series(volume, tmp_path / "series")
    slopes = [1 if k == 0 else 9 if k % 2 else 0.001 for k in range(volume.GetSize()[2])]
    for file, slope in zip(sorted((tmp_path / "series").iterdir()), slopes, strict=True):
        dataset = pydicom.dcmread(file)
        dataset.RescaleSlope, dataset.RescaleIntercept = slope, 0
        dataset.save_as(file)
    expected = sitk.GetArrayFromImage(volume) * np.reshape(slopes, (-1, 1, 1))
    np.testing.assert_allclose(sitk.GetArrayFromImage(read_volume(tmp_path / "series")), expected, rtol=1e-6)


def test_two_slices_are_looked_at_too(tmp_path):
    two = sitk.Cast(make_volume()[:, :, :2], sitk.sitkInt16)
    write_series(two, tmp_path / "even")
    assert read_volume(tmp_path / "even").GetSize() == two.GetSize()
    write_series(two, tmp_path / "same", told=lambda k, tags: {**tags, "0020|0032": "1\\2\\3"})
    with pytest.raises(UserError, match="several slices at one place"):
        read_volume(tmp_path / "same")


def test_a_single_time_point_is_a_volume(tmp_path, oblique_volume):
    path = tmp_path / "one.nii.gz"
    sitk.WriteImage(sitk.JoinSeries([oblique_volume]), str(path))
    assert read_volume(path).GetSize() == oblique_volume.GetSize()


def _missing(folder: Path) -> Path:
    return folder / "nowhere.nii.gz"


def _text(folder: Path) -> Path:
    path = folder / "notes.txt"
    path.write_text("not an image")
    return path


def _text_named_as_image(folder: Path) -> Path:
    path = folder / "notes.nii.gz"
    path.write_text("not an image")
    return path


def _truncated(folder: Path) -> Path:
    path = folder / "cut.nrrd"
    sitk.WriteImage(make_volume(), str(path))
    path.write_bytes(path.read_bytes()[:2000])
    return path


def _written(folder: Path, image: sitk.Image, name: str = "volume.nrrd") -> Path:
    sitk.WriteImage(image, str(folder / name))
    return folder / name


def _with_voxel(value: float) -> sitk.Image:
    volume = make_volume()
    volume[3, 4, 5] = value
    return volume


def _two_series(folder: Path) -> Path:
    volume = sitk.Cast(make_volume(), sitk.sitkInt16)
    write_series(volume, folder / "two", "1.2.826.0.1.3680043.2.1125.1")
    write_series(volume, folder / "two", "1.2.826.0.1.3680043.2.1125.2")
    return folder / "two"


def _missing_slice(folder: Path) -> Path:
    write_series(sitk.Cast(make_volume(), sitk.sitkInt16), folder / "gap", skip=6)
    return folder / "gap"


def _told(change):
    """A series whose slices say something else of their place: (slice, position, axes [2, 3]) -> position, axes."""

    def told(k, tags):
        position = np.array(tags["0020|0032"].split("\\"), dtype=float)
        axes = np.array(tags["0020|0037"].split("\\"), dtype=float).reshape(2, 3)
        position, axes = change(k, position, axes)
        cosines = "\\".join(f"{value:.8f}" for value in np.ravel(axes))
        return {**tags, "0020|0032": "\\".join(f"{value:.6f}" for value in position), "0020|0037": cosines}

    def write(folder: Path) -> Path:
        write_series(sitk.Cast(make_volume(), sitk.sitkInt16), folder / "told", told=told)
        return folder / "told"

    return write


def _without(missing: list[str], every: int):
    """A series of which every so many slices lack these elements, which SimpleITK's writer always writes."""

    def write(folder: Path) -> Path:
        pydicom = pytest.importorskip("pydicom")
        write_series(sitk.Cast(make_volume(), sitk.sitkInt16), folder / "told")
        for file in sorted((folder / "told").iterdir())[::every]:
            dataset = pydicom.dcmread(file)
            for name in missing:
                delattr(dataset, name)
            dataset.save_as(file)
        return folder / "told"

    return write


def _mixed_sizes(folder: Path) -> Path:
    volume = sitk.Cast(make_volume(), sitk.sitkInt16)
    write_series(volume, folder / "mixed")
    write_series(volume[:20, :, 4:5], folder / "mixed")  # overwrites the first slice with a smaller one
    return folder / "mixed"


def _single_slice(folder: Path) -> Path:
    write_series(sitk.Cast(make_volume(), sitk.sitkInt16), folder / "series")
    return folder / "series" / "1-003.dcm"


BAD = {
    "missing": (_missing, "no file or folder"),
    "text": (_text, "not an image"),
    "text named as image": (_text_named_as_image, "not an image|damaged"),
    "truncated": (_truncated, "damaged"),
    "4D": (lambda f: _written(f, sitk.JoinSeries([make_volume()] * 3), "t.nii.gz"), "4 dimensions"),
    "RGB": (lambda f: _written(f, sitk.Compose([sitk.Cast(make_volume(), sitk.sitkUInt8)] * 3)), "3 values per voxel"),
    "NaN": (lambda f: _written(f, _with_voxel(float("nan"))), r"NaN or infinite voxels \(1\)"),
    "infinite": (lambda f: _written(f, _with_voxel(float("inf"))), r"NaN or infinite voxels \(1\)"),
    "constant": (lambda f: _written(f, make_volume() * 0), "same value"),
    "empty folder": (lambda f: f, "no DICOM series"),
    "two series": (_two_series, "2 DICOM series"),
    "missing slice": (_missing_slice, "unevenly spaced"),
    "tilted gantry": (_told(lambda k, place, axes: (place + k * 0.7 * axes[1], axes)), "is a sheared stack"),
    "all slices at one place": (_told(lambda k, place, axes: ((1, 2, 3), axes)), "several slices at one place"),
    "places twice": (
        _told(lambda k, place, axes: (place - k % 2 * 2.7 * np.cross(*axes), axes)),
        "several slices at one place",
    ),
    "several orientations": (_told(lambda k, place, axes: (place, axes[::-1] if k > 5 else axes)), "several orient"),
    "no positions": (_without(["ImagePositionPatient", "ImageOrientationPatient"], 1), "do not say where they lie"),
    "some positions": (_without(["ImagePositionPatient"], 3), "do not say where they lie"),
    "mixed sizes": (_mixed_sizes, r"slices of several sizes \(20 x 26 and 30 x 26\)"),
    "beyond float32": (lambda f: _written(f, sitk.Cast(make_volume(), sitk.sitkFloat64) * 1e40), "range of float32"),
    "single slice": (_single_slice, "single DICOM slice"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_in_one_sentence(tmp_path, case, capfd):
    make, expected = BAD[case]
    path = make(tmp_path)
    capfd.readouterr()
    with pytest.raises(UserError, match=expected) as caught:
        read_volume(path)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["x-ray.nrrd", "x-ray.png", "x-ray.tif", "x-ray.mha"])
def test_an_image_of_two_dimensions_is_a_volume_of_one_slice(tmp_path, name):
    flat = sitk.Cast(make_volume(spacing=(0.5, 0.7, 1.0), angles=(0.0, 0.0, 0.0))[:, :, 3], sitk.sitkUInt8)
    volume = read_volume(_written(tmp_path, flat, name))
    assert volume.GetSize() == (30, 26, 1)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(volume)[0], sitk.GetArrayFromImage(flat))
    if name.endswith((".nrrd", ".mha")):
        assert volume.GetSpacing() == (0.5, 0.7, 1.0)


@pytest.mark.parametrize("alpha", [None, 255], ids=["RGB", "opaque"])
@pytest.mark.parametrize("name", ["x-ray.png", "x-ray.tif"])
def test_a_picture_in_colours_that_are_all_grey_is_grey(tmp_path, alpha, name):
    flat = sitk.Cast(make_volume()[:, :, 3], sitk.sitkUInt8)
    channels = [flat] * 3 + ([] if alpha is None else [flat * 0 + alpha])
    read = read_volume(_written(tmp_path, sitk.Compose(channels), name))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read)[0], sitk.GetArrayFromImage(flat))


def test_a_picture_in_colour_is_refused(tmp_path):
    flat = sitk.Cast(make_volume()[:, :, 3], sitk.sitkUInt8)
    with pytest.raises(UserError, match="values per voxel"):
        read_volume(_written(tmp_path, sitk.Compose([flat, flat, flat + 1]), "x-ray.png"))


def test_a_picture_that_is_seen_through_is_refused(tmp_path):
    flat = sitk.Cast(make_volume()[:, :, 3], sitk.sitkUInt8)
    with pytest.raises(UserError, match="transparent in places"):
        read_volume(_written(tmp_path, sitk.Compose([flat] * 4), "x-ray.png"))


def _png(values: np.ndarray, filtered: bool = False) -> bytes:
    """[height, width, 2] as PNG in grey and alpha, by the specification; the rows as they are, or filtered "Sub"."""
    height, width, _ = values.shape
    depth = values.dtype.itemsize * 8
    rows = values.astype(values.dtype.newbyteorder(">")).view(np.uint8).reshape(height, width, -1)
    if filtered:
        rows = np.diff(rows, axis=1, prepend=np.zeros_like(rows[:, :1]))  # modulo 256
    data = zlib.compress(b"".join(bytes([filtered]) + row.tobytes() for row in rows))
    header = struct.pack(">IIBBBBB", width, height, depth, 4, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"bKGD", b"\0\0"), (b"IDAT", data[:9]), (b"IDAT", data[9:]), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(part)) + name + part + struct.pack(">I", zlib.crc32(name + part)) for name, part in chunks
    )


@pytest.mark.parametrize("filtered", [False, True])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_a_picture_in_grey_and_alpha_is_grey_where_it_is_opaque(tmp_path, kind, filtered):
    most = np.iinfo(kind).max
    values = np.random.default_rng(0).integers(0, most, (7, 5, 2)).astype(kind)
    values[..., 1] = most
    path = tmp_path / "x-ray.png"
    path.write_bytes(_png(values, filtered))
    read = read_volume(path)
    assert read.GetSize() == (5, 7, 1)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read)[0], values[..., 0])
    assert sitk.GetArrayFromImage(read).dtype == kind
    values[3, 2, 1] = most - 1
    path.write_bytes(_png(values, filtered))
    with pytest.raises(UserError, match="transparent in places"):
        read_volume(path)
    path.write_bytes(_png(values, filtered)[:-30])
    with pytest.raises(UserError, match="damaged"):
        read_volume(path)


def test_an_x_ray_in_dicom_is_read_from_its_file(tmp_path):
    flat = sitk.Cast(make_volume()[:, :, 3:4], sitk.sitkUInt16)
    flat.SetMetaData("0008|0060", "DX")
    path = _written(tmp_path, flat, "x-ray.dcm")
    volume = read_volume(path)
    assert volume.GetSize() == (30, 26, 1)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(volume), sitk.GetArrayFromImage(flat))


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"0028|0030": "0.2\\0.3"}, (0.3, 0.2, 1.0)),
        ({"0018|1164": "0.4\\0.5"}, (0.5, 0.4, 1.0)),
        ({"0018|1164": "0.4\\0.5", "0028|0030": "0.2\\0.3"}, (0.3, 0.2, 1.0)),
        ({}, (1.0, 1.0, 1.0)),  # which findings call pixels
    ],
    ids=["in the patient", "at the detector", "both", "neither"],
)
def test_an_x_ray_has_the_pixel_spacing_that_it_tells(tmp_path, tags, expected):
    pydicom = pytest.importorskip("pydicom")
    path = _written(tmp_path, sitk.Cast(make_volume()[:, :, 3:4], sitk.sitkUInt16), "x-ray.dcm")
    dataset = pydicom.dcmread(path)
    dataset.Modality = "CR"
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    for element in ("PixelSpacing", "ImagerPixelSpacing", "SliceThickness", "SpacingBetweenSlices"):
        if element in dataset:
            delattr(dataset, element)
    for tag, value in tags.items():
        group, element = (int(part, 16) for part in tag.split("|"))
        dataset.add_new((group, element), "DS", value.split("\\"))
    dataset.save_as(path)
    assert read_volume(path).GetSpacing() == pytest.approx(expected)


@pytest.mark.parametrize("folder", [False, True], ids=["file", "folder"])
def test_an_x_ray_whose_low_values_are_bright_is_read_as_it_is_seen(tmp_path, folder):
    """MONOCHROME1, as many detectors store it: of 12 bits v becomes 4095 - v, before the rescaling."""
    pydicom = pytest.importorskip("pydicom")
    (tmp_path / "x").mkdir()
    flat = sitk.Cast(make_volume()[:, :, 3:4], sitk.sitkUInt16)
    path = _written(tmp_path / "x", flat, "x-ray.dcm")
    dataset = pydicom.dcmread(path)
    dataset.Modality, dataset.PhotometricInterpretation = "DX", "MONOCHROME1"
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    dataset.BitsStored, dataset.HighBit = 12, 11
    dataset.RescaleSlope, dataset.RescaleIntercept = 2, -1000
    dataset.save_as(path)
    read = sitk.GetArrayFromImage(read_volume(tmp_path / "x" if folder else path)).astype(int)
    np.testing.assert_array_equal(read, 2 * (4095 - sitk.GetArrayFromImage(flat).astype(int)) - 1000)


def test_a_series_of_one_slice_is_as_thick_as_it_says(tmp_path):
    one = sitk.Cast(make_volume(), sitk.sitkInt16)[:, :, 4:5]
    write_series(one, tmp_path / "one", told=lambda k, tags: {**tags, "0018|0050": "4.5"})
    read = read_volume(tmp_path / "one")
    assert read.GetSize() == (30, 26, 1)
    assert read.GetSpacing() == pytest.approx((0.9, 1.1, 4.5))
