"""The findings of a presented explanation: nodes of the scene become numbers, and `findings` does the rest."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ..findings.clusters import Clusters
from ..findings.examination import Findings, HotSpot
from ..findings.field import Field, Point
from ..findings.reference import Layer, Reference, shares_of
from . import display as displays
from .cache import clusters_in_steps, kept, magnitudes_of, voxels_key
from .explained import altered
from .geometry import matrix_of, to_world
from .host import slicer, vtk
from .host import tr as _
from .nodes import array_of

if TYPE_CHECKING:
    from .presented import PresentedNodes


class SceneFindings(Findings):
    """Findings that know the node they are of: ``key`` differs when its voxels do."""

    key: tuple[Any, ...] = ()
    node: Any = None
    altered: tuple[str, ...] = ()  # the names of volumes whose voxels are no longer those that were explained
    pairs: Mapping[int, tuple[Any, Any]] = {}  # of each input that has a map: its node, and the volume's

    def _clusters_in_steps(self) -> Generator[None, None, Clusters]:
        """Found once for all who ask."""
        return clusters_in_steps(self.node, self.level, self.selection)

    def _look_at(self, number: int) -> tuple[str, ...]:
        """Threshold and colours are nothing to these: kept as long as map and volume are the same."""
        pair = tuple(volume_key(node) for node in self.pairs.get(number, ()) if node is not None)
        key = (number, len(self.maps), pair)
        return kept("warnings", key, lambda: super(SceneFindings, self)._look_at(number))

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        found = [
            _(
                "The voxels of '{name}' are not those that were explained (another frame of a sequence, or an edit):"
                " the map is not about what is shown. Explain it again."
            ).format(name=name)
            for name in self.altered
        ]
        return (*found, *super().warnings)

    def place_of(self, spot: HotSpot) -> Point:
        """Where a hot spot is in the world (RAS, mm), also under a non-linear transform, which has no matrix."""
        parent = self.node.GetParentTransformNode()
        bent = parent is not None and not parent.IsTransformToWorldLinear()
        return to_world(self.node, spot.place) if bent else spot.place


def findings_of(
    presented: PresentedNodes,
    display: displays.Display | None = None,
    reference: Any | None = None,
    segment: str | None = None,
) -> SceneFindings:
    """The findings of an explanation as it is shown (or with other settings); places are in the world's RAS.

    Args:
        reference: a segmentation node whose segments are named; it is not changed.
        segment: the ID of the only segment of it that counts; None or empty: all of them.

    Each finding is computed when it is first asked for, so that a panel can spread them over several moments. Of an
    input that was removed from the scene only what needs the volume itself is missing.
    """
    chosen = display or displays.read(presented)
    relevance = presented.relevance[chosen.input]
    facts = presented.facts
    count = len(facts["volumes"])
    maps: list[Field | None] = [None] * count  # of each input: none of a deleted map, or of what a model made itself
    volumes: list[Field | None] = [None] * count
    others: list[str] = []
    names = [str(entry.get("name", n + 1)) for n, entry in enumerate(facts["volumes"])]
    for n, node, source in zip(presented.inputs, presented.relevance, presented.volumes, strict=True):
        maps[n] = Field(array_of(node), matrix_of(node, world=True))
        if source is not None:
            names[n] = source.GetName()
            if altered(node, source):
                others.append(names[n])
            elif source.GetImageData() is not None:
                volumes[n] = Field(array_of(source), matrix_of(source, world=True))
    found = SceneFindings(
        maps,
        volumes,
        names,
        facts["ledger"],
        facts["model"].get("card") or {},
        chosen.selection,
        reference_on(reference, relevance, segment) if reference is not None else None,
        presented.inputs[chosen.input],
        magnitudes_of(presented.relevance),
        facts.get("target"),
    )
    found.key, found.node, found.altered = voxels_key(relevance), relevance, tuple(others)
    found.pairs = dict(zip(presented.inputs, zip(presented.relevance, presented.volumes, strict=True), strict=True))
    return found


def reference_on(segmentation: Any, volume: Any, segment: str | None = None) -> Reference:
    """The segments of a segmentation node on the grid of a volume node, both with their parent transforms."""
    key = _reference_key(segmentation, volume, segment)
    return kept("references", key, lambda: _resample(segmentation, volume, segment))


def held_by(segmentation: Any, relevance: Any, segment: str | None = None) -> frozenset[tuple[str, ...]]:
    """What each segment of a reference holds of a map, after its name: to tell it from one that was edited, also after
    both were saved and loaded."""

    def make() -> frozenset[tuple[str, ...]]:
        field = Field(array_of(relevance), matrix_of(relevance, world=True))
        *shares, _outside = shares_of(field, reference_on(segmentation, relevance, segment))
        return frozenset((each.name, *(f"{n:.5g}" for n in (each.ml, each.positive, each.negative))) for each in shares)

    return kept("held", _reference_key(segmentation, relevance, segment), make)


def _reference_key(segmentation: Any, volume: Any, segment: str | None) -> tuple[Any, ...]:
    return (
        *segmentation_key(segmentation),
        *voxels_key(volume),
        matrix_of(volume, world=True).tobytes(),
        segment or "",
    )


def volume_key(node: Any) -> tuple[Any, ...]:
    """Changes when the voxels of a volume node do, where they lie, or its name."""
    parent = node.GetParentTransformNode()
    moved = parent.GetTransformToWorldMTime() if parent else 0
    return (*voxels_key(node), node.GetName(), matrix_of(node).tobytes(), node.GetTransformNodeID(), moved)


def segmentation_key(node: Any) -> tuple[Any, ...]:
    """Changes when the segments of a segmentation node do, their names, or where they lie."""
    parent = node.GetParentTransformNode()
    inner = node.GetSegmentation()
    names = tuple(
        (each, inner.GetSegment(each).GetName(), inner.GetSegment(each).GetMTime()) for each in inner.GetSegmentIDs()
    )
    images = tuple(
        image.GetMTime()
        for each in inner.GetSegmentIDs()
        if (image := inner.GetSegmentRepresentation(each, _binary())) is not None
    )
    return (id(node.GetScene()), node.GetID(), names, images, parent.GetTransformToWorldMTime() if parent else 0)


def _binary() -> str:
    return str(slicer.vtkSegmentationConverter.GetBinaryLabelmapRepresentationName())


def _resample(node: Any, volume: Any, only: str | None) -> Reference:
    segmentation = node.GetSegmentation()
    binary = _binary()
    if not segmentation.ContainsRepresentation(binary):
        copy = slicer.vtkSegmentation()
        copy.DeepCopy(segmentation)
        copy.CreateRepresentation(binary)
        segmentation = copy
    grid = _grid(volume)
    transform = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(
        node.GetParentTransformNode(), volume.GetParentTransformNode(), transform
    )
    layers = []
    for n in range(segmentation.GetNumberOfLayers(binary)):
        ids = [each for each in segmentation.GetSegmentIDsForLayer(n, binary) if not only or each == only]
        if not ids:
            continue
        names = {segmentation.GetSegment(each).GetLabelValue(): segmentation.GetSegment(each).GetName() for each in ids}
        source = segmentation.GetLayerDataObject(n, binary)
        labels = _labels_on(source, grid, transform, volume.GetImageData().GetDimensions()[::-1])
        layers.append(Layer(labels, names))
    return Reference(tuple(layers))


def _grid(volume: Any) -> Any:
    grid = slicer.vtkOrientedImageData()
    grid.SetDimensions(volume.GetImageData().GetDimensions())
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    grid.SetImageToWorldMatrix(matrix)
    return grid


def _labels_on(source: Any, grid: Any, transform: Any, shape: tuple[int, int, int]) -> np.ndarray:
    from vtkmodules.util.numpy_support import vtk_to_numpy

    result = slicer.vtkOrientedImageData()
    resample = slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage
    if source.IsEmpty() or not resample(source, grid, result, False, False, transform):
        return np.zeros(shape, np.uint8)
    return np.asarray(vtk_to_numpy(result.GetPointData().GetScalars()).reshape(shape))
