"""A segment selector and the two parameters that hold its choice; parameterNodeWrapper has no connector for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .panel import Panel


class SegmentChoice:
    """Keeps a qMRMLSegmentSelectorWidget and the parameters ``node`` and ``segment`` (an ID) in step."""

    def __init__(self, selector: Any, node: str, segment: str, panel: Panel) -> None:
        self._selector, self._node, self._segment, self._panel = selector, node, segment, panel
        self._updating = False
        selector.connect("currentNodeChanged(vtkMRMLNode*)", self._on_changed)
        selector.connect("currentSegmentChanged(QString)", self._on_changed)

    @property
    def node(self) -> Any:
        """The segmentation node; None where none is chosen."""
        return getattr(self._panel.parameters, self._node) if self._panel.parameters else None

    @property
    def segment(self) -> str:
        """The ID of the segment; empty where none is chosen."""
        node = self.node
        chosen = getattr(self._panel.parameters, self._segment) if node else ""
        return chosen if node and node.GetSegmentation().GetSegment(chosen) else ""

    def refresh(self) -> None:
        """Show what the parameters say."""
        node, segment = self.node, self.segment
        self._updating = True
        try:
            if self._selector.currentNode() is not node:
                self._selector.setCurrentNode(node)
            if segment and self._selector.currentSegmentID() != segment:
                self._selector.setCurrentSegmentID(segment)
        finally:
            self._updating = False
        if node and not segment:  # the selector shows the first segment then
            self._on_changed()

    def _on_changed(self, *_changed: Any) -> None:
        parameters = self._panel.parameters
        if parameters is None or self._updating:
            return
        node = self._selector.currentNode()
        segment = self._selector.currentSegmentID() if node else ""
        if getattr(parameters, self._node) is not node:
            setattr(parameters, self._node, node)
        if getattr(parameters, self._segment) != segment:
            setattr(parameters, self._segment, segment)
