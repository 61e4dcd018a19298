"""An explanation as DICOM: relevance as Parametric Map, hot spots as Segmentation, both referring to the source series.

The objects are the patient's, as the source series is: whose they are is in them, as the standard asks.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from .. import __version__
from ..errors import UserError
from ..explanation import Explanation
from ..findings import Findings
from ..folders import check_replaceable, whole_folder
from ..imaging import Grid
from ..imaging.reading import volume_digest
from .findings import findings_of

if TYPE_CHECKING:
    from pydicom import Dataset

OWN = ("relevance*.dcm", "hot_spots*.dcm")
_SCHEME = "99LRPEXPLAIN"  # DICOM has no codes for relevance yet
_MAKER = "LRPExplain"
_CLOSE_MM = 0.01
_LONG = 64  # characters of DICOM's long strings
_MAP_NUMBER, _SEGMENTS_NUMBER = 9100, 9200


def export_dicom(explanation: Explanation, folder: str | os.PathLike[str]) -> list[Path]:
    """Write relevance.dcm and hot_spots.dcm (relevance_2.dcm ... for further volumes), the folder whole or not at all.

    Volumes that do not come from DICOM are left out; hot_spots.dcm too where nothing is hot.

    Returns:
        The files.

    Raises:
        UserError: no volume came from a DICOM series, or a series has gone or changed; highdicom is not installed; or
            the folder holds other things.
    """
    _require()
    check_replaceable(Path(folder), OWN)
    names = [entry["name"] for entry in explanation.volumes]
    series = [_series(entry) for entry in explanation.volumes]
    if not any(series):
        raise UserError("None of the volumes came from a folder of DICOM slices, so there is no series to refer to.")
    with whole_folder(Path(folder), OWN) as partial:
        for n, (found, source) in enumerate(zip(findings_of(explanation, names), series, strict=True)):
            if not source:
                continue
            ending = f"_{n + 1}.dcm" if n else ".dcm"
            values = sitk.GetArrayFromImage(explanation.relevance[n])
            _parametric_map(source, values, explanation, n).save_as(partial / f"relevance{ending}")
            if found.hot_spots:
                _segmentation(source, found, explanation, n).save_as(partial / f"hot_spots{ending}")
    return sorted(Path(folder).glob("*.dcm"))


def _require() -> None:
    try:
        import highdicom  # asked before anything is computed
    except ImportError as error:
        raise UserError(f"DICOM objects need highdicom ({error}): pip install highdicom.") from error
    if tuple(map(int, highdicom.__version__.split(".")[:2])) < (0, 28):  # whose maps have windows of two numbers alone
        raise UserError(
            f"DICOM objects need highdicom 0.28 or newer, and this is {highdicom.__version__}: pip install --upgrade"
            " highdicom."
        )


def _series(entry: dict[str, Any]) -> "list[Dataset]":
    """The headers of the slices of a volume, in the order of its k axis; empty where it is no folder of slices."""
    import pydicom

    from ..imaging.reading import volume_files

    if entry["path"] is None:
        return []
    path = Path(entry["path"])
    if not path.exists():
        raise UserError(f"The volume '{path}' has gone: put it back, or explain it where it is now.")
    if not path.is_dir():
        return []
    if volume_digest(path, entry["sha256"]) != entry["sha256"]:
        raise UserError(f"The series '{path}' has changed since the explanation was made: explain it again.")
    slices: list[Dataset] = [pydicom.dcmread(file, stop_before_pixels=True) for file in volume_files(path)]
    return _checked(slices, Grid.from_dict(entry["geometry"]), path)


def _checked(slices: "list[Dataset]", grid: Grid, path: Path) -> "list[Dataset]":
    """The slices, if each is one of the volume's.

    Raises:
        UserError: it is not, as in a multi-frame file or a series that was resampled when it was read.
    """
    first = getattr(slices[0], "ImagePositionPatient", None)
    fitting = len(slices) == grid.size[2] and all((each.Columns, each.Rows) == grid.size[:2] for each in slices)
    if not fitting or first is None or np.abs(np.subtract(grid.origin, [float(x) for x in first])).max() > _CLOSE_MM:
        raise UserError(
            f"The files of '{path}' are not one by one the slices of the volume: only series of single slices can be"
            " referred to."
        )
    return slices


def _made(explanation: Explanation, number: int, label: str) -> dict[str, Any]:
    """What both objects say of themselves."""
    import highdicom

    return {
        "series_instance_uid": highdicom.UID(), "sop_instance_uid": highdicom.UID(), "series_number": number,
        "instance_number": 1, "manufacturer": _MAKER, "manufacturer_model_name": _long(explanation.model["name"]),
        "software_versions": __version__, "device_serial_number": explanation.model["sha256"][:_LONG],
        "content_label": label, "content_description": _long(explanation.target["text"]),
    }  # fmt: skip


def _long(text: str) -> str:
    """As one of DICOM's long strings, in which a backslash would begin a second one."""
    return " ".join(text.replace("\\", "/").split())[:_LONG]


