"""Draw the tutorial's pictures from a real run: the panel by the tests' host, views by Slicer's displayable managers.

python Resources/tutorial_pictures.py
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "Resources" / "Screenshots"
sys.path.insert(0, str(ROOT / "Testing"))

from host.host import Host  # noqa: E402
from host.pictures import panel_picture  # noqa: E402

SHOWN = 560  # px, each view in a pair


def main() -> None:
    with Host() as host:
        import SampleData

        widget = host.open()
        ui, panel = widget.ui, widget.panel
        _, lesion = SampleData.SampleDataLogic().downloadSamples("LRPExplainDemo")
        panel.volumes.fill()
        host.wait(lambda: panel.model.facts)
        ui.referenceSelector.setCurrentNode(lesion)
        panel_picture(widget, FOLDER / "tutorial-ready.png")
        host.click(ui.explainButton)
        host.wait(lambda: not panel.run.running, 180)
        panel.findings.compute()
        panel.findings.go_to(0)
        panel_picture(widget, FOLDER / "tutorial-result.png")
        panel_picture(widget, FOLDER / "tutorial-result-dark.png", dark=True)
        _check(host, widget)
        ui.sideBySideButton.click()
        host.process()
        _pairs(panel.display.nodes, panel.findings.found.hot_spots[0].place)


def _check(host: Any, widget: Any) -> None:
    """The section Trust after all four checks."""
    ui, panel = widget.ui, widget.panel
    for name in ("model", "volumes", "question", "method", "display", "findings"):
        getattr(ui, f"{name}CollapsibleButton").collapsed = True
    ui.trustCollapsibleButton.collapsed = False
    for name in ("agreement", "faithfulness", "sanity", "complexity"):
        host.click(getattr(ui, f"{name}Button"))
        host.wait(lambda: not panel.trust.running, 900)
    panel_picture(widget, FOLDER / "tutorial-trust.png")
    for name in ("volumes", "display", "findings"):
        getattr(ui, f"{name}CollapsibleButton").collapsed = False


def _pairs(nodes: Any, place: Any) -> None:
    """Image and manual segmentation above, relevance below: axial left, coronal right."""
    from LRPExplainLib.scene.host import Application
    from LRPExplainLib.scene.side_by_side import PAIRS
    from LRPExplainLib.scene.views import SliceView
    from PySide6 import QtCore, QtGui

    application = Application(nodes.scene)
    picture = QtGui.QImage(2 * SHOWN, 2 * SHOWN, QtGui.QImage.Format.Format_RGB32)
    painter = QtGui.QPainter(picture)
    with tempfile.TemporaryDirectory() as folder:
        for column, (name, orientation) in enumerate((("Red", "Axial"), ("Green", "Coronal"))):
            for row, view_name in enumerate((name, PAIRS[name])):
                view = SliceView(application, view_name)
                view.show(orientation, place)
                view.annotate((), view.place())
                view.mark_directions()
                file = view.write(Path(folder) / f"{view_name}.png")
                view.close()
                smooth = QtCore.Qt.TransformationMode.SmoothTransformation
                part = QtGui.QImage(str(file)).scaledToWidth(SHOWN, smooth)
                painter.drawImage(column * SHOWN, row * SHOWN, part)
    painter.end()
    picture.save(str(FOLDER / "tutorial-side-by-side.png"))


if __name__ == "__main__":
    main()
