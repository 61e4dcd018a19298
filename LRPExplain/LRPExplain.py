"""The Slicer module: choose a model, a volume and a class, and see why. All computation happens in a child process."""

import importlib.util
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import qt
import slicer
import vtk
from LRPExplainLib import worker
from slicer import vtkMRMLScalarVolumeNode
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import Choice, parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

MODULE_FOLDER = Path(__file__).resolve().parent
BUNDLED_MODEL = MODULE_FOLDER / "Resources" / "Models" / "lesion-unet" / "lesion_unet.safetensors"
REQUIREMENTS = MODULE_FOLDER / "Resources" / "requirements.txt"


class LRPExplain(ScriptedLoadableModule):
    """Name, help and place of the module."""

    def __init__(self, parent) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("LRP Explain")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Analysis")]
        self.parent.dependencies = []
        self.parent.contributors = ["The LRPExplain developers"]
        self.parent.helpText = _(
            "Shows why a neural network said what it said about an image, by layer-wise relevance propagation. "
            'More in the <a href="https://github.com/LRPExplain/LRPExplain">documentation</a>.'
        )
        self.parent.acknowledgementText = _(
            "Layer-wise relevance propagation: Bach et al. 2015, doi:10.1371/journal.pone.0130140; "
            "Montavon et al. 2019, doi:10.1007/978-3-030-28954-6_10."
        )


@parameterNodeWrapper
class LRPExplainParameterNode:
    """The user's choices, saved with the scene.

    inputVolume - the volume that is explained
    modelFile - weights with a card next to them, or the card
    target - name or index of the class; empty for what the model predicts
    composite - which rules carry the relevance
    """

    inputVolume: vtkMRMLScalarVolumeNode
    modelFile: Path = BUNDLED_MODEL
    target: str = ""
    composite: Annotated[str, Choice(list(worker.COMPOSITE_CHOICES))] = worker.AS_THE_MODEL_SAYS


class LRPExplainWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel: it shows choices and progress, and leaves the rest to the logic."""

    def __init__(self, parent=None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = self._parameterNode = self._parameterNodeGuiTag = None

    def setup(self) -> None:
        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/LRPExplain.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = LRPExplainLogic()
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndImportEvent, self.onSceneEndImport)
        self.ui.explainButton.connect("clicked(bool)", self.onExplain)
        self.ui.cancelButton.connect("clicked(bool)", self.onCancel)
        self._showRunning(False)
        self.initializeParameterNode()

    def cleanup(self) -> None:
        if self.logic:
            self.logic.cancel()
        self.removeObservers()

    def enter(self) -> None:
        self.initializeParameterNode()

    def exit(self) -> None:
        if self._parameterNode:
            self._parameterNode.disconnectGui(self._parameterNodeGuiTag)
            self._parameterNodeGuiTag = None
            self.removeObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self._checkCanExplain)

    def onSceneStartClose(self, caller, event) -> None:
        self.logic.cancel()  # its volume goes away
        self._showRunning(False)
        self.setParameterNode(None)

    def onSceneEndClose(self, caller, event) -> None:
        if self.parent.isEntered:
            self.initializeParameterNode()

    def onSceneEndImport(self, caller, event) -> None:
        """Slicer's scene files do not keep the opacity of additional layers."""
        self.logic.restoreOverlays()

    def initializeParameterNode(self) -> None:
        """Observe the parameter node, and choose the first volume if none is chosen yet."""
        self.setParameterNode(self.logic.getParameterNode())
        first = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode")
        if first and not self._parameterNode.inputVolume:
            self._parameterNode.inputVolume = first

    def setParameterNode(self, inputParameterNode: LRPExplainParameterNode | None) -> None:
        if self._parameterNode:
            self._parameterNode.disconnectGui(self._parameterNodeGuiTag)
            self.removeObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self._checkCanExplain)
        self._parameterNode = inputParameterNode
        if self._parameterNode:
            self._parameterNodeGuiTag = self._parameterNode.connectGui(self.ui)
            self.addObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self._checkCanExplain)
            self._checkCanExplain()

    def _checkCanExplain(self, caller=None, event=None) -> None:
        ready = bool(self._parameterNode and self._parameterNode.inputVolume)
        self.ui.explainButton.enabled = ready and not self.logic.running

    def onExplain(self) -> None:
        """Start the computation; the panel stays usable."""
        with slicer.util.tryWithErrorDisplay(_("The explanation could not be started."), waitCursor=False):
            if not self.logic.ensureRequirements():
                return
            chosen = self._parameterNode
            self.logic.start(chosen.inputVolume, chosen.modelFile, chosen.target, chosen.composite, self.onFinished)
            if self.logic.running:  # not if it failed to start, which has been told already
                self._showRunning(True)

    def onCancel(self) -> None:
        self.logic.cancel()
        self._showRunning(False)
        self.ui.statusLabel.text = _("Cancelled.")

    def onFinished(self, error: str) -> None:
        """Called by the logic with an empty string or one sentence."""
        self._showRunning(False)
        self.ui.statusLabel.text = error or _("Done: the relevance lies over the volume.")

    def _showRunning(self, running: bool) -> None:
        self.ui.progressBar.visible = running
        self.ui.cancelButton.visible = running
        self.ui.statusLabel.text = _("Explaining. Slicer can be used meanwhile.") if running else ""
        self._checkCanExplain()


