"""The Slicer module: choose a model, a volume and a question, and see why. A child process computes."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import slicer
from LRPExplainLib.scene.panel.parameters import Biases, Composite, Device, Precision, Result, Start, Value, Where
from LRPExplainLib.scene.panel.scenarios import Scenarios
from slicer import vtkMRMLMarkupsFiducialNode, vtkMRMLMarkupsROINode, vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

RESOURCES = Path(__file__).resolve().parent / "Resources"
BUNDLED_MODEL = RESOURCES / "Models" / "lesion-unet" / "lesion_unet.safetensors"
REQUIREMENTS = RESOURCES / "requirements.txt"
SAMPLE = "LRPExplainDemo"
SAMPLE_CHECKSUMS = {
    f"{SAMPLE}.nrrd": "SHA256:7dd305bd1cca7c7656acbad98ea233bb4cc6df1b8ec081b27a96fb53b9ac6d6f",
    f"{SAMPLE}.seg.nrrd": "SHA256:089d31b7a9918c22c8d2b1617137927fb0cab5a3499952a3673ab359c2a993cb",
}


class LRPExplain(ScriptedLoadableModule):
    """Name, help and place of the module, and what Slicer has of it without the panel: sample data, scenes."""

    def __init__(self, parent) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("LRP Explain")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Analysis")]
        self.parent.dependencies = ["Volumes", "Segmentations", "Markups", "VolumeRendering"]
        self.parent.contributors = ["The LRPExplain developers"]
        self.parent.helpText = _(
            "Shows why a neural network said what it said about an image, by layer-wise relevance propagation. "
            'More in the <a href="{url}">documentation</a> and the <a href="{tutorial}">tutorial</a>.'
        ).format(
            url="https://github.com/LRPExplain/LRPExplain",
            tutorial="https://github.com/LRPExplain/LRPExplain/blob/main/Resources/Tutorial.md",
        )
        self.parent.acknowledgementText = _(
            "Layer-wise relevance propagation: Bach et al. 2015, doi:10.1371/journal.pone.0130140; "
            "Montavon et al. 2019, doi:10.1007/978-3-030-28954-6_10."
        )
        slicer.app.connect("startupCompleted()", onStartupCompleted)


def onStartupCompleted() -> None:
    """What is there without the panel: sample data, and the overlays of scenes that are loaded."""
    registerSampleData()
    observeScene()


def observeScene() -> None:
    """Once for Slicer's scene, however often the module is loaded: a mark on the scene says so."""
    scene = slicer.mrmlScene
    if not getattr(scene, "lrpExplainObserver", None):
        scene.lrpExplainObserver = scene.AddObserver(scene.EndImportEvent, onSceneImported)


def registerSampleData() -> None:
    """Add the bundled demo case to the Sample Data module; it is copied from the extension and needs no network."""
    import SampleData

    folder = RESOURCES / "SampleData"
    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category="LRPExplain",
        sampleName=SAMPLE,
        thumbnailFileName=str(RESOURCES / "Icons" / f"{SAMPLE}.png"),
        uris=[(folder / name).as_uri() for name in SAMPLE_CHECKSUMS],
        fileNames=list(SAMPLE_CHECKSUMS),
        checksums=list(SAMPLE_CHECKSUMS.values()),
        nodeNames=[SAMPLE, f"{SAMPLE} lesion"],
        loadFileTypes=["VolumeFile", "SegmentationFile"],
    )


def onSceneImported(scene, event) -> None:
    """Slicer's scene files do not keep all of an overlay: give explanations of a loaded scene the rest back."""
    volumes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode", scene)
    if any(node.GetAttribute("LRPExplain.Role") for node in volumes):
        from LRPExplainLib.scene import restore

        restore(scene)


