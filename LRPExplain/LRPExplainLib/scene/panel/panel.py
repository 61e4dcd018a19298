"""The panel: its sections, and the news between them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import slicer
import vtk
from slicer.util import VTKObservationMixin

from .concepts import ConceptsSection
from .display import DisplaySection
from .findings import FindingsSection
from .method import MethodSection
from .model import ModelSection
from .question import QuestionSection
from .run import RunSection
from .section import Section, let_shrink
from .trust import consent
from .trustworthiness import TrustSection
from .volumes import VolumesSection


class Panel(VTKObservationMixin):
    """Made once for each widget of the module.

    ``logic`` is the module's logic, ``parameters`` its parameter node (None while a scene is closed), ``entered``
    whether the user looks at the module, ``installing`` whether packages are being installed. A section tells the panel
    what happened, and the panel tells those that it concerns.
    """

    def __init__(self, ui: Any, logic: Any) -> None:
        super().__init__()
        self.ui = ui
        self.logic = logic
        self.parameters: Any = None
        self.entered = self.installing = False
        logic.session.consent = consent
        self.model = ModelSection(ui, self)
        self.volumes = VolumesSection(ui, self)
        self.question = QuestionSection(ui, self)
        self.method = MethodSection(ui, self)
        self.run = RunSection(ui, self)
        self.display = DisplaySection(ui, self)
        self.findings = FindingsSection(ui, self)
        self.concepts = ConceptsSection(ui, self)
        self.trust = TrustSection(ui, self)
        for selector in (*self._fixed_selectors, ui.relevanceSelector):
            let_shrink(selector)
        self.addObserver(slicer.mrmlScene, slicer.vtkMRMLScene.NodeAboutToBeRemovedEvent, self._on_removal)

    @property
    def sections(self) -> tuple[Section, ...]:
        return (
            self.model, self.volumes, self.question, self.method, self.run, self.display, self.findings, self.concepts,
            self.trust,
        )  # fmt: skip

    @property
    def _fixed_selectors(self) -> tuple[Any, ...]:
        ui = self.ui
        return ui.referenceSelector, ui.segmentSelector, ui.roiSelector, ui.pointsSelector, ui.besideSelector

    def set_parameters(self, parameters: Any) -> None:
        """Show another parameter node, or none."""
        self.removeObservers(self.refresh)
        self.parameters = parameters  # first: a section that ends asks for nothing about what is going
        if parameters is None:
            for section in self.sections:
                section.close()
        else:
            self.addObserver(parameters.parameterNode, vtk.vtkCommand.ModifiedEvent, self.refresh)
            self.volumes.observe()
            self.volumes.fill()
        self.refresh()

    def refresh(self, *_event: Any) -> None:
        """The parameter node has changed; while a scene is imported its nodes are not whole yet."""
        if slicer.mrmlScene.IsImporting():
            return
        for section in self.sections:
            section.refresh()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _on_removal(self, _scene: Any, _event: str, node: Any) -> None:
        """What was chosen goes, and nothing is chosen then: a selector would by itself go to the node beside it."""
        if self.parameters is None:
            return
        self.display.on_removal(node)
        self.trust.on_removal(node)
        for selector in (*self.volumes.selectors, *self._fixed_selectors):
            if selector.currentNode() is node:
                selector.setCurrentNode(None)

    def enter(self) -> None:
        self.entered = True
        self.model.look_again()
        self.refresh()
        self.volumes.fill()

    def exit(self) -> None:
        self.entered = False
        self.question.live.stop()

    def close(self) -> None:
        """The widget goes away."""
        self.set_parameters(None)
        self.removeObservers()

    # --- news -------------------------------------------------------------------------------------------------------

    def on_model(self) -> None:
        """What the model is has become known, or is no longer known."""
        self.volumes.on_model()
        self.question.on_model()
        self.refresh()

    def on_result(self, nodes: Any, first: bool) -> None:
        """An explanation has been presented; ``first`` unless it only moved with the crosshair."""
        if self.parameters is None:
            return
        self.display.on_result(nodes)
        self.findings.on_result(nodes)
        self.concepts.on_result(nodes)
        self.trust.on_result(nodes)
        if first:
            self.ui.displayCollapsibleButton.collapsed = False
            self.ui.findingsCollapsibleButton.collapsed = False

    def begin(self, section: Section) -> None:
        """A section starts a request: what another one still waits for ends, since the worker serves one at a time."""
        for other in (self.run, self.concepts, self.trust):
            if other is not section and other.running:
                other.cancel()
        self.run.forget_live()

    def ensure(self, install: Callable[[], None]) -> None:
        """Install packages; Slicer handles events meanwhile, so nothing else may start. UserError as ``install``."""
        self.installing = True
        self.refresh()
        try:
            install()
        finally:
            self.installing = False
            self.refresh()

    def on_map(self) -> None:
        """Another map has been selected, or none."""
        self.concepts.update()
        self.trust.on_map()

    def on_reference(self) -> None:
        """Another segmentation, or another of its segments, is the reference."""
        self.display.outline_reference()
        self.findings.update()
        self.concepts.on_reference()

    def on_written(self) -> None:
        """The findings are in the scene, as tables and charts."""
        self.trust.on_map()

    def on_display(self) -> None:
        """The map is shown otherwise, or another one is shown."""
        self.findings.on_display()