class LRPExplainLogic(ScriptedLoadableModuleLogic):
    """Volume node -> temporary file -> child process -> explanation folder -> MRML nodes."""

    def __init__(self) -> None:
        ScriptedLoadableModuleLogic.__init__(self)
        self._process = None
        self._folder: Path | None = None

    def getParameterNode(self) -> LRPExplainParameterNode:
        return LRPExplainParameterNode(super().getParameterNode())

    @property
    def running(self) -> bool:
        return self._process is not None

    def ensureRequirements(self) -> bool:
        """Whether the Python packages are there; asks before it installs any."""
        missing = worker.missing_requirements(REQUIREMENTS)
        torch = next((line for line in missing if line.startswith("torch")), None)
        if torch and hasattr(slicer.modules, "pytorchutils"):  # it finds the build that fits the graphics card
            import PyTorchUtils

            version = torch.removeprefix("torch") or None
            if PyTorchUtils.PyTorchUtilsLogic().installTorch(True, torchVersionRequirement=version) is None:
                return False
            missing.remove(torch)
        if not missing:
            return True
        if importlib.util.find_spec("slicer.packaging"):  # Slicer 5.12 and later
            from slicer.packaging import pip_ensure

            pip_ensure(missing, requester="LRPExplain")  # asks
            return True
        question = _("These Python packages will be downloaded and installed: {names}. Continue?")
        if not slicer.util.confirmOkCancelDisplay(question.format(names=", ".join(missing))):
            return False
        slicer.util.pip_install(" ".join(missing))
        return True

    def start(self, volume, model: Path, target: str, composite: str, onFinished: Callable[[str], None]) -> None:
        """Explain ``volume`` in a child process; ``onFinished`` gets "" or one sentence on what is wrong."""
        from LRPExplainLib.scene.export import export_volume

        python = shutil.which("PythonSlicer")
        if not python:
            raise RuntimeError(_("PythonSlicer was not found on the path of this Slicer installation."))
        self._folder = Path(tempfile.mkdtemp(prefix="LRPExplain-"))
        try:
            file = export_volume(volume, self._folder / "volume.nrrd")
        except Exception:
            self._clean()
            raise
        process = self._process = qt.QProcess()
        process.setWorkingDirectory(str(MODULE_FOLDER))  # where `-m` finds the library

        def finish(*_status) -> None:
            if process is self._process:  # not cancelled
                self._onFinished(process, volume, onFinished)

        process.connect("finished(int,QProcess::ExitStatus)", finish)
        process.connect("errorOccurred(QProcess::ProcessError)", finish)
        process.start(python, worker.explain_arguments(model, file, target, composite, self._folder / "explanation"))

    def cancel(self) -> None:
        """End the child process at once, if there is one, and forget what it did."""
        process, self._process = self._process, None
        if process:
            process.kill()
            process.waitForFinished(3000)
        self._clean()

    def _onFinished(self, process, volume, onFinished: Callable[[str], None]) -> None:
        succeeded = process.error() == qt.QProcess.UnknownError and process.exitCode() == 0
        error = (
            "" if succeeded else worker.error_sentence(process.readAllStandardError().data().decode(errors="replace"))
        )
        try:
            if succeeded:
                self.present(self._folder / "explanation", volume)
        except Exception as problem:  # whatever it is, the panel must say it and become usable again
            error = str(problem)
        finally:
            self._process = None
            self._clean()
        onFinished(error)

    def _clean(self) -> None:
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def present(self, folder: Path, volume):
        """Show an explanation folder over the volume node that was explained; returns the nodes."""
        from LRPExplainLib import scene
        from LRPExplainLib.explanation import Explanation

        return scene.present(Explanation.load(folder), [volume])

    def restoreOverlays(self) -> None:
        """Give the overlays of a scene that was just loaded their opacity back."""
        from LRPExplainLib import scene

        scene.restore(slicer.mrmlScene)


class LRPExplainTest(ScriptedLoadableModuleTest):
    """Runs inside Slicer; Testing/ holds the tests that need no Slicer."""

    def runTest(self) -> None:
        """An explanation folder becomes an overlay that leaves the user's own layers alone."""
        slicer.mrmlScene.Clear()
        import numpy as np
        import SimpleITK as sitk
        from LRPExplainLib.explanation import Explanation, Prediction
        from LRPExplainLib.imaging.grid import Grid

        image = sitk.GetImageFromArray(np.random.default_rng(0).random((12, 14, 16)).astype(np.float32))
        image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))  # voxel axes along R, A, S as in the node below
        volume = slicer.util.addVolumeFromArray(sitk.GetArrayFromImage(image), name="noise")
        slicer.util.setSliceViewerLayers(background=volume)
        with tempfile.TemporaryDirectory() as folder:
            Explanation(
                relevance=(image - 0.5,),
                prediction=Prediction(None, {"yes": 0.9}, [{"name": "yes", "color": [0, 255, 0]}]),
                target={"class": "yes", "index": 0, "where": "output"},
                composite={"name": "epsilon"},
                ledger={"target_value": 1.0},
                model={"name": "test"},
                volumes=[{"name": "noise", "path": None, "geometry": Grid.of(image).as_dict()}],
                provenance={},
            ).save(Path(folder) / "explanation")
            shown = LRPExplainLogic().present(Path(folder) / "explanation", volume)
        composite = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSliceCompositeNode")
        assert composite.GetBackgroundVolumeID() == volume.GetID()
        assert composite.GetNthLayerVolumeID(3) == shown.relevance[0].GetID()
        self.delayDisplay("Test passed")