@parameterNodeWrapper
class LRPExplainParameterNode:
    """The user's choices, saved with the scene; how a map is displayed is kept by its own nodes.

    modelFile - the model's file or folder
    inputVolumes - one volume for each input channel
    referenceSegmentation, referenceSegment - what findings are compared with
    target, ratherThan - classes by name; empty: as predicted, none
    where - which voxels are asked about; segmentation and segment, roi, points belong to it
    composite, value, start, biases, rules, device - how relevance is computed
    memory - that it may use, in GiB; 0: most of what is free
    precision - what the network is computed in
    result - what becomes of the earlier map
    relevance - the map that is shown and described
    """

    modelFile: Path = BUNDLED_MODEL
    inputVolumes: list[vtkMRMLScalarVolumeNode]
    referenceSegmentation: vtkMRMLSegmentationNode
    referenceSegment: str
    target: str
    ratherThan: str
    where: Where
    segmentation: vtkMRMLSegmentationNode
    segment: str
    roi: vtkMRMLMarkupsROINode
    points: vtkMRMLMarkupsFiducialNode
    composite: Composite
    value: Value
    start: Start
    biases: Biases
    rules: str
    device: Device
    memory: Annotated[float, WithinRange(0, 1024)] = 0
    precision: Precision
    result: Result
    relevance: vtkMRMLScalarVolumeNode


class LRPExplainWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel's place in Slicer; `LRPExplainLib.scene.panel` has the panel itself."""

    def __init__(self, parent=None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = self.panel = self._parameterNode = self._parameterNodeGuiTag = None

    def setup(self) -> None:
        from LRPExplainLib.scene.panel.panel import Panel

        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/LRPExplain.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = LRPExplainLogic()
        self.panel = Panel(self.ui, self.logic)
        observeScene()  # of a module that was loaded after the start; before the panel, which looks at what came back
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndImportEvent, self.onSceneEndImport)
        self.initializeParameterNode()

    def cleanup(self) -> None:
        if self.panel:
            self.setParameterNode(None)
            self.panel.close()
            self.logic.close()
            self.panel = None
        self.removeObservers()

    def enter(self) -> None:
        self.initializeParameterNode()
        self.panel.enter()

    def exit(self) -> None:
        self.panel.exit()

    def onReload(self) -> None:
        """Developers' Reload: the library is read again with the module.

        First this one ends, while its own library is there: the new one knows nothing of its worker and observers.
        """
        entered = self.parent.isEntered
        self.cleanup()
        for name in [name for name in sys.modules if name.split(".")[0] == "LRPExplainLib"]:
            del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)
        if entered:  # Slicer tells the new widget only when the module is entered again
            slicer.util.getModuleWidget(self.moduleName).enter()

    def onSceneStartClose(self, caller, event) -> None:
        self.setParameterNode(None)

    def onSceneEndClose(self, caller, event) -> None:
        if self.parent.isEntered:
            self.initializeParameterNode()

    def onSceneEndImport(self, caller, event) -> None:
        from LRPExplainLib.scene.process import later

        if self.parent.isEntered:
            self.initializeParameterNode()
            later(0, self.refreshPanel)  # selectors list the new nodes only after this event

    def refreshPanel(self) -> None:
        if self.panel:
            self.panel.refresh()

    def initializeParameterNode(self) -> None:
        self.setParameterNode(self.logic.getParameterNode())

    def setParameterNode(self, inputParameterNode: LRPExplainParameterNode | None) -> None:
        """Bind the widgets that have a SlicerParameterName, and tell the panel."""
        if self._parameterNode:
            self._parameterNode.disconnectGui(self._parameterNodeGuiTag)
        self._parameterNode = inputParameterNode
        if self._parameterNode:
            self._parameterNodeGuiTag = self._parameterNode.connectGui(self.ui)
        self.panel.set_parameters(self._parameterNode)


