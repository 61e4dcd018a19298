"""An Explanation becomes MRML nodes in a scene."""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import SimpleITK as sitk

from ..errors import UserError
from . import answers, display, explained, following, hierarchy, nodes, overlay, parts, record, tables
from .cache import magnitudes_of
from .colors import COLOR_TABLES
from .companions import add_legend, add_outlines, naming
from .host import Application, in_slicer, slicer
from .host import tr as _
from .presented import PresentedNodes, presented_of, strongest_input
from .window import limit_of, strongest_point

if TYPE_CHECKING:
    from ..explanation import Explanation

_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")


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
    first = yield from _maps(scene, explanation, volume_nodes, earlier)
    steps = _completing(scene, application, explanation, volume_nodes, first, earlier is not None, whole)
    try:
        for _step in steps:  # not "yield from", which would end them with this
            yield
    except BaseException:  # also GeneratorExit, when it is given up between two steps
        if earlier is None and first.GetScene() is scene:
            _remove(scene, first)
        elif first.GetScene() is scene and not scene.IsClosing():
            for _step in steps:  # the earlier map has its new voxels already: what belongs to them must follow
                pass
        raise
    return presented_of(first, application)


def _completing(
    scene: Any,
    application: Application | None,
    explanation: Explanation,
    volume_nodes: Sequence[Any],
    first: Any,
    updated: bool,
    whole: PresentedNodes | None,
) -> Iterator[None]:
    """What follows from the maps' voxels, in steps."""
    if whole is not None:
        parts.join(first, whole.relevance[0])
    yield
    for node, volume in zip(record.linked(first, "relevance"), volume_nodes, strict=True):
        explained.remember(node, volume)
    yield
    magnitudes = magnitudes_of(record.linked(first, "relevance"))
    for _counted in magnitudes.count():
        yield
    first.SetAttribute(record.LIMIT, repr(limit_of(magnitudes)))
    strongest = strongest_input(explanation.ledger, range(explanation.given))
    if not updated and whole is None:  # of several maps it is the one to look at first
        record.link(first, "chosen", [record.linked(first, "relevance")[strongest]])
    x, y, z = strongest_point(explanation.relevance[strongest])
    for n, node in enumerate(record.linked(first, "relevance")):  # on the map that it is of, which may lie elsewhere
        node.SetAttribute(record.FOCUS, json.dumps([-x, -y, z]) if n == strongest else None)
    yield
    add_outlines(scene, explanation, volume_nodes[0], first)
    yield
    add_legend(scene, explanation, first)
    if whole is not None:
        overlay.keep_out(first)
    following.follow(first)
    yield
    shown = presented_of(first, application)
    display.apply(shown, display.read(shown))
    yield
    if whole is None and (not updated or first.GetAttribute(record.SHOWN) == "1"):
        overlay.show(shown)
    following.watch(scene)


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
    nodes.remove_nodes(scene, reversed(ours))
    hierarchy.remove_empty(scene, folder)


def _earlier(update: Any | None, scene: Any, inputs: int) -> Any | None:
    """The first relevance node of the explanation that is to be updated; None where that is not possible."""
    node = update.relevance[0] if isinstance(update, PresentedNodes) else update
    if node is None or node.GetScene() is not scene:
        return None
    first = record.record_of(node)
    maps = record.linked(first, "relevance")
    return first if len(maps) == inputs else None


def _maps(
    scene: Any, explanation: Explanation, volume_nodes: Sequence[Any], earlier: Any | None
) -> Generator[None, None, Any]:
    """The relevance nodes with their facts: new ones, or those of an earlier explanation with the new content.

    New ones are added in steps; whoever gives up in between is left with none. Those of an earlier one change at once.
    """
    what = _what(explanation.target, explanation.composite)
    titles = [f"{node.GetName()} relevance for {what}" for node in volume_nodes]
    images = explanation.relevance[: explanation.given]  # what a model made for itself has no node
    if earlier is None:
        colors = nodes.add_colors(scene, COLOR_TABLES["colors"])
        maps: list[Any] = []
        try:
            for image, title in zip(images, titles, strict=True):
                if maps:
                    yield
                maps.append(nodes.add_relevance(scene, image, title, colors))
        except BaseException:  # also GeneratorExit
            nodes.remove_nodes(scene, [*maps, colors])
            raise
        first = maps[0]
        record.link(first, "colors", [colors])
    else:
        first, maps = earlier, record.linked(earlier, "relevance")
        for node, image in zip(maps, images, strict=True):
            nodes.set_voxels(node, image)
        tables.forget_checks(first)
        first.RemoveAttribute(record.PREDICTION)
        answers.keep(first, None)  # which is of the voxels before
    record.link(first, "relevance", maps)
    for n, (node, volume, title) in enumerate(zip(maps, volume_nodes, titles, strict=True)):
        node.SetAttribute(record.INPUT, str(n))
        record.link(node, "source", [volume])
        _rename(scene, node, title, first)
    record.write_facts(first, _facts(explanation))
    if earlier is None:
        hierarchy.put_in_folder(first, maps)
    return first


def _what(target: dict[str, Any], composite: dict[str, Any]) -> str:
    what, channel, method = naming(target, composite)
    return what + (f", {channel}" if channel else "") + (f" by {method}" if method else "")


def _rename(scene: Any, node: Any, wanted: str, first: Any) -> None:
    """Name the node by what it shows, unless the user has named it."""
    ours = node.GetAttribute(record.NAME)
    if ours is None or node.GetName() == ours:
        old = node.GetName()
        if not re.fullmatch(re.escape(wanted) + r"(_\d+)?", old):  # by itself, or with the number that made it unique
            node.SetName(scene.GenerateUniqueName(wanted))
            if node is first:
                hierarchy.rename_folder(first, old, node.GetName())
                tables.rename(first, old, node.GetName())
        node.SetAttribute(record.NAME, node.GetName())


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
