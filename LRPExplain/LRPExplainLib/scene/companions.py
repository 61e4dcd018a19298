"""What is shown with a map: the prediction, where was asked, and the colour legend."""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk

from ..errors import UserError
from ..imaging.grid import Grid
from . import hierarchy, nodes, record
from .colors import COLOR_TABLES

if TYPE_CHECKING:
    from ..explanation import Explanation

_Labels = tuple[sitk.Image, list[dict[str, Any]]]  # label values on a grid, and the classes that they are


def add_outlines(scene: Any, explanation: Explanation, volume: Any, first: Any) -> None:
    """Make them, or bring them to what another explanation says; ``volume`` is the first one, ``first`` its map."""
    _segments(scene, first, "prediction", _prediction(explanation), f"{volume.GetName()} prediction", volume)
    _segments(scene, first, "region", _region(explanation), f"{volume.GetName()} asked about", volume)


def add_legend(scene: Any, explanation: Explanation, first: Any) -> None:
    """The same for the legend of the map."""
    title = nodes.legend_title(*naming(explanation.target, explanation.composite))
    legend = record.linked_one(first, "legend")
    if legend is None:
        # its colours first: they are then also saved, and loaded, before what is shown in them
        legend = nodes.add_legend(scene, title, color_table(scene, first, "legendColors"))
        record.link(first, "legend", [legend])
    shown = nodes.legend_of(legend)
    if shown is not None:
        shown.SetTitleText(title)


def naming(target: dict[str, Any], composite: dict[str, Any]) -> tuple[str, str, str]:
    """The class, of a part of its map the channel, and the method where it is another one than LRP; else empty."""
    concept = target.get("concept") or {}
    channel = f"channel {concept['channel']} of {concept['layer']}" if "channel" in concept else ""
    return str(target["class"]), channel, str(composite["name"]) if "method" in composite else ""


def color_table(scene: Any, first: Any, role: str) -> Any:
    """The explanation's table of a role, "colors" or "legendColors"; made again where it was deleted."""
    node = record.linked_one(first, role)
    if node is None:
        node = nodes.add_colors(scene, COLOR_TABLES[role], hidden=role != "colors")
        record.link(first, role, [node])
    return node


def _segments(scene: Any, first: Any, role: str, content: _Labels | None, name: str, volume: Any) -> None:
    """Give the segmentation node of a role this content; it is removed where there is none."""
    node = record.linked_one(first, role)
    if content is None:
        if node is not None:
            scene.RemoveNode(node)
        return
    labels, classes = content
    stamp = f"{zlib.crc32(sitk.GetArrayViewFromImage(labels).tobytes())} {json.dumps(classes)}"
    if node is None:
        node = nodes.add_segmentation(scene, labels, classes, name)
        record.link(first, role, [record.mark(node, role)])
        hierarchy.put_in_folder(first, [node])
    elif node.GetAttribute(record.PREFIX + "Content") != stamp:
        nodes.set_segments(node, labels, classes)
    node.SetAttribute(record.PREFIX + "Content", stamp)
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)


def _prediction(explanation: Explanation) -> _Labels | None:
    labels = explanation.prediction.segmentation
    return None if labels is None else (labels, explanation.prediction.classes)


def _region(explanation: Explanation) -> _Labels | None:
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
    return grid.image(mask.astype(np.uint8)), [{"name": "background"}, {"name": f"asked: {region}", "color": [255] * 3}]
