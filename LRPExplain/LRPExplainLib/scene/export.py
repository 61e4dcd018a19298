"""A volume node as a file for the process that computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import UserError
from .host import slicer
from .host import tr as _


def export_volume(node: Any, path: Path) -> Path:
    """Write the voxels and the geometry of a scalar volume node to ``path`` (.nrrd), without its parent transform.

    The node and its own storage stay untouched. Raises UserError if the node has no voxels or cannot be written.
    """
    if node is None or node.GetImageData() is None:
        raise UserError(_("There are no voxels to explain: choose a volume that has been loaded."))
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
