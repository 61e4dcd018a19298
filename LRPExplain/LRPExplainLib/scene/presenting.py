"""An Explanation becomes MRML nodes in a scene."""

from __future__ import annotations

import json
import zlib
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk

from ..errors import UserError
from ..imaging.grid import Grid
from . import display, following, hierarchy, nodes, overlay, parts, record
from .cache import magnitudes_of
from .colors import TABLE_NAME
from .geometry import to_world
from .host import Application, in_slicer, slicer
from .host import tr as _
from .window import limit_of, strongest_point

if TYPE_CHECKING:
    from ..explanation import Explanation

_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")


@dataclass(frozen=True)
class PresentedNodes:
    """The MRML nodes of one explanation.

    ``volumes`` and ``relevance`` have one scalar volume node for each input (None for a volume that was removed since);
    ``segmentation`` is None for a classification. ``focus`` is the place of the strongest relevance (RAS, mm),
    ``limit`` the half-width of the window, ``target`` the name of the explained class, ``caption`` the lines that say
    what is shown. ``region`` outlines where was asked, if that was a segment, a box or points. ``facts`` are the
    explanation's, without its images.
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
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def hot_spots(self) -> Any | None:
        """The segmentation of the hot spots, once it was wanted."""
        return record.linked_one(self.relevance[0], "hotSpots")

    @property
    def tables(self) -> dict[str, Any]:
        """The tables of the findings by name; see `tables`."""
        return {node.GetAttribute(record.PREFIX + "Table"): node for node in self._linked("table")}

    @property
    def charts(self) -> dict[str, Any]:
        """The plot charts of the relevance per slice by the slices' orientation; see `tables`."""
        return {node.GetAttribute(record.PREFIX + "Chart"): node for node in self._linked("chart")}

    def _linked(self, role: str) -> list[Any]:
        return [node for node in record.linked(self.relevance[0], role) if node is not None]


def present(
    explanation: Explanation,
    volume_nodes: Sequence[Any] | None = None,
    scene: Any | None = None,
    update: Any | None = None,
) -> PresentedNodes:
    """Show ``explanation`` in a scene: relevance overlay, outlines of the prediction, colour legend, in a folder.

    ``volume_nodes`` are the scalar volume nodes that were explained, where the scene already has them; without them the
    source volumes are read from the paths in ``explanation.volumes``. ``scene`` defaults to that of the nodes, then
    to Slicer's, then (outside Slicer) to a new one. Relevance and prediction follow the parent transform of the
    first volume. An explanation shown earlier in the scene keeps its nodes but leaves the views.

    ``update``, a relevance node (or the PresentedNodes) of an earlier explanation of as many inputs, is given the new
    voxels: its nodes, their names if the user has changed them, and its display settings stay. Where it has gone
    meanwhile, or has another number of inputs, new nodes are made.

    Raises UserError if a source volume cannot be read, or a node does not have the grid of its relevance.
    """
    steps = present_in_steps(explanation, volume_nodes, scene, update)
    while True:
        try:
            next(steps)
        except StopIteration as finished:
            shown: PresentedNodes = finished.value
            return shown


def present_in_steps(
    explanation: Explanation,
    volume_nodes: Sequence[Any] | None = None,
    scene: Any | None = None,
    update: Any | None = None,
    whole: PresentedNodes | None = None,
) -> Generator[None, None, PresentedNodes]:
    """`present` in steps of a few hundredths of a second each, between which an application can serve its user.

    ``whole``: what is presented is a part of that, with its settings, and is in no view until it is chosen.
    The generator returns the nodes. Whoever gives up between two steps closes it; what was made is removed then, and
    when something fails.
    """
    images = []
    if volume_nodes is None:
        images = _read_sources(explanation)
    else:
        _check_nodes(explanation, volume_nodes)
    if scene is None and volume_nodes:
        scene = volume_nodes[0].GetScene()
    application = None if in_slicer() else Application(scene)
    scene = application.scene if application else scene or slicer.mrmlScene
    if volume_nodes is None:
        names = [_plain_name(entry["name"]) for entry in explanation.volumes[: explanation.given]]
        volume_nodes = [nodes.add_volume(scene, image, name) for image, name in zip(images, names, strict=True)]
    earlier = _earlier(update, scene, explanation.given)
    first = _maps(scene, explanation, volume_nodes, earlier)
    try:
        if whole is not None:
            parts.join(first, whole.relevance[0])
        yield
        magnitudes = magnitudes_of(record.linked(first, "relevance"))
        magnitudes.total()
        yield
        first.SetAttribute(record.LIMIT, repr(limit_of(magnitudes)))
        x, y, z = strongest_point(explanation.relevance[0])
        first.SetAttribute(record.FOCUS, json.dumps([-x, -y, z]))
        yield
        _companions(
            scene,
            explanation,
            volume_nodes[0],
            first,
            _("Relevance for {target}").format(target=explanation.target["class"]),
        )
        if whole is not None:
            overlay.keep_out(first)
        following.follow(first)
        yield
        shown = presented_of(first, application)
        display.apply(shown, display.read(shown))
        yield
        if whole is None and (earlier is None or first.GetAttribute(record.SHOWN) == "1"):
            overlay.show(shown)
        following.watch(scene)
    except BaseException:  # also GeneratorExit, when it is given up between two steps
        if earlier is None and first.GetScene() is scene:
            _remove(scene, first)
        raise
    return shown


