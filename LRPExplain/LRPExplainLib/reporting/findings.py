"""What speaks for caution and where the relevance is, for the record of an explanation."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from ..errors import UserError
from ..explanation import Explanation
from ..findings import Field, Findings, HotSpot, Layer, Magnitudes, Reference, Selection
from ..findings.reference import OUTSIDE
from ..imaging import Grid, read_volume
from ..imaging.grid import same_grid
from ..imaging.reading import volume_digest


def findings_facts(explanation: Explanation, names: Sequence[str]) -> dict[str, Any]:
    """Warnings and hot spots, JSON-ready; see record.schema.json.

    Args:
        names: what to call the volumes. One that has gone or changed is named under "unseen": what depends on its
            voxels (air around the body, the range of intensities) was not looked at then.
    """
    found = findings_of(explanation, names)
    spots = [
        {"volume": name, **_spot(spot, explanation.prediction.classes)}
        for name, each in zip(names, found, strict=True)
        for spot in each.hot_spots
    ]
    return {
        "warnings": list(found[0].warnings),  # of all volumes
        "unseen": [name for name, volume in zip(names, found[0].volumes, strict=True) if volume is None],
        "selection": asdict(found[0].selection),
        "regions": sum(len(each.clusters) for each in found),
        "hot_spots": sorted(spots, key=lambda spot: -float(spot["share"])),
    }


def findings_of(explanation: Explanation, names: Sequence[str]) -> list[Findings]:
    """The findings in each volume; what is predicted there serves as the reference."""
    selection = Selection()
    maps = [_field(image) for image in explanation.relevance]
    volumes = [_source(entry) for entry in explanation.volumes]
    magnitudes = Magnitudes([field.values for field in maps])
    card, ledger, target = explanation.model["card"], explanation.ledger, explanation.target
    references = [_predicted(explanation, n) for n in range(len(maps))]
    return [
        Findings(maps, volumes, list(names), ledger, card, selection, reference, n, magnitudes, target)
        for n, reference in enumerate(references)
    ]


def _spot(spot: HotSpot, classes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    facts = asdict(spot)
    place, segment, overlap = facts.pop("place"), facts.pop("segment"), facts.pop("overlap")
    predicted = classes[0]["name"] if segment == OUTSIDE and classes else segment or None
    return {**facts, "place_ras": list(place), "predicted": predicted, "overlap": overlap}


def _field(image: sitk.Image) -> Field:
    return Field(sitk.GetArrayFromImage(image), Grid.of(image).ijk_to_ras)


def _source(entry: dict[str, Any]) -> Field | None:
    """The volume that was explained, if it is still there and the same."""
    if entry["path"] is None:
        return None
    path = Path(entry["path"])
    try:
        if not path.exists() or volume_digest(path, entry["sha256"]) != entry["sha256"]:
            return None
        return _field(read_volume(path))
    except (UserError, OSError):
        return None


def _predicted(explanation: Explanation, n: int) -> Reference | None:
    """The predicted classes, on the volumes that share the first one's grid."""
    labels = explanation.prediction.segmentation
    if labels is None or not same_grid(Grid.of(labels), Grid.of(explanation.relevance[n])):
        return None
    names = {k: entry["name"] for k, entry in enumerate(explanation.prediction.classes) if k > 0}
    return Reference((Layer(sitk.GetArrayFromImage(labels), names),), judges=False)