def _parametric_map(source: "list[Dataset]", values: NDArray[np.float32], explanation: Explanation, n: int) -> Any:
    from highdicom import VOILUTTransformation
    from highdicom.pm import ParametricMap, RealWorldValueMapping
    from highdicom.sr import CodedConcept
    from pydicom.sr.codedict import codes

    most = float(np.abs(values).max()) or 1.0
    mapping = RealWorldValueMapping(
        lut_label="RELEVANCE", lut_explanation=_long(f"Relevance for {explanation.target['class']}"),
        unit=codes.UCUM.NoUnits, value_range=(float(values.min()), float(values.max())), slope=1.0, intercept=0.0,
        quantity_definition=CodedConcept("RELEVANCE", _SCHEME, "Relevance by layer-wise relevance propagation"),
    )  # fmt: skip
    # relevance is small: only an exactly linear window may be narrower than 1
    window = VOILUTTransformation(window_center=0.0, window_width=2 * most, voi_lut_function="LINEAR_EXACT")
    made = _said_plainly(
        ParametricMap, source, values.astype(np.float32),
        contains_recognizable_visual_features=True,  # relevance may lie on a face
        real_world_value_mappings=[mapping], voi_lut_transformations=[window],
        **_made(explanation, _MAP_NUMBER + n, "RELEVANCE"),
    )  # fmt: skip
    if "Laterality" not in made:
        made.Laterality = ""  # unknown; it must be there where the body part may be one of a pair
    return made


def _segmentation(source: "list[Dataset]", found: Findings, explanation: Explanation, n: int) -> Any:
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.seg import Segmentation, SegmentDescription
    from highdicom.sr import CodedConcept
    from pydicom.sr.codedict import codes

    count = len(found.hot_spots)
    labels = np.zeros(found.field.values.shape, dtype=np.uint8)
    labels[found.clusters.box] = np.where(found.clusters.labels <= count, found.clusters.labels, 0)
    algorithm = AlgorithmIdentificationSequence(
        name=_long(f"Layer-wise relevance propagation, {explanation.composite['name']}"),
        family=codes.DCM.ArtificialIntelligence, version=__version__,
    )  # fmt: skip
    segments = [
        SegmentDescription(
            segment_number=spot.rank,
            segment_label=f"{spot.rank}: {spot.percent}{'' if spot.relevance > 0 else ' against'}",
            segmented_property_category=codes.SCT.SpatialAndRelationalConcept,
            segmented_property_type=CodedConcept("HOTSPOT", _SCHEME, "Hot spot of relevance"),
            algorithm_type="AUTOMATIC",
            algorithm_identification=algorithm,
        )
        for spot in found.hot_spots
    ]
    return _said_plainly(
        Segmentation, source, labels, segmentation_type="BINARY", segment_descriptions=segments,
        **_made(explanation, _SEGMENTS_NUMBER + n, "HOT_SPOTS"),
    )  # fmt: skip


def _said_plainly(kind: Any, source: "list[Dataset]", pixels: NDArray[Any], **facts: Any) -> Any:
    """The object; what the source series lacks for it becomes one sentence."""
    try:
        made = kind(source_images=source, pixel_array=pixels, **facts)
    except AttributeError as error:
        raise UserError(f"The source series lacks what a DICOM object must tell ({error}): complete it.") from error
    made.SpecificCharacterSet = "ISO_IR 192"  # classes may be called in letters that the series' own set does not have
    return made