def presented_of(relevance: Any, application: Application | None = None) -> PresentedNodes:
    """All of an explanation again, from any of its relevance nodes; also in a scene that was saved and loaded.

    Raises UserError if the node is no relevance map of this package, or not whole any more.
    """
    first = record.record_of(relevance)
    facts = record.read_facts(first)
    maps = record.linked(first, "relevance")
    if not facts or not maps:
        raise UserError(f"'{relevance.GetName()}' is no relevance map that LRPExplain made: choose one that is.")
    if len(maps) != len(facts["volumes"]):
        raise UserError(
            _("A map of the explanation '{name}' was deleted: explain the volumes again.").format(name=first.GetName())
        )
    return PresentedNodes(
        scene=first.GetScene(),
        volumes=tuple(record.sources(first)),
        relevance=tuple(maps),
        segmentation=record.linked_one(first, "prediction"),
        legend=record.linked_one(first, "legend"),
        focus=_world_focus(first),
        limit=float(first.GetAttribute(record.LIMIT) or 1),
        target=str(facts["target"]["class"]),
        caption=_caption(facts),
        region=record.linked_one(first, "region"),
        application=application,
        facts=facts,
    )


def presented_in(scene: Any) -> list[PresentedNodes]:
    """Every whole explanation in a scene, in the order in which they were added."""
    found = []
    for first in record.records(scene):
        try:
            found.append(presented_of(first))
        except UserError:
            continue
    return found


def remove(presented: PresentedNodes) -> None:
    """Take an explanation out of its scene, with all that was made for it; its input volumes stay."""
    overlay.hide(presented)
    _remove(presented.scene, presented.relevance[0])


def _remove(scene: Any, first: Any) -> None:
    for part in parts.parts_of(first):
        _remove(scene, part)
    folder = hierarchy.folder_of(first)
    ours = record.every_node(first)
    hierarchy.remove_items(scene, ours)
    for node in reversed(ours):
        nodes.remove_node(scene, node)
    hierarchy.remove_empty(scene, folder)


def _earlier(update: Any | None, scene: Any, inputs: int) -> Any | None:
    """The first relevance node of the explanation that is to be updated; None where that is not possible."""
    node = update.relevance[0] if isinstance(update, PresentedNodes) else update
    if node is None or node.GetScene() is not scene:
        return None
    first = record.record_of(node)
    maps = record.linked(first, "relevance")
    return first if len(maps) == inputs else None


def _maps(scene: Any, explanation: Explanation, volume_nodes: Sequence[Any], earlier: Any | None) -> Any:
    """The relevance nodes with their facts: new ones, or those of an earlier explanation with the new content."""
    what = _what(explanation.target, explanation.composite)
    titles = [f"{node.GetName()} relevance for {what}" for node in volume_nodes]
    images = explanation.relevance[: explanation.given]  # what a model made for itself has no node
    if earlier is None:
        colors = nodes.add_colors(scene, TABLE_NAME)
        maps = [nodes.add_relevance(scene, image, title, colors) for image, title in zip(images, titles, strict=True)]
        first = maps[0]
        record.link(first, "colors", [colors])
    else:
        first, maps = earlier, record.linked(earlier, "relevance")
        for node, image in zip(maps, images, strict=True):
            nodes.set_voxels(node, image)
    record.link(first, "relevance", maps)
    for node, volume, title in zip(maps, volume_nodes, titles, strict=True):
        record.link(node, "source", [volume])
        _rename(scene, node, title, first)
    record.write_facts(first, _facts(explanation))
    hierarchy.put_in_folder(first, maps)
    return first


