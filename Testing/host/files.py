"""`slicer.app.coreIOManager()`: reads and writes what the tests need, through MRML's own storage nodes and logics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PySide6 import QtCore

from .pythonqt import invokable

_TYPES = {
    ".seg.nrrd": "SegmentationFile", ".seg.nhdr": "SegmentationFile", ".mrml": "SceneFile", ".mrb": "SceneFile",
    ".mrk.json": "MarkupsFile", ".tfm": "TransformFile", ".h5": "TransformFile", ".tsv": "TableFile",
    ".csv": "TableFile", ".nrrd": "VolumeFile", ".nhdr": "VolumeFile", ".nii.gz": "VolumeFile", ".nii": "VolumeFile",
    ".mha": "VolumeFile", ".mhd": "VolumeFile",
}  # fmt: skip
_NODES = {
    "SegmentationFile": ("vtkMRMLSegmentationNode", "vtkMRMLSegmentationStorageNode"),
    "TransformFile": ("vtkMRMLLinearTransformNode", "vtkMRMLTransformStorageNode"),
    "TableFile": ("vtkMRMLTableNode", "vtkMRMLTableStorageNode"),
}


class qSlicerCoreIOManager(QtCore.QObject):
    """Loads and saves by file type; properties as in Slicer: fileName, name, labelmap, show, clear, nodeID."""

    def __init__(self, scene: Any, application_logic: Any, logics: dict[str, Any]) -> None:
        super().__init__()
        self._scene, self._application_logic, self._logics = scene, application_logic, logics

    @invokable
    def fileType(self, name: Any) -> str:
        return next((kind for ending, kind in _TYPES.items() if str(name).lower().endswith(ending)), "NoFile")

    @invokable
    def fileWriterFileType(self, node: Any) -> str:
        return "NodeFile" if node.IsA("vtkMRMLStorableNode") else "NoFile"

    @invokable
    def loadNodes(self, kind: str, properties: dict[str, Any], loaded: Any = None, messages: Any = None) -> bool:
        path = Path(properties["fileName"])
        if not path.exists():
            return False
        if kind == "SceneFile":
            return self._load_scene(path, bool(properties.get("clear")))
        name = properties.get("name") or path.name.split(".")[0]
        if kind == "VolumeFile":
            node = self._load_volume(path, name, properties)
        else:
            node = self._load_node(kind, path, self._scene.GetUniqueNameByString(name), messages)
        if node is None:
            return False
        if loaded is not None:
            loaded.AddItem(node)
        return True

    def _load_volume(self, path: Path, name: str, properties: dict[str, Any]) -> Any:
        node = self._logics["Volumes"].AddArchetypeVolume(str(path), name, int(bool(properties.get("labelmap"))))
        if node is not None and properties.get("show", True) and not node.IsA("vtkMRMLLabelMapVolumeNode"):
            selection = self._application_logic.GetSelectionNode()
            selection.SetActiveVolumeID(node.GetID())
            self._application_logic.PropagateVolumeSelection(1)
        return node

    def _load_node(self, kind: str, path: Path, name: str, messages: Any) -> Any:
        if kind == "MarkupsFile":
            return self._scene.GetNodeByID(self._logics["Markups"].LoadMarkups(str(path), name, messages))
        if kind not in _NODES:
            return None
        node, storage = (self._scene.AddNewNodeByClass(each) for each in _NODES[kind])
        node.SetName(name)
        storage.SetFileName(str(path))
        node.SetAndObserveStorageNodeID(storage.GetID())
        if not storage.ReadData(node):
            self._scene.RemoveNode(node)
            self._scene.RemoveNode(storage)
            return None
        node.CreateDefaultDisplayNodes() if hasattr(node, "CreateDefaultDisplayNodes") else None
        return node

    def _load_scene(self, path: Path, clear: bool) -> bool:
        if path.suffix == ".mrb":
            return bool(self._scene.ReadFromMRB(str(path), clear))
        self._scene.SetURL(str(path))
        return bool(self._scene.Connect() if clear else self._scene.Import())

    @invokable
    def saveNodes(self, kind: str, properties: dict[str, Any], messages: Any = None) -> bool:
        path = Path(properties["fileName"])
        if kind == "SceneFile":
            return self._save_scene(path)
        node = self._scene.GetNodeByID(properties["nodeID"])
        if node.GetStorageNode() is None:
            node.AddDefaultStorageNode()
        node.GetStorageNode().SetFileName(str(path))
        return bool(node.GetStorageNode().WriteData(node))

    def _save_scene(self, path: Path) -> bool:
        if path.suffix == ".mrb":
            return bool(self._scene.WriteToMRB(str(path)))
        if path.suffix == ".mrml":
            self._scene.SetRootDirectory(str(path.parent))
            return bool(self._scene.Commit(str(path)))
        return bool(self._application_logic.SaveSceneToSlicerDataBundleDirectory(str(path), None))
