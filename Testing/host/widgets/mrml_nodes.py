"""Selectors of nodes and segments. Looked up in Slicer, Libs/MRML/Widgets; the code is written anew.

As there, a selector without "None" and without items for adding or removing takes the first node that comes; the
others stay empty until somebody chooses.
"""

from __future__ import annotations

from typing import Any, ClassVar

import slicer
import vtk
from PySide6 import QtCore, QtWidgets

from ..pythonqt import invokable
from .ctk_widgets import ctkComboBox
from .mrml_widgets import qMRMLWidget
from .observing import Observations
from .properties import derived, kept

_ROLE = QtCore.Qt.ItemDataRole.UserRole
_ACTION = _ROLE + 1


class qMRMLNodeComboBox(QtWidgets.QWidget):
    """Lists the scene's nodes of some types and follows the scene."""

    SIGNALS: ClassVar[dict[str, str]] = {
        "currentNodeChanged(vtkMRMLNode*)": "nodeChosen",
        "currentNodeChanged(bool)": "validNodeChosen",
        "currentNodeIDChanged(QString)": "currentNodeIDChanged",
        "nodeActivated(vtkMRMLNode*)": "nodeActivated",
        "nodeAdded(vtkMRMLNode*)": "nodeAdded",
        "nodeAddedByUser(vtkMRMLNode*)": "nodeAddedByUser",
        "nodeAboutToBeRemoved(vtkMRMLNode*)": "nodeAboutToBeRemoved",
        "nodeAboutToBeEdited(vtkMRMLNode*)": "nodeAboutToBeEdited",
    }
    nodeChosen = QtCore.Signal(object)
    validNodeChosen = QtCore.Signal(bool)
    currentNodeIDChanged = QtCore.Signal(str)
    nodeActivated = QtCore.Signal(object)
    nodeAdded = QtCore.Signal(object)
    nodeAddedByUser = QtCore.Signal(object)
    nodeAboutToBeRemoved = QtCore.Signal(object)
    nodeAboutToBeEdited = QtCore.Signal(object)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._scene: Any = None
        self._requested = ""
        self._attributes: dict[str, tuple[str, Any]] = {}
        self._of_scene, self._of_nodes = Observations(self), Observations(self)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._combo = ctkComboBox(self)
        self._combo.setSizePolicy(QtWidgets.QSizePolicy.Policy.Expanding, QtWidgets.QSizePolicy.Policy.Expanding)
        layout.addWidget(self._combo)
        self.setSizePolicy(QtWidgets.QSizePolicy.Policy.Preferred, QtWidgets.QSizePolicy.Policy.Fixed)
        self._combo.currentTextChanged.connect(lambda _text: self._tell())
        self._combo.activated.connect(self._activated)
        self._combo.view().clicked.connect(self._act)
        self.setEnabled(False)

    # What the combo box holds: None, the nodes, a separator and actions

    def _may_list(self, node: Any) -> bool:
        """Whether the node is of the selector's types, in whatever state it is now."""
        types = self.property("nodeTypes")
        return not types or any(node.IsA(each) for each in types)

    def _accepts(self, node: Any) -> bool:
        if node.GetHideFromEditors() and not self.property("showHidden"):
            return False
        types = self.property("nodeTypes")
        if not types:
            return True
        for kind in types:
            if not node.IsA(kind) or (not self.property("showChildNodeTypes") and kind != node.GetClassName()):
                continue
            if any(node.IsA(hidden) for hidden in self.property("hideChildNodeTypes")):
                return False
            name, wanted = self._attributes.get(kind, ("", None))
            stated = node.GetAttribute(name) if name else None
            return not name or (stated is not None and wanted in (None, "", stated))
        return False

    def _accepted(self) -> list[Any]:
        if self._scene is None:
            return []
        every = (self._scene.GetNthNode(n) for n in range(self._scene.GetNumberOfNodes()))
        return [node for node in every if self._accepts(node)]

    def _actions(self) -> list[tuple[str, str]]:
        types = self.property("nodeTypes")
        label = self.nodeTypeLabel(types[0] if len(types) == 1 else "")
        result = []
        if self.property("renameEnabled"):
            result.append((f"Rename current {label}", "RENAME"))
        if self.property("editEnabled"):
            result.append((f"Edit current {label}", "EDIT"))
        if self.property("addEnabled"):
            result += [(f"Create new {self.nodeTypeLabel(each)}", f"CREATE/{each}") for each in types]
        if self.property("removeEnabled"):
            result.append((f"Delete current {label}", "DELETE"))
        return result

    def _first(self) -> int:
        return int(bool(self.property("noneEnabled")) and self._scene is not None)

    def _listed(self) -> list[str]:
        return [
            self._combo.itemData(row, _ROLE) for row in range(self._combo.count()) if self._combo.itemData(row, _ROLE)
        ]

    def _rebuild(self) -> None:
        """Everything anew, for another scene or other properties; the chosen node stays where it can."""
        chosen = self._chosen_id()
        blocked = self._combo.blockSignals(True)
        self._combo.clear()
        if self._scene is not None:
            if self.property("noneEnabled"):
                self._combo.addItem(self.property("noneDisplay"))
            for node in self._accepted():
                self._combo.addItem(node.GetName() or "", node.GetID())
            if actions := self._actions():
                self._combo.insertSeparator(self._combo.count())
                for text, action in actions:
                    self._combo.addItem(text)
                    self._combo.setItemData(self._combo.count() - 1, action, _ACTION)
        row = self._combo.findData(chosen, _ROLE) if chosen else -1
        if row < 0:
            plain = not self.property("noneEnabled") and not self._actions()
            row = 0 if self.property("noneEnabled") or (plain and self._combo.count()) else -1
        self._combo.setCurrentIndex(row)
        self._combo.blockSignals(blocked)
        self._watch()
        if self._chosen_id() != chosen:
            self._tell()

    def _watch(self) -> None:
        """Names and visibility of nodes can change."""
        self._of_nodes.clear()
        if self._scene is None:
            return
        for n in range(self._scene.GetNumberOfNodes()):
            node = self._scene.GetNthNode(n)
            if self._may_list(node):
                self._of_nodes.add(node, vtk.vtkCommand.ModifiedEvent, lambda _data, node=node: self._renamed(node))

    def _renamed(self, node: Any) -> None:
        row = self._combo.findData(node.GetID(), _ROLE)
        if (row >= 0) != self._accepts(node):
            self._sync()
        elif row >= 0 and self._combo.itemText(row) != (node.GetName() or ""):
            self._combo.setItemText(row, node.GetName() or "")

    def _came_or_went(self, node: Any) -> None:
        if self._may_list(node):
            self._sync()

    def _sync(self) -> None:
        """Rows in and out one by one, so that Qt moves the choice as it does in Slicer."""
        wanted = [node.GetID() for node in self._accepted()]
        for gone in [each for each in self._listed() if each not in wanted]:
            self._combo.removeItem(self._combo.findData(gone, _ROLE))
        for place, identity in enumerate(wanted):
            if identity not in self._listed():
                node = self._scene.GetNodeByID(identity)
                self._combo.insertItem(self._first() + place, node.GetName() or "", identity)
                self.nodeAdded.emit(node)
        self._watch()

    # What is chosen

    def _chosen_id(self) -> str:
        return self._combo.itemData(self._combo.currentIndex(), _ROLE) or ""

    def _tell(self) -> None:
        index, node = self._combo.currentIndex(), self.currentNode()
        if node is None and index != (0 if self.property("noneEnabled") else -1):
            listed = self._listed()
            if listed:
                self._choose(listed[-1])
            else:
                self._combo.setCurrentIndex(0 if self.property("noneEnabled") else -1)
            return
        self.nodeChosen.emit(node)
        self.validNodeChosen.emit(node is not None)
        self.currentNodeIDChanged.emit(node.GetID() if node else "")

    def _choose(self, identity: str) -> None:
        row = self._combo.findData(identity, _ROLE) if identity else -1
        self._combo.setCurrentIndex(row if row >= 0 else (0 if self.property("noneEnabled") else -1))

    def _activated(self, index: int) -> None:
        node = self.currentNode()
        if node is not None or (self.property("noneEnabled") and index == 0):
            self.nodeActivated.emit(node)

    def _act(self, index: QtCore.QModelIndex) -> None:
        action = str(index.data(_ACTION) or "")
        if action.startswith("CREATE/"):
            self._combo.hidePopup()
            self.setCurrentNode(self.addNode(action.removeprefix("CREATE/")))
        elif action == "DELETE":
            self.removeCurrentNode()
        elif action == "EDIT":
            self.editCurrentNode()
        elif action == "RENAME":
            self.renameCurrentNode()

    def _removing(self, node: Any) -> None:
        if node is not None and node.GetID() in self._listed():
            self.nodeAboutToBeRemoved.emit(node)

    def _set_types(self, _types: list[str]) -> None:
        self._rebuild()

    nodeTypes = kept("QStringList", "nodeTypes", [], _set_types)
    noneEnabled = kept(bool, "noneEnabled", False, lambda self, _v: self._rebuild())
    noneDisplay = kept(str, "noneDisplay", "None", lambda self, _v: self._rebuild())
    addEnabled = kept(bool, "addEnabled", True, lambda self, _v: self._rebuild())
    removeEnabled = kept(bool, "removeEnabled", True, lambda self, _v: self._rebuild())
    editEnabled = kept(bool, "editEnabled", False, lambda self, _v: self._rebuild())
    renameEnabled = kept(bool, "renameEnabled", False, lambda self, _v: self._rebuild())
    showHidden = kept(bool, "showHidden", False, lambda self, _v: self._rebuild())
    showChildNodeTypes = kept(bool, "showChildNodeTypes", True, lambda self, _v: self._rebuild())
    hideChildNodeTypes = kept("QStringList", "hideChildNodeTypes", [], lambda self, _v: self._rebuild())
    selectNodeUponCreation = kept(bool, "selectNodeUponCreation", True)
    sizeAdjustPolicy = derived(
        QtWidgets.QComboBox.SizeAdjustPolicy,
        lambda self: self._combo.sizeAdjustPolicy(),
        lambda self, value: self._combo.setSizeAdjustPolicy(value),
    )
    currentNodeID = derived(str, lambda self: self._chosen_id(), lambda self, value: self.setCurrentNodeID(value))

    @invokable
    def mrmlScene(self) -> Any:
        return self._scene

    @invokable
    def setMRMLScene(self, scene: Any) -> None:
        if scene is self._scene:
            return
        self._of_scene.clear()
        self._scene = scene
        if scene is not None:
            self._of_scene.add(scene, scene.NodeAddedEvent, self._came_or_went, with_node=True)
            self._of_scene.add(scene, scene.NodeAboutToBeRemovedEvent, self._removing, with_node=True)
            self._of_scene.add(scene, scene.NodeRemovedEvent, self._came_or_went, with_node=True)
        self._rebuild()
        requested, self._requested = self._requested, ""
        if requested:
            self._choose(requested)
        self.setEnabled(scene is not None)

    @invokable
    def currentNode(self) -> Any:
        identity = self._chosen_id()
        return self._scene.GetNodeByID(identity) if identity and self._scene is not None else None

    @invokable
    def setCurrentNode(self, node: Any) -> None:
        if node is not None and not isinstance(node, slicer.vtkMRMLNode):
            raise ValueError(f"qMRMLNodeComboBox.setCurrentNode() takes a vtkMRMLNode or None, not {node!r}")
        self.setCurrentNodeID(node.GetID() if node is not None and node.GetID() else "")

    @invokable
    def setCurrentNodeID(self, identity: str) -> None:
        if self._scene is None:
            self._requested = identity
        self._choose(identity)

    @invokable
    def nodeCount(self) -> int:
        return len(self._listed())

    @invokable
    def nodeFromIndex(self, index: int) -> Any:
        listed = self._listed()
        return self._scene.GetNodeByID(listed[index]) if 0 <= index < len(listed) else None

    @invokable
    def addNode(self, kind: str = "") -> Any:
        kind = kind or next(iter(self.property("nodeTypes")), "")
        if kind not in self.property("nodeTypes"):
            return None
        node = self._scene.CreateNodeByClass(kind)
        node.UnRegister(None)
        name = node.GetNodeTagName()
        node.SetName(self._scene.GenerateUniqueName(name))
        if kind in self._attributes:
            attribute, value = self._attributes[kind]
            node.SetAttribute(attribute, str(value or ""))
        node = self._scene.AddNode(node)
        if self.property("selectNodeUponCreation"):
            self.setCurrentNode(node)
        self.nodeAddedByUser.emit(node)
        return node

    @invokable
    def removeCurrentNode(self) -> None:
        self._scene.RemoveNode(self.currentNode())

    @invokable
    def editCurrentNode(self) -> None:
        self.nodeAboutToBeEdited.emit(self.currentNode())

    @invokable
    def renameCurrentNode(self) -> None:
        from ..dialogs import ask_for_text

        if self.currentNode() is not None and (name := ask_for_text("New name:", self.currentNode().GetName())):
            self.currentNode().SetName(name)

    @invokable
    def addAttribute(self, kind: str, name: str, value: Any = None) -> None:
        self._attributes[kind] = (name, value)
        self._rebuild()

    @invokable
    def nodeTypeLabel(self, kind: str) -> str:
        display = self._scene.GetTypeDisplayNameByClassName(kind) if self._scene is not None and kind else ""
        return display or "node"