class LRPExplainLogic(ScriptedLoadableModuleLogic):
    """Explanations without the panel, from scripts and in batch mode.

    Usage::

        logic = slicer.util.getModuleLogic("LRPExplain")
        nodes = logic.explain([volumeNode], "model.ts", target="lesion", composite="epsilon-plus")
        nodes.relevance[0]  # the map as a volume node
    """

    bundledModel = BUNDLED_MODEL

    def getParameterNode(self) -> LRPExplainParameterNode:
        return LRPExplainParameterNode(super().getParameterNode())

    @property
    def session(self):
        """What turns nodes into requests to the worker process and answers into nodes; one per application."""
        from LRPExplainLib.scene.session import shared_session

        return shared_session()

    def explain(self, volumeNodes: Any, modelPath: Path | str, target: str | int | None = None, **options: Any):
        """Explain and wait; Slicer's events are handled meanwhile.

        :param volumeNodes: a scalar volume node, or one for each input channel of the model
        :param modelPath: the model's file or folder
        :param target: name or index of the class; None: what the model predicts
        :param options: ``ratherThan`` (a class), ``where`` (None: where the target is predicted; "everywhere"; a tuple
            of a segmentation node and a segment's ID or name; a markups ROI node; a point list node; one R, A, S in
            mm), ``composite``, ``rules`` (layer or role -> rule), ``biases`` ("share", "absorb"), ``value`` ("logit",
            "probability"), ``start`` ("value", "one"), ``device`` ("auto", "cpu", "cuda"), ``memory`` (GiB),
            ``precision`` ("float32", "bfloat16"), ``update`` (a map of an earlier explanation, which gets new voxels),
            ``onProgress(stage, share, seconds)``
        :return: the nodes: ``relevance`` (one volume node for each input), ``segmentation``, ``volumes`` and more
        :raises UserError: what is wrong and what to do, in one sentence
        """
        return self.session.explain_and_wait(**_arguments(volumeNodes, modelPath, target, options))

    def start(self, volumeNodes: Any, modelPath: Path | str, target: str | int | None = None, **options: Any):
        """As `explain`, but at once back with a request, which can be cancelled with ``cancel()``.

        :param options: also ``onPrediction(said)``, ``onDone(nodes)``, ``onFailed(sentence)``, and ``lane``:
            "crosshair" for questions of which only the newest counts
        """
        return self.session.explain(**_arguments(volumeNodes, modelPath, target, options))

    def evaluate(self, nodes: Any, checks: Sequence[str], references: Sequence[tuple[Any, str]] = ()) -> dict:
        """How far to trust an explanation; waits, and writes tables and plots into the scene.

        :param nodes: what `explain` returned
        :param checks: of "agreement", "faithfulness", "sanity", "complexity"
        :param references: segmentation node and segment (ID or name), for "agreement"
        :return: evaluation.json
        :raises UserError: what is wrong and what to do, in one sentence
        """
        from LRPExplainLib.scene import checks as made

        facts = self.session.wait(made.evaluate, nodes, checks, references)["facts"]
        made.write_evaluation(nodes, facts)
        return facts

    def compare(self, nodes: Any, method: str) -> dict:
        """Explain the same answer by another method ("grad-cam", "occlusion", ...), and compare; waits.

        Its map, what both agree on and their mean are shown. Returns comparison.json. Errors as `evaluate`.
        """
        from LRPExplainLib.scene import checks as made

        facts = self.session.wait(made.compare, nodes, method)
        made.write_comparison(nodes, facts)
        return facts

    def record(self, nodes: Any, path: Path | str) -> list[str]:
        """Write the record (.html, and .json beside it) with the checks made so far; waits. Errors as `evaluate`."""
        from LRPExplainLib.scene import checks as made

        return self.session.wait(made.record, nodes, Path(path))["files"]

    def describe(self, modelPath: Path | str, on_done: Callable[..., None], on_failed: Callable[[str], None]):
        """Ask what a model is (task, inputs, classes, device, ...) without running it."""
        return self.session.describe(Path(modelPath), on_done=on_done, on_failed=on_failed)

    def missingPackages(self) -> list[str]:
        """The lines of Resources/requirements.txt that are not installed."""
        from LRPExplainLib.worker import missing_requirements

        return missing_requirements(REQUIREMENTS)

    def ensurePackages(self) -> None:
        """Install what is missing, after asking; UserError where something is missing still."""
        from LRPExplainLib.scene.panel.packages import ensure

        ensure(REQUIREMENTS)

    def close(self) -> None:
        """End the worker process and remove its temporary files; the next request starts a new one."""
        self.session.close()


# What scripts write as Slicer's Python does, and what the library calls it
_NAMES = {
    "ratherThan": "rather_than",
    "onProgress": "on_progress",
    "onPrediction": "on_prediction",
    "onDone": "on_done",
    "onFailed": "on_failed",
}


def _arguments(volumeNodes: Any, modelPath: Path | str, target: str | int | None, options: dict[str, Any]) -> dict:
    nodes = list(volumeNodes) if isinstance(volumeNodes, Sequence) else [volumeNodes]
    named = {_NAMES.get(name, name): value for name, value in options.items()}
    return {"volume_nodes": nodes, "model": Path(modelPath), "target": target, **named}


class LRPExplainTest(Scenarios, ScriptedLoadableModuleTest):
    """One scenario for each section of the panel, with the bundled model: "Reload and Test", `slicer.selfTests`."""

    def setUp(self) -> None:
        slicer.mrmlScene.Clear()
        registerSampleData()
