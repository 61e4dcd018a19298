"""Images and tables as MRML nodes: each function makes one kind of node, complete with display and geometry."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from ..imaging.grid import Grid
from .host import slicer, vtk
from .host import tr as _

# Attribute by which nodes of this package are found again in a scene, also after saving and loading
ROLE_ATTRIBUTE = "LRPExplain.Role"
_CHARACTERS = "LRPExplain.Characters"  # of a legend: of its longest number
# Shares of the view; the text is as large as the width allows for its longest number. Upper right: the anatomy is
# rarely there, and neither are Slicer's own annotations.
LEGEND_SIZE = (0.085, 0.36)
LEGEND_POSITION = (0.98, 0.84)
_LEGEND_CHARACTERS = 5  # for which the width is meant
_LEGEND_SHADE = 0.6  # of the dark that is laid behind the text: anatomy may be as bright as the text
_LONGEST_TARGET = 24  # characters
# Tab10, for classes whose card names no colour
_CLASS_COLORS = ((214, 39, 40), (44, 160, 44), (255, 127, 14), (148, 103, 189), (140, 86, 75), (227, 119, 194))


def has_grid_of(node: Any, image: sitk.Image, tolerance: float = 0.1) -> bool:
    """Whether the volume node's voxels lie where the image's do, to ``tolerance`` mm, before any parent transform."""
    data = node.GetImageData()
    if data is None or data.GetDimensions() != image.GetSize():
        return False
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    corners = np.array([[i, j, k, 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) * [*image.GetSize(), 1]
    found = [matrix.MultiplyPoint(corner) for corner in corners.tolist()]
    return bool(np.abs(corners @ Grid.of(image).ijk_to_ras.T - found).max() <= tolerance)


def has_grid_like(node: Any, other: Any) -> bool:
    """Whether two volume nodes have the same size and geometry, parent transforms aside."""
    one, two = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(one)
    other.GetIJKToRASMatrix(two)
    same = all(abs(one.GetElement(r, c) - two.GetElement(r, c)) < 1e-3 for r in range(4) for c in range(4))
    return bool(same and node.GetImageData().GetDimensions() == other.GetImageData().GetDimensions())


def _vtk_matrix(matrix: NDArray[np.float64]) -> Any:
    result = vtk.vtkMatrix4x4()
    result.DeepCopy(matrix.ravel())
    return result


def _vtk_image(image: sitk.Image, kind: Any = None) -> Any:
    """A copy of the voxels with unit spacing and zero origin: in MRML the geometry is the node's, not the data's."""
    from vtkmodules.util.numpy_support import get_vtk_array_type, numpy_to_vtk

    voxels = np.ascontiguousarray(sitk.GetArrayViewFromImage(image))
    data = kind or vtk.vtkImageData()
    data.SetDimensions(*image.GetSize())
    data.GetPointData().SetScalars(numpy_to_vtk(voxels.ravel(), deep=True, array_type=get_vtk_array_type(voxels.dtype)))
    return data


def of_class(scene: Any, class_name: str) -> list[Any]:
    """The nodes of a class in ``scene``, in the order in which they were added."""
    nodes = scene.GetNodesByClass(class_name)
    nodes.UnRegister(None)  # which is the caller's to do: VTK's wrapping of it does not
    return [nodes.GetItemAsObject(n) for n in range(nodes.GetNumberOfItems())]


def by_role(scene: Any, role: str, class_name: str = "vtkMRMLNode") -> list[Any]:
    """The nodes of this package in ``scene`` that play ``role``, in the order in which they were added."""
    return [node for node in of_class(scene, class_name) if node.GetAttribute(ROLE_ATTRIBUTE) == role]


def add_volume(scene: Any, image: sitk.Image, name: str) -> Any:
    """A scalar volume node with the image's voxels and geometry and Slicer's automatic grey window."""
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", scene.GenerateUniqueName(name))
    node.SetIJKToRASMatrix(_vtk_matrix(Grid.of(image).ijk_to_ras))
    node.SetAndObserveImageData(_vtk_image(image))
    display = scene.AddNewNodeByClass("vtkMRMLScalarVolumeDisplayNode")
    display.SetAndObserveColorNodeID("vtkMRMLColorTableNodeGrey")
    node.SetAndObserveDisplayNodeID(display.GetID())
    return node


def add_colors(scene: Any, name: str, hidden: bool = False) -> Any:
    """A colour table of one transparent entry (views complain about none), saved with the scene."""
    node = slicer.vtkMRMLColorTableNode()
    node.SetName(name)
    node.SetTypeToUser()
    node.SetAttribute("Category", "LRPExplain")
    node.SetAttribute(ROLE_ATTRIBUTE, "colors")
    node.SetHideFromEditors(hidden)
    node.SetSaveWithScene(True)
    node.SetNumberOfColors(1)
    node.SetColor(0, "0", 0.0, 0.0, 0.0, 0.0)
    return scene.AddNode(node)


def set_colors(node: Any, table: NDArray[np.float64]) -> None:
    """Give a colour table the rows (RGBA in 0..1, [n, 4]); views are told once, and nothing where it has them."""
    if _has_colors(node, table):
        return
    modifying = node.StartModify()
    if node.GetNumberOfColors() != len(table):
        node.SetNumberOfColors(len(table))
    for index, (red, green, blue, alpha) in enumerate(table.tolist()):
        node.SetColor(index, f"{index}", red, green, blue, alpha)
    node.EndModify(modifying)


def _has_colors(node: Any, table: NDArray[np.float64]) -> bool:
    """As nearly as a colour table holds them, in steps of 1/255."""
    from vtkmodules.util.numpy_support import vtk_to_numpy

    held = vtk_to_numpy(node.GetLookupTable().GetTable())
    return held.shape == table.shape and bool(np.abs(held - 255 * table).max() <= 0.51)


def add_relevance(scene: Any, image: sitk.Image, name: str, colors: Any) -> Any:
    """A relevance map as scalar volume, shown in a colour table over a window that is set, not automatic."""
    node = add_volume(scene, image, name)
    node.SetAttribute(ROLE_ATTRIBUTE, "relevance")
    display = node.GetDisplayNode()
    display.SetAutoWindowLevel(False)
    display.SetAndObserveColorNodeID(colors.GetID())
    return node


def set_voxels(node: Any, image: sitk.Image) -> None:
    """Replace the voxels and the geometry of a volume node; its display stays."""
    modifying = node.StartModify()
    node.SetIJKToRASMatrix(_vtk_matrix(Grid.of(image).ijk_to_ras))
    node.SetAndObserveImageData(_vtk_image(image))
    node.EndModify(modifying)


def add_legend(scene: Any, title: str, colors: Any) -> Any:
    """A colour legend for the relevance overlay, shown in every view.

    Slicer draws a volume's own legend only where that volume is background, foreground or label (seen in 5.13), which
    an overlay in an additional layer never is. The legend therefore hangs on an empty model with the overlay's colours
    and window: a model's legend follows the visibility of the model alone.
    """
    carrier = scene.AddNewNodeByClass("vtkMRMLModelNode", "LRP relevance legend")
    carrier.SetAndObservePolyData(vtk.vtkPolyData())
    carrier.SetHideFromEditors(True)
    carrier.SetAttribute(ROLE_ATTRIBUTE, "legend")
    carrier.CreateDefaultDisplayNodes()
    display = carrier.GetDisplayNode()
    display.SetScalarRangeFlag(slicer.vtkMRMLDisplayNode.UseManualScalarRange)
    display.SetScalarRange(-1, 1)  # of no voxels it is 0 to -1, of which the legend would complain
    display.SetScalarVisibility(True)
    display.SetVisibility2D(True)
    display.SetAndObserveColorNodeID(colors.GetID())  # views draw a legend as soon as it is there
    legend = slicer.vtkSlicerColorLogic.AddDefaultColorLegendDisplayNode(display)
    modifying = legend.StartModify()  # the format that fits names is none for numbers, and views would complain
    legend.SetTitleText(title)
    legend.SetUseColorNamesForLabels(False)  # as Slicer sets it for a table that people made
    legend.SetMaxNumberOfColors(256)  # Slicer takes the number of the table's entries, which is set later
    legend.SetLabelFormat("%.3g")
    legend.SetNumberOfLabels(5)
    legend.SetSize(*LEGEND_SIZE)
    legend.SetPosition(*LEGEND_POSITION)
    for text in (legend.GetTitleTextProperty(), legend.GetLabelTextProperty()):
        text.SetBackgroundColor(0, 0, 0)
        text.SetBackgroundOpacity(_LEGEND_SHADE)
    legend.EndModify(modifying)
    return carrier


def legend_of(carrier: Any) -> Any:
    """The display node of a legend that `add_legend` made; None where it was deleted."""
    found = [carrier.GetNthDisplayNode(n) for n in range(carrier.GetNumberOfDisplayNodes())]
    return next((node for node in found if node is not None and node.IsA("vtkMRMLColorLegendDisplayNode")), None)


def legend_title(target: str, channel: str = "", method: str = "") -> str:
    """A short line for each: a long one would lie over the anatomy. Maps that stand side by side must differ in it."""
    title = _("Relevance for {target}").format(target=f"\n{_shortened(target)}")
    if channel:
        title += f"\n{_shortened(channel)}"
    if method:
        title += "\n" + _("by {method}").format(method=_shortened(method))
    return title.replace(" \n", "\n")


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_TARGET else text[: _LONGEST_TARGET - 1].rstrip() + "\N{HORIZONTAL ELLIPSIS}"


def label_legend(legend: Any, low: float, high: float, count: int) -> None:
    """So many numbers, and the width that they need; a size that the user has chosen stays while they are as long."""
    longest = max(len(f"{number:.3g}") for number in np.linspace(low, high, count).tolist())
    legend.SetNumberOfLabels(count)
    if legend.GetAttribute(_CHARACTERS) != str(longest):
        legend.SetAttribute(_CHARACTERS, str(longest))
        width, height = LEGEND_SIZE
        legend.SetSize(width * max(1.0, longest / _LEGEND_CHARACTERS), height)


def announce_legend(scene: Any, carrier: Any) -> None:
    """Let views that came later draw the legend: they draw only what they saw being added (seen in 5.13)."""
    legend = legend_of(carrier)
    if legend is not None:
        scene.RemoveNode(legend)
        scene.AddNode(legend)
        carrier.AddAndObserveDisplayNodeID(legend.GetID())
        legend.Modified()


def add_segmentation(scene: Any, labels: sitk.Image, classes: Sequence[dict[str, Any]], name: str) -> Any:
    """The label map as a segmentation node with outlines and no fill, one segment for each class but the background.

    Each voxel of ``labels`` (uint8) is an index of ``classes``, dicts with "name" and optionally "color" (0..255);
    index 0 is the background.
    """
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", scene.GenerateUniqueName(name))
    node.SetAttribute(ROLE_ATTRIBUTE, "prediction")
    node.CreateDefaultDisplayNodes()
    set_segments(node, labels, classes)
    display = node.GetDisplayNode()
    display.SetVisibility2DFill(False)
    display.SetVisibility2DOutline(True)
    display.SetSliceIntersectionThickness(2)
    return node


def set_segments(node: Any, labels: sitk.Image, classes: Sequence[dict[str, Any]]) -> None:
    """Replace the segments of a segmentation node; see `add_segmentation`."""
    image = _vtk_image(labels, slicer.vtkOrientedImageData())
    image.SetImageToWorldMatrix(_vtk_matrix(Grid.of(labels).ijk_to_ras))
    replace_segments(node, image, classes)


def replace_segments(node: Any, image: Any, classes: Sequence[dict[str, Any]]) -> None:
    """The same for a vtkOrientedImageData of labels."""
    segmentation = node.GetSegmentation()
    modifying = node.StartModify()
    segmentation.RemoveAllSegments()
    representation = slicer.vtkSegmentationConverter.GetBinaryLabelmapRepresentationName()
    for index, entry in list(enumerate(classes))[1:]:
        segment = slicer.vtkSegment()
        segment.SetName(str(entry["name"]))
        segment.SetLabelValue(index)
        color = entry.get("color") or _CLASS_COLORS[(index - 1) % len(_CLASS_COLORS)]
        segment.SetColor(*(float(channel) / 255 for channel in color))
        segment.AddRepresentation(representation, image)  # one image shared by all segments, as Slicer itself keeps it
        segmentation.AddSegment(segment, f"class_{index}")
    node.EndModify(modifying)


def serving(node: Any) -> list[Any]:
    """What serves a node alone: display nodes, their volume properties, storage node."""
    found = []
    if node.IsA("vtkMRMLDisplayableNode"):
        found = [node.GetNthDisplayNode(n) for n in range(node.GetNumberOfDisplayNodes())]
    for each in (node, *found):
        if each is not None and each.IsA("vtkMRMLVolumeRenderingDisplayNode"):
            found += [each.GetVolumePropertyNode(), each.GetROINode()]
    if node.IsA("vtkMRMLStorableNode"):
        found.append(node.GetStorageNode())
    return [each for each in found if each is not None]


def remove_nodes(scene: Any, nodes: Iterable[Any]) -> None:
    """Remove nodes and what serves them alone; colour tables last: views complain of what has lost its colours."""
    for node in sorted(nodes, key=lambda each: bool(each.IsA("vtkMRMLColorNode"))):
        for each in (node, *serving(node)):
            if each.GetScene() is scene:
                scene.RemoveNode(each)


def array_of(node: Any) -> NDArray[Any]:
    """The voxels of a scalar volume node, [k, j, i]; a view, not a copy."""
    from vtkmodules.util.numpy_support import vtk_to_numpy

    data = node.GetImageData()
    return np.asarray(vtk_to_numpy(data.GetPointData().GetScalars()).reshape(data.GetDimensions()[::-1]))