class qMRMLColorTableComboBox(qMRMLNodeComboBox):
    """Colour tables and procedural colours."""

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        for name, value in (("addEnabled", False), ("removeEnabled", False), ("nodeTypes", ["vtkMRMLColorNode"])):
            self.setProperty(name, value)


class qMRMLSegmentSelectorWidget(qMRMLWidget):
    """A segmentation and one of its segments."""

    SIGNALS: ClassVar[dict[str, str]] = {
        "currentNodeChanged(vtkMRMLNode*)": "nodeChosen",
        "currentNodeChanged(bool)": "validNodeChosen",
        "currentSegmentChanged(QString)": "currentSegmentChanged",
        "segmentSelectionChanged(QStringList)": "segmentSelectionChanged",
        "nodeAboutToBeEdited(vtkMRMLNode*)": "nodeAboutToBeEdited",
        **qMRMLWidget.SIGNALS,
    }
    nodeChosen = QtCore.Signal(object)
    validNodeChosen = QtCore.Signal(bool)
    currentSegmentChanged = QtCore.Signal(str)
    segmentSelectionChanged = QtCore.Signal(list)
    nodeAboutToBeEdited = QtCore.Signal(object)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._segmentation: Any = None
        self._current = ""
        self._of_segments = Observations(self)
        grid = QtWidgets.QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        self._nodes = qMRMLNodeComboBox(self)
        self._nodes.setProperty("nodeTypes", ["vtkMRMLSegmentationNode"])
        for name in ("addEnabled", "removeEnabled"):
            self._nodes.setProperty(name, False)
        self._label = QtWidgets.QLabel("Segment: ", self)
        self._message = QtWidgets.QLabel(self)
        self._segments = QtWidgets.QComboBox(self)
        self._segments.setSizePolicy(QtWidgets.QSizePolicy.Policy.Expanding, QtWidgets.QSizePolicy.Policy.Fixed)
        grid.addWidget(self._nodes, 0, 0, 1, 2)
        grid.addWidget(self._label, 1, 0)
        grid.addWidget(self._segments, 1, 1)
        grid.addWidget(self._message, 2, 0, 1, 2)
        grid.setColumnStretch(1, 1)
        self._nodes.nodeChosen.connect(self._node_changed)
        self._nodes.nodeChosen.connect(self.nodeChosen)
        self._nodes.validNodeChosen.connect(self.validNodeChosen)
        self._segments.currentIndexChanged.connect(self._segment_changed)
        self._populate()

    def _scene_changed(self, scene: Any) -> None:
        self._nodes.setMRMLScene(scene)

    def _node_changed(self, node: Any) -> None:
        if node is self._segmentation:
            return
        self._of_segments.clear()
        self._segmentation = node
        if node is not None:
            segmentation = node.GetSegmentation()
            for event in (segmentation.SegmentAdded, segmentation.SegmentRemoved, segmentation.SegmentModified):
                self._of_segments.add(segmentation, event, lambda _data: self._populate())
        self._populate()

    def _populate(self) -> None:
        blocked = self._segments.blockSignals(True)
        self._segments.clear()
        self._segments.blockSignals(blocked)
        segmentation = self._segmentation.GetSegmentation() if self._segmentation is not None else None
        empty = segmentation is None or segmentation.GetNumberOfSegments() == 0
        message = "No segments in segmentation" if self._segmentation is not None else "No node is selected"
        self._message.setText(message if empty else "")
        self._message.setVisible(empty)
        self._label.setVisible(not empty)
        self._segments.setVisible(not empty)
        if empty:
            return
        none = bool(self.property("noneEnabled"))
        blocked = self._segments.blockSignals(True)
        if none:
            self._segments.addItem("None", "None")
        identities = list(segmentation.GetSegmentIDs())
        for each in identities:
            self._segments.addItem(segmentation.GetSegment(each).GetName(), each)
        known = self._current in identities or (none and not self._current)
        self._segments.setCurrentIndex(self._segments.findData(self._current or "None") if known else -1)
        self._segments.blockSignals(blocked)
        if not known:
            self._segments.setCurrentIndex(int(none))

    def _segment_changed(self, index: int) -> None:
        if self._segmentation is None:
            return
        chosen = self._segments.itemData(index) or ""
        self._current = "" if chosen == "None" else chosen
        self.currentSegmentChanged.emit(self._current)

    def _set_none(self, enabled: bool) -> None:
        self._nodes.setProperty("noneEnabled", enabled)
        self._populate()

    noneEnabled = kept(bool, "noneEnabled", False, _set_none)
    editEnabled = kept(bool, "editEnabled", False)
    selectNodeUponCreation = kept(bool, "selectNodeUponCreation", True)

    @invokable
    def currentNode(self) -> Any:
        return self._nodes.currentNode()

    @invokable
    def currentNodeID(self) -> str:
        return self._nodes.property("currentNodeID")

    @invokable
    def currentSegmentID(self) -> str:
        return self._current

    @invokable
    def setCurrentNode(self, node: Any) -> None:
        self._nodes.setCurrentNode(node)

    @invokable
    def setCurrentNodeID(self, identity: str) -> None:
        self._nodes.setCurrentNodeID(identity)

    @invokable
    def setCurrentSegmentID(self, identity: str) -> None:
        if not identity and self.property("noneEnabled"):
            self._segments.setCurrentIndex(0)
            return
        row = self._segments.findData(identity)
        if row >= 0:
            self._segments.setCurrentIndex(row)
