"""DICOM objects that SimpleITK does not write; needs pydicom, and highdicom for segmentations."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"


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
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    def item(**elements: Any) -> Any:
        made = Dataset()
        for name, value in elements.items():
            setattr(made, name, value)
        return made

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
    made = item(
        SOPClassUID=ENHANCED_CT, SOPInstanceUID=generate_uid(), StudyInstanceUID=generate_uid(),
        SeriesInstanceUID=generate_uid(), Modality="CT", NumberOfFrames=len(frames), Rows=values.shape[1],
        Columns=values.shape[2], SamplesPerPixel=1, PhotometricInterpretation="MONOCHROME2", BitsAllocated=16,
        BitsStored=16, HighBit=15, PixelRepresentation=1, PixelData=values[frames].astype("<i2").tobytes(),
        SharedFunctionalGroupsSequence=[item(PixelMeasuresSequence=[measures])],
        PerFrameFunctionalGroupsSequence=groups,
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
