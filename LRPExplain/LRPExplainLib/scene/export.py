"""A volume node as a file for the process that computes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ..errors import UserError
from .host import slicer, vtk
from .host import tr as _

_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f]')  # by one file system or another
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)  # names that Windows keeps for itself
_LONGEST = 60  # characters, of up to four bytes each


# Slicer cannot write these
_NOT_IN_NRRD = {
    vtk.VTK_SIGNED_CHAR, vtk.VTK_LONG, vtk.VTK_UNSIGNED_LONG, vtk.VTK_LONG_LONG, vtk.VTK_UNSIGNED_LONG_LONG,
}  # fmt: skip


def file_name(node: Any) -> str:
    """A name for the file of a volume node that tells people which one it is, and that every file system takes."""
    name = _FORBIDDEN.sub("_", node.GetName() or "")[:_LONGEST].strip(" .") or "volume"
    return f"{'_' if _DEVICE.match(name) else ''}{name}.nrrd"


def export_volume(node: Any, path: Path) -> Path:
    """Write the voxels and the geometry of a scalar volume node to ``path`` (.nrrd), without its parent transform.

    The node and its own storage stay untouched. Raises UserError if the node has no voxels or cannot be written.
    """
    if node is None or node.GetImageData() is None:
        raise UserError(_("There are no voxels to explain: choose a volume that has been loaded."))
    if node.GetImageData().GetScalarType() in _NOT_IN_NRRD:
        node = _as_doubles(node)
    storage = slicer.vtkMRMLNRRDStorageNode()
    storage.SetFileName(str(path))
    storage.SetUseCompression(False)
    if not storage.WriteData(node):
        raise UserError(
            _("The volume '{name}' could not be written to '{path}': check the space on the disk.").format(
                name=node.GetName(), path=path
            )
        )
    return path


def _as_doubles(node: Any) -> Any:
    """The same volume with other numbers, in no scene."""
    cast = vtk.vtkImageCast()
    cast.SetInputData(node.GetImageData())
    cast.SetOutputScalarTypeToDouble()
    cast.Update()
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    copy = slicer.vtkMRMLScalarVolumeNode()
    copy.SetName(node.GetName())
    copy.SetIJKToRASMatrix(matrix)
    copy.SetAndObserveImageData(cast.GetOutput())
    return copy
