"""DICOM objects that SimpleITK does not write; needs pydicom, and highdicom for segmentations."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
RT_DOSE = "1.2.840.10008.5.1.4.1.1.481.2"
NUCLEAR_MEDICINE = "1.2.840.10008.5.1.4.1.1.20"


def enhanced(
    volume: sitk.Image,
    frames: Sequence[int] | None = None,
    rescale: Callable[[int], tuple[float, float]] | None = None,
) -> Any:
    """An int16 volume as Enhanced CT.

    Args:
        frames: which slice each frame shows; None: each its own.
        rescale: slice -> (slope, intercept) of its stored values.
    """
    frames = list(range(volume.GetSize()[2])) if frames is None else list(frames)
    values = sitk.GetArrayFromImage(volume)
    axes = np.reshape(volume.GetDirection(), (3, 3))
    groups = []
    for k in frames:
        place = volume.TransformIndexToPhysicalPoint((0, 0, k))
        group = item(
            PlanePositionSequence=[item(ImagePositionPatient=[round(x, 8) for x in place])],
            PlaneOrientationSequence=[item(ImageOrientationPatient=[round(x, 10) for x in axes[:, :2].T.ravel()])],
        )
        if rescale is not None:
            slope, intercept = rescale(k)
            group.PixelValueTransformationSequence = [item(RescaleSlope=slope, RescaleIntercept=intercept)]
        groups.append(group)
    columns, rows, thickness = volume.GetSpacing()
    measures = item(PixelSpacing=[rows, columns], SliceThickness=thickness)
    return _file(
        ENHANCED_CT, "CT", values[frames].astype("<i2"),
        SharedFunctionalGroupsSequence=[item(PixelMeasuresSequence=[measures])],
        PerFrameFunctionalGroupsSequence=groups,
    )  # fmt: skip


def rt_dose(volume: sitk.Image, scaling: float = 0.25, absolute: bool = False) -> Any:
    """A volume of whole numbers as RT Dose in 32 bits, as DICOM PS3.3 C.8.8.3 has it.

    Args:
        absolute: the planes lie at patient coordinates; else they are told from the first one on.
    """
    z = volume.GetOrigin()[2] if absolute else 0.0
    offsets = [round(z + k * volume.GetSpacing()[2], 6) for k in range(volume.GetSize()[2])]
    return _file(
        RT_DOSE, "RTDOSE", sitk.GetArrayFromImage(volume).astype("<u4"), **_plane(volume, volume.GetOrigin()),
        PixelSpacing=[volume.GetSpacing()[1], volume.GetSpacing()[0]], DoseUnits="GY", DoseType="PHYSICAL",
        DoseSummationType="PLAN", DoseGridScaling=scaling, GridFrameOffsetVector=offsets,
        FrameIncrementPointer=0x3004000C,
    )  # fmt: skip


def spect(volume: sitk.Image, against_the_normal: bool = False) -> Any:
    """A volume of whole numbers as reconstructed Nuclear Medicine, as DICOM PS3.3 C.8.4 has it.

    Args:
        against_the_normal: the last slice is the first one.
    """
    values, step, count = sitk.GetArrayFromImage(volume), volume.GetSpacing()[2], volume.GetSize()[2]
    first = volume.TransformIndexToPhysicalPoint((0, 0, count - 1 if against_the_normal else 0))
    along = values[::-1] if against_the_normal else values
    detector = item(**_plane(volume, first))
    return _file(
        NUCLEAR_MEDICINE, "NM", along.astype("<u2"),
        ImageType=["ORIGINAL", "PRIMARY", "RECON TOMO"],
        PixelSpacing=[volume.GetSpacing()[1], volume.GetSpacing()[0]], DetectorInformationSequence=[detector],
        SpacingBetweenSlices=-step if against_the_normal else step, SliceThickness=step,
        SliceVector=list(range(1, count + 1)), FrameIncrementPointer=0x00540080,
    )  # fmt: skip


def item(**elements: Any) -> Any:
    """A data set of these elements."""
    from pydicom.dataset import Dataset

    made = Dataset()
    for name, value in elements.items():
        setattr(made, name, value)
    return made


def _plane(volume: sitk.Image, position: Sequence[float]) -> dict[str, Any]:
    axes = np.reshape(volume.GetDirection(), (3, 3))
    return {
        "ImagePositionPatient": [round(x, 8) for x in position],
        "ImageOrientationPatient": [round(x, 10) for x in axes[:, :2].T.ravel()],
    }


def _file(storage: str, modality: str, values: np.ndarray, **elements: Any) -> Any:
    """A file of frames [frame, row, column]."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    bits = values.dtype.itemsize * 8
    made = item(
        SOPClassUID=storage, SOPInstanceUID=generate_uid(), StudyInstanceUID=generate_uid(),
        SeriesInstanceUID=generate_uid(), Modality=modality, NumberOfFrames=len(values), Rows=values.shape[1],
        Columns=values.shape[2], SamplesPerPixel=1, PhotometricInterpretation="MONOCHROME2", BitsAllocated=bits,
        BitsStored=bits, HighBit=bits - 1, PixelRepresentation=int(values.dtype.kind == "i"),
        PixelData=values.tobytes(), **elements,
    )  # fmt: skip
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    made.preamble = bytes(128)
    return made


def frame(dataset: Any, n: int) -> Any:
    """What frame `n` says of itself."""
    return dataset.PerFrameFunctionalGroupsSequence[n]


def slices_of(folder: Path) -> list[Any]:
    """The slices of a series by `write_series` from below to above, with what a segmentation of them must tell."""
    import pydicom

    slices = [pydicom.dcmread(file) for file in sorted(folder.iterdir())]
    for n, each in enumerate(slices):
        each.PatientName, each.PatientID, each.PatientBirthDate, each.PatientSex = "A^B", "1", "", ""
        each.FrameOfReferenceUID, each.PositionReferenceIndicator = "1.2.826.0.1.3680043.2.1125.7", ""
        each.StudyID, each.AccessionNumber, each.ReferringPhysicianName = "1", "", ""
        each.StudyDate, each.StudyTime, each.InstanceNumber = "20260101", "120000", n + 1
    return slices


def segmentation(source: Sequence[Any], masks: Mapping[str, np.ndarray], kind: str, **options: Any) -> Any:
    """A DICOM Segmentation of these masks [k, j, i] on the source's slices."""
    import highdicom
    from pydicom.sr.codedict import codes

    described = [
        highdicom.seg.SegmentDescription(n, name, codes.SCT.Tissue, codes.SCT.Tissue, "MANUAL")
        for n, name in enumerate(masks, 1)
    ]
    if kind == "LABELMAP":
        pixels = sum((n * mask for n, mask in enumerate(masks.values(), 1)), np.zeros((1, 1, 1))).astype(np.uint8)
    else:
        pixels = np.stack(list(masks.values()), axis=-1).astype(np.float32 if kind == "FRACTIONAL" else np.uint8)
    return highdicom.seg.Segmentation(
        source, pixels, kind, described, highdicom.UID(), 2, highdicom.UID(), 1, "M", "X", "1", "0", **options
    )
