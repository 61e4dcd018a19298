"""An Explanation becomes MRML nodes in a scene."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk

from ..errors import UserError
from ..imaging.grid import Grid
from . import nodes, overlay
from .host import Application, in_slicer, slicer
from .window import strongest_point, symmetric_limit

if TYPE_CHECKING:
    from ..explanation import Explanation

_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")


@dataclass(frozen=True)
class PresentedNodes:
    """The MRML nodes of one explanation.

    ``volumes`` and ``relevance`` have one scalar volume node for each input; ``segmentation`` is None for a
    classification. ``focus`` is the place of the strongest relevance (RAS, mm), ``limit`` the half-width of the window,
    ``target`` the name of the explained class, ``caption`` the lines that say what is shown. ``region`` outlines where
    was asked, if that was a segment, a box or points.
    """

    scene: Any
    volumes: tuple[Any, ...]
    relevance: tuple[Any, ...]
    segmentation: Any | None
    legend: Any
    focus: tuple[float, float, float]
    limit: float
    target: str
    caption: tuple[str, ...]
    region: Any | None = None
    application: Application | None = None  # outside Slicer: what keeps the scene working


def present(
    explanation: Explanation, volume_nodes: Sequence[Any] | None = None, scene: Any | None = None
) -> PresentedNodes:
    """Show ``explanation`` in a scene: relevance overlay, outlines of the prediction, colour legend.

    ``volume_nodes`` are the scalar volume nodes that were explained, where the scene already has them; without them the
    source volumes are read from the paths in ``explanation.volumes``. ``scene`` defaults to that of the nodes, then
    to Slicer's, then (outside Slicer) to a new one. Relevance and prediction follow the parent transform of the
    first volume. An explanation shown earlier in the scene keeps its nodes but leaves the overlay layer.

    Raises UserError if a source volume cannot be read, or a node does not have the grid of its relevance.
    """
    sources = []
    if volume_nodes is None:
        sources = _read_sources(explanation)
    else:
        _check_nodes(explanation, volume_nodes)
    if scene is None and volume_nodes:
        scene = volume_nodes[0].GetScene()
    application = None if in_slicer() else Application(scene)
    scene = application.scene if application else scene or slicer.mrmlScene
    if volume_nodes is None:
        names = [_plain_name(entry["name"]) for entry in explanation.volumes[: explanation.given]]
        volume_nodes = [nodes.add_volume(scene, image, name) for image, name in zip(sources, names, strict=True)]
    names = [node.GetName() for node in volume_nodes]
    target = str(explanation.target["class"])
    images = explanation.relevance[: explanation.given]
    limit = symmetric_limit([sitk.GetArrayViewFromImage(image) for image in images])
    relevance = tuple(
        nodes.add_relevance(scene, image, f"{name} relevance for {target}", limit)
        for image, name in zip(images, names, strict=True)
    )
    labels = explanation.prediction.segmentation
    segmentation = None
    if labels is not None:
        segmentation = nodes.add_segmentation(scene, labels, explanation.prediction.classes, f"{names[0]} prediction")
        segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume_nodes[0])
    region = _region(scene, explanation, names[0])
    if region is not None:
        region.SetReferenceImageGeometryParameterFromVolumeNode(volume_nodes[0])
    _follow_transform(volume_nodes, relevance, [node for node in (segmentation, region) if node is not None])
    for old in nodes.by_role(scene, "legend"):
        scene.RemoveNode(old)
    legend = nodes.add_legend(scene, limit, f"Relevance for {target}")
    overlay.show(scene, volume_nodes[0], relevance[0])
    return PresentedNodes(
        scene=scene,
        volumes=tuple(volume_nodes),
        relevance=relevance,
        segmentation=segmentation,
        legend=legend,
        focus=_focus(explanation.relevance[0], relevance[0]),
        limit=limit,
        target=target,
        caption=_caption(explanation),
        region=region,
        application=application,
    )


def _focus(image: sitk.Image, node: Any) -> tuple[float, float, float]:
    x, y, z = strongest_point(image)
    world = [0.0, 0.0, 0.0]
    node.TransformPointToWorld((-x, -y, z), world)
    return world[0], world[1], world[2]


def _read_sources(explanation: Explanation) -> list[sitk.Image]:
    # imported here because Slicer, which always has the nodes, should not load what reads for the models
    from ..imaging.reading import read_volume

    given = explanation.volumes[: explanation.given]
    for entry in given:
        if entry["path"] is None:
            raise UserError(f"The volume '{entry['name']}' was explained from memory: give its volume node to show it.")
    images = [read_volume(entry["path"]) for entry in given]
    for image, relevance, entry in zip(images, explanation.relevance, given, strict=False):
        if image.GetSize() != relevance.GetSize():
            raise UserError(f"The file '{entry['path']}' has changed since it was explained: explain it again.")
    return images


def _check_nodes(explanation: Explanation, volume_nodes: Sequence[Any]) -> None:
    """Relevance over another volume than the explained one would be a lie that nobody sees."""
    if len(volume_nodes) != explanation.given:
        raise UserError(
            f"The explanation is of {explanation.given} volumes but {len(volume_nodes)} were given: "
            "give the volumes that were explained, in their order."
        )
    for node, image in zip(volume_nodes, explanation.relevance, strict=False):
        if node.GetScene() is None:
            raise UserError("The volume that was explained is no longer in the scene: explain another one.")
        if not nodes.has_grid_of(node, image):
            raise UserError(
                f"The volume '{node.GetName()}' does not have the size and the place of the relevance: "
                "choose the volume that was explained."
            )


def _plain_name(name: str) -> str:
    """A file's name without the endings that Slicer drops as well: t1.nii.gz is shown as t1."""
    for ending in _ENDINGS:
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return name


def _region(scene: Any, explanation: Explanation, name: str) -> Any | None:
    """The voxels asked about as a white outline; None where the question had no region or its file has gone."""
    from ..imaging.recorded import region_of

    grid = Grid.of(explanation.relevance[0])
    try:
        region = region_of(explanation.target)
        if region is None:
            return None
        mask = region.mask(grid, np.ones(grid.shape, dtype=bool))
    except UserError:  # the relevance is shown all the same; the caption says where was asked
        return None
    classes: list[dict[str, Any]] = [{"name": "background"}, {"name": f"asked: {region}", "color": [255, 255, 255]}]
    node = nodes.add_segmentation(scene, grid.image(mask.astype(np.uint8)), classes, f"{name} asked about")
    node.SetAttribute(nodes.ROLE_ATTRIBUTE, "region")
    return node


def _follow_transform(volume_nodes: Sequence[Any], relevance: Sequence[Any], segmentations: Sequence[Any]) -> None:
    for volume, map_node in zip(volume_nodes, relevance, strict=True):
        map_node.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
    for segmentation in segmentations:
        segmentation.SetAndObserveTransformNodeID(volume_nodes[0].GetTransformNodeID())


def _caption(explanation: Explanation) -> tuple[str, ...]:
    name, over, place = explanation.target.get("text", explanation.target["class"]).partition(" over ")
    return (
        f"{explanation.model['name']}",
        f"Relevance for: {name}",
        *((f"{over.strip()} {place}",) if place else ()),
        f"Composite: {explanation.composite['name']}",
        f"Target value: {explanation.ledger['target_value']:.4g}",
    )
