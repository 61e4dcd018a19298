"""Volumes from disk: NIfTI, NRRD, MetaImage and whatever else SimpleITK reads, or a folder with a DICOM series.

DICOM files of many frames are read in `dicom_frames`, PNG files that SimpleITK does not read in `png`.

An image of two dimensions, such as an X-ray, is a volume of one slice.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..digests import sha256_of
from ..errors import UserError, reason
from .dicom_frames import read_frames
from .dicom_segments import is_segmentation
from .parts import parts_of
from .png import is_grey_with_alpha, read_grey_with_alpha
from .series import ORIENTATION, POSITION, Placed, numbers, stack_problem

FORMATS = (
    "a NIfTI, NRRD, MetaImage or PNG file, an X-ray or a volume in one file as DICOM, or a folder with one DICOM series"
)
_MODALITY, _FRAMES = "0008|0060", "0028|0008"  # DICOM tags
_THICKNESS, _SPACING = "0018|0050", "0028|0030"
_RESCALE = ("0028|1053", "0028|1052")  # slope and intercept
# DICOM modalities of which a single slice is a part of something larger, most likely chosen by mistake.
_SLICED = ("CT", "MR", "PT", "NM")
_DICOM = "GDCMImageIO"
# Whose several values per voxel are colours; elsewhere they may be anything, such as layers of segments.
_PICTURES = (_DICOM, "PNGImageIO", "JPEGImageIO", "BMPImageIO", "TIFFImageIO")
_COMPLEX = (sitk.sitkComplexFloat32, sitk.sitkComplexFloat64)


def read_volume(path: str | os.PathLike[str]) -> sitk.Image:
    """Read one 3D scalar volume, with its pixel type as stored; a 2D image becomes its only slice, 1 mm thick unless
    it tells how thick.

    Raises:
        UserError: nothing there, not an image, several DICOM series, slices that are no straight and even stack, or
            any reason of `check_volume`.
    """
    path = Path(path)
    image = read_image(path)
    check_volume(image, path.name)
    return image


def read_image(path: Path) -> sitk.Image:
    """Read what is there, whether or not it is a volume that a model can be asked about.

    Raises:
        UserError: nothing there, not an image, several DICOM series, slices that are no straight and even stack.
    """
    if not path.exists():
        raise UserError(f"There is no file or folder '{path}': check the path of the volume.")
    with _quiet():
        return _read_series(path) if path.is_dir() else _read_file(path)


def volume_files(path: Path) -> list[Path]:
    """The files that make up the volume at `path`: itself, with those that its header names, or the slices of its DICOM
    series in the order of k.

    Raises:
        UserError: a file that a header names is not there, or a folder that holds no series or several.
    """
    if not path.is_dir():
        return parts_of(path)
    with _quiet():
        return [Path(name) for name in _series_files(path)]


def volume_digest(path: Path, told: str | None = None) -> str:
    """SHA-256 of the volume at `path`, as explanations record it: of a series, whatever its files are called; of a
    header, with the voxels that lie in other files.

    Args:
        told: what an explanation recorded; of a series earlier versions hashed the files in the order of their names,
            and if it is that, it is what is given back.
    """
    files = volume_files(path)
    found = sha256_of(*files)
    if told in (None, found) or not path.is_dir() or files == sorted(files):
        return found
    earlier = sha256_of(*sorted(files))
    return earlier if earlier == told else found


def check_volume(image: sitk.Image, name: str) -> None:
    """Refuse what no model can be asked about.

    Raises:
        UserError: not three dimensions, several components per voxel, NaN, infinite or too large voxels, one single
            value.
    """
    if image.GetDimension() != 3:
        raise UserError(
            f"'{name}' has {image.GetDimension()} dimensions, but a 3D volume is needed: extract one first."
        )
    components = image.GetNumberOfComponentsPerPixel()
    if components != 1 or image.GetPixelID() in _COMPLEX:
        kind = f"{components} values per voxel (colour or vector)" if components != 1 else "complex voxels"
        raise UserError(f"'{name}' has {kind}, but a scalar volume is needed: extract one component first.")
    voxels = sitk.GetArrayViewFromImage(image)
    if voxels.size == 0:
        raise UserError(f"'{name}' has no voxels: choose another volume.")
    if np.issubdtype(voxels.dtype, np.floating):
        bad = voxels.size - int(np.count_nonzero(np.isfinite(voxels)))
        if bad:
            raise UserError(f"'{name}' has NaN or infinite voxels ({bad}): replace them by numbers first.")
        if max(voxels.max(), -voxels.min()) > np.finfo(np.float32).max:
            raise UserError(f"'{name}' has voxels beyond the range of float32, in which models compute: scale it down.")
    if voxels.min() == voxels.max():
        raise UserError(f"'{name}' has the same value in every voxel, so there is nothing to explain in it.")


def _read_file(path: Path, alone: bool = False) -> sitk.Image:
    """One file; ``alone``: nothing is missing if that is a single slice, for its series has no other."""
    if is_grey_with_alpha(path):
        return sitk.JoinSeries(_grey(_with_alpha(path), path))
    reader, kind = _opened(path)
    dicom = kind == _DICOM
    if dicom and int((numbers(_told(reader, _FRAMES), 1) or (1,))[0]) > 1:
        return read_frames(path)
    image = _executed(reader, path)
    image = _grey(image, path) if kind in _PICTURES else image
    size = image.GetSize()
    if dicom and len(size) == 3 and size[2] == 1:
        if not alone and _told(reader, _MODALITY) in _SLICED:
            raise UserError(f"'{path}' is a single DICOM slice: give the folder of its series.")
        return _with_spacing(image, reader)
    if len(size) == 4 and size[3] == 1:  # NIfTI writers often add a time axis of length one
        image = image[:, :, :, 0]
    return sitk.JoinSeries(image) if len(size) == 2 else image


def _opened(path: Path) -> tuple[sitk.ImageFileReader, str]:
    """A reader that knows the file's header, and of which of ITK's kinds the file is."""
    if is_segmentation(path):
        raise UserError(f"'{path}' is a segmentation: give the volume that it is of.")
    reader = sitk.ImageFileReader()
    kind = reader.GetImageIOFromFileName(str(path))
    if not kind:
        raise UserError(f"'{path}' is not an image that can be read: give {FORMATS}.")
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise _damaged(path, error) from error
    return reader, kind


def _executed(reader: sitk.ImageFileReader, path: Path) -> sitk.Image:
    try:
        return reader.Execute()
    except RuntimeError as error:
        raise _damaged(path, error) from error


def _with_alpha(path: Path) -> sitk.Image:
    try:
        return read_grey_with_alpha(path)
    except RuntimeError as error:
        raise _damaged(path, error) from error


def _grey(image: sitk.Image, path: Path) -> sitk.Image:
    """A picture in grey and alpha, or that is stored in colours which are all grey, as the one channel that it is.

    Raises:
        UserError: it is not opaque: what is seen there is not its own.
    """
    channels = image.GetNumberOfComponentsPerPixel()
    if channels not in (2, 3, 4) or any(n > 1 for n in image.GetSize()[2:]):
        return image
    values = sitk.GetArrayViewFromImage(image)
    alpha = channels % 2 == 0
    if values.dtype.kind != "u" or (values[..., 1 : channels - alpha] != values[..., :1]).any():
        return image
    if alpha and values[..., -1].min() < np.iinfo(values.dtype).max:
        raise UserError(f"'{path}' is transparent in places: save it without an alpha channel, as it is to be seen.")
    return sitk.VectorIndexSelectionCast(image, 0)


def _damaged(path: Path, error: RuntimeError) -> UserError:
    return UserError(f"'{path}' is damaged or of an unsupported kind ({reason(error)}): give {FORMATS}.")


def _told(reader: sitk.ImageFileReader, tag: str) -> str:
    return reader.GetMetaData(tag).strip() if reader.HasMetaDataKey(tag) else ""


def _with_spacing(image: sitk.Image, reader: sitk.ImageFileReader) -> sitk.Image:
    """A single slice with the voxel size that it tells: of X-rays ITK takes that at the detector alone, which is larger
    than the patient's and often missing, and no slice's thickness."""
    spacing = list(image.GetSpacing())
    within, thickness = numbers(_told(reader, _SPACING), 2), numbers(_told(reader, _THICKNESS), 1)
    if within is not None and within.min() > 0:
        spacing[:2] = within[::-1].tolist()
    if thickness is not None and thickness[0] > 0:
        spacing[2] = float(thickness[0])
    image.SetSpacing(spacing)
    return image


def _series_files(folder: Path) -> tuple[str, ...]:
    series = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
    if not series:
        raise UserError(f"The folder '{folder}' holds no DICOM series: give {FORMATS}.")
    if len(series) > 1:
        raise UserError(
            f"The folder '{folder}' holds {len(series)} DICOM series: give a folder with one of them alone."
        )
    return tuple(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), series[0]))


def _read_series(folder: Path) -> sitk.Image:
    names = _series_files(folder)
    if len(names) == 1:
        return _read_file(Path(names[0]), alone=True)
    reader = sitk.ImageSeriesReader()
    reader.MetaDataDictionaryArrayUpdateOn()
    reader.SetFileNames(names)
    try:
        image = reader.Execute()
        if len({_rescaled(reader, n) for n in range(len(names))}) > 1:  # ITK holds all in the first slice's pixel type
            reader.SetOutputPixelType(sitk.sitkFloat64)
            image = reader.Execute()
    except RuntimeError as error:
        why = _sizes_problem(names) or f"could not be read ({reason(error)}): check its files"
        raise UserError(f"The DICOM series in '{folder}' {why}.") from error
    problem = stack_problem([_placed(reader, n) for n in range(len(names))], image.GetSpacing()[:2])
    if problem is not None:
        raise UserError(f"The DICOM series in '{folder}' {problem}.")
    return image


def _sizes_problem(names: Sequence[str]) -> str | None:
    """What ITK says of slices of several sizes is all about regions and requests."""
    sizes = set()
    for name in names:
        reader = sitk.ImageFileReader()
        reader.SetFileName(name)
        try:
            reader.ReadImageInformation()
        except RuntimeError:
            return None
        sizes.add(reader.GetSize()[:2])
    if len(sizes) < 2:
        return None
    told = " and ".join(" x ".join(map(str, size)) for size in sorted(sizes)[:2])
    return f"has slices of several sizes ({told}), which are no volume: give a folder with those of one size"


def _placed(reader: sitk.ImageSeriesReader, n: int) -> Placed:
    """What slice `n` says of its place."""
    told = {tag: reader.GetMetaData(n, tag) for tag in (POSITION, ORIENTATION) if reader.HasMetaDataKey(n, tag)}
    return Placed(numbers(told.get(POSITION, ""), 3), numbers(told.get(ORIENTATION, ""), 6))


def _rescaled(reader: sitk.ImageSeriesReader, n: int) -> tuple[str, ...]:
    """How the stored values of slice `n` become those that are meant."""
    return tuple(reader.GetMetaData(n, tag).strip() if reader.HasMetaDataKey(n, tag) else "" for tag in _RESCALE)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep ITK's C++ warnings off the terminal: what matters in them is raised as a `UserError`."""
    before = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(before)