def _what(target: dict[str, Any], composite: dict[str, Any]) -> str:
    """The class, of a part of its map the channel, and the method where it is another one than LRP."""
    concept, what = target.get("concept") or {}, str(target["class"])
    if "channel" in concept:
        what += f", channel {concept['channel']} of {concept['layer']}"
    return f"{what} by {composite['name']}" if "method" in composite else what


def _rename(scene: Any, node: Any, wanted: str, first: Any) -> None:
    """Name the node by what it shows, unless the user has named it."""
    ours = node.GetAttribute(record.NAME)
    if ours is None or node.GetName() == ours:
        old = node.GetName()
        if not old.startswith(wanted):
            node.SetName(scene.GenerateUniqueName(wanted))
            if node is first:
                hierarchy.rename_folder(first, old, node.GetName())
        node.SetAttribute(record.NAME, node.GetName())


def _companions(scene: Any, explanation: Explanation, volume: Any, first: Any, title: str) -> None:
    """Prediction, region and legend."""
    segmentation = _segments(
        scene, first, "prediction", _prediction(explanation), f"{volume.GetName()} prediction", volume
    )
    region = _segments(scene, first, "region", _region(explanation), f"{volume.GetName()} asked about", volume)
    legend = record.linked_one(first, "legend")
    if legend is None:
        legend = nodes.add_legend(scene, title, record.linked_one(first, "colors"))
        record.link(first, "legend", [legend])
    legend.GetNthDisplayNode(1).SetTitleText(title)
    hierarchy.put_in_folder(first, [node for node in (segmentation, region) if node is not None])


_Labels = tuple[sitk.Image, list[dict[str, Any]]]


def _segments(scene: Any, first: Any, role: str, content: _Labels | None, name: str, volume: Any) -> Any | None:
    """The segmentation node of a role with this content; removed where there is none."""
    node = record.linked_one(first, role)
    if content is None:
        if node is not None:
            scene.RemoveNode(node)
        return None
    labels, classes = content
    stamp = f"{zlib.crc32(sitk.GetArrayViewFromImage(labels).tobytes())} {json.dumps(classes)}"
    if node is None:
        node = nodes.add_segmentation(scene, labels, classes, name)
        record.link(first, role, [record.mark(node, role)])
    elif node.GetAttribute(record.PREFIX + "Content") != stamp:
        nodes.set_segments(node, labels, classes)
    node.SetAttribute(record.PREFIX + "Content", stamp)
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    return node


def _prediction(explanation: Explanation) -> _Labels | None:
    labels = explanation.prediction.segmentation
    return None if labels is None else (labels, explanation.prediction.classes)


def _facts(explanation: Explanation) -> dict[str, Any]:
    """What explanation.json holds but for the layers of the ledger, which nobody reads in a scene."""
    ledger = {key: value for key, value in explanation.ledger.items() if key != "by_layer"}
    return {
        "target": explanation.target,
        "composite": explanation.composite,
        "ledger": ledger,
        "model": explanation.model,
        "volumes": explanation.volumes,
        "provenance": explanation.provenance,
        "probabilities": explanation.prediction.probabilities,
    }


def _world_focus(first: Any) -> tuple[float, float, float]:
    local = json.loads(first.GetAttribute(record.FOCUS) or "[0, 0, 0]")
    return to_world(first, local)


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
            _(
                "The number of volumes that were given ({given}) is not that of the explained ones ({wanted}): give the"
                " volumes that were explained, in their order."
            ).format(wanted=explanation.given, given=len(volume_nodes))
        )
    for node, image in zip(volume_nodes, explanation.relevance, strict=False):
        if node.GetScene() is None:
            raise UserError(_("The volume that was explained is no longer in the scene: explain another one."))
        if not nodes.has_grid_of(node, image):
            raise UserError(
                _(
                    "The volume '{name}' does not have the size and the place of the relevance: choose the volume that"
                    " was explained."
                ).format(name=node.GetName())
            )


def _plain_name(name: str) -> str:
    """A file's name without the endings that Slicer drops as well: t1.nii.gz is shown as t1."""
    for ending in _ENDINGS:
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return name


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


def _caption(facts: dict[str, Any]) -> tuple[str, ...]:
    target = facts["target"]
    name, over, place = target.get("text", target["class"]).partition(" over ")
    return (
        f"{facts['model']['name']}",
        f"Relevance for: {name}",
        *((f"{over.strip()} {place}",) if place else ()),
        f"Composite: {facts['composite']['name']}",
        f"Target value: {facts['ledger']['target_value']:.4g}",
    )
