"""Pictures of a presented explanation, drawn off screen by Slicer's own displayable managers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..errors import UserError
from .host import SLICE_VIEWS, THREE_D_VIEW, Application, slicer
from .presented import PresentedNodes
from .renderer import missing_renderer
from .three_d import show_in_3d
from .views import SliceView, ThreeDView


def render(
    presented: PresentedNodes,
    folder: Path | str,
    progress: Callable[[str, float], None] | None = None,
    slices_only: bool = False,
) -> list[Path]:
    """Write axial.png, sagittal.png, coronal.png and 3d.png (900 x 900) to ``folder`` and return their paths.

    The slices cut through the place of the strongest relevance; the scene's own views are left showing what the
    pictures show. Outside Slicer only: inside it the user has the views themselves. ``progress`` is told the picture
    that is being drawn and the share that is done. ``slices_only`` leaves 3d.png out.

    Raises UserError where the machine has no OpenGL renderer (ask `missing_renderer` first to skip the pictures).
    """
    missing = missing_renderer()
    if missing:
        raise UserError(missing)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    application = presented.application or Application(presented.scene)
    three_d: ThreeDView | None = None
    if not slices_only:
        show_in_3d(presented)
    slices = {name: SliceView(application, name) for name in SLICE_VIEWS}
    if not slices_only:
        three_d = ThreeDView(application, THREE_D_VIEW)
    _announce_legend(presented)
    tell = progress or (lambda stage, share: None)
    count = len(SLICE_VIEWS) + (three_d is not None)
    paths: list[Path] = []
    for name, orientation in SLICE_VIEWS.items():
        tell(orientation, len(paths) / count)
        view = slices[name]
        view.show(orientation, presented.focus)
        view.annotate(presented.caption, view.place())
        view.mark_directions()
        paths.append(view.write(folder / f"{orientation.lower()}.png"))
    if three_d is not None:
        tell("3D", len(paths) / count)
        three_d.show(presented.focus)
        three_d.annotate(presented.caption, "")
        paths.append(three_d.write(folder / "3d.png"))
        three_d.close()
    for each in slices.values():
        each.close()
    return paths


def _announce_legend(presented: PresentedNodes) -> None:
    """Legends are drawn only by views that see them come (vtkMRMLColorLegendDisplayableManager has no other way in)."""
    if presented.legend is None:
        return
    for n in range(presented.legend.GetNumberOfDisplayNodes()):
        display = presented.legend.GetNthDisplayNode(n)
        if display.IsA("vtkMRMLColorLegendDisplayNode"):
            presented.scene.InvokeEvent(slicer.vtkMRMLScene.NodeAddedEvent, display)
