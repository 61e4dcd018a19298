"""A scene as one .mrb file that Slicer opens by drag and drop."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from ..errors import UserError
from .host import Application, slicer
from .presented import PresentedNodes
from .restoring import restore


def save(presented: PresentedNodes, path: Path | str) -> Path:
    """Write the whole scene of ``presented`` to ``path`` (.mrb); a file of that name is replaced once it is complete.

    Raises UserError if the name does not end in .mrb or the scene cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".mrb":
        raise UserError(f"A scene is saved as an .mrb file, not as '{path.name}': choose a name that ends in .mrb.")
    path.parent.mkdir(parents=True, exist_ok=True)
    messages = slicer.vtkMRMLMessageCollection()
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".mrb-") as folder:
        unfinished = Path(folder) / path.name
        if not presented.scene.WriteToMRB(str(unfinished), None, messages) or not unfinished.is_file():
            raise UserError(f"The scene could not be written to '{path}': {messages.GetAllMessagesAsString().strip()}.")
        os.replace(unfinished, path)
    return path


def load(path: Path | str) -> Application:
    """Read an .mrb into a new scene, outside Slicer; the application returned has it as ``.scene``.

    Raises UserError if the file is missing or is not a scene.
    """
    path = Path(path)
    application = Application()
    messages = slicer.vtkMRMLMessageCollection()
    # a file that is no archive leaves MRML in its own temporary folder, which it then removes
    with contextlib.chdir(Path.cwd()):
        read = path.is_file() and application.scene.ReadFromMRB(str(path.resolve()), True, messages)
    if not read:
        raise UserError(f"'{path}' is not a scene that can be read: give the path of an .mrb file.")
    restore(application.scene)
    return application
