"""Pictures of a presented explanation, drawn off screen by Slicer's own displayable managers."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

import numpy as np

from ..errors import UserError
from ..progress import Progress, nobody
from .display import read
from .geometry import matrix_of
from .host import SLICE_VIEWS, THREE_D_VIEW, Application
from .nodes import announce_legend
from .presented import PresentedNodes
from .renderer import missing_renderer
from .three_d import show_in_3d
from .view_nodes import cutting
from .views import SliceView, ThreeDView

_View = TypeVar("_View", SliceView, ThreeDView)


def render(
    presented: PresentedNodes,
    folder: Path | str,
    progress: Progress = nobody,
    slices_only: bool = False,
) -> list[Path]:
    """Write axial.png, sagittal.png, coronal.png and 3d.png (900 x 900) to ``folder`` and return their paths.

    Of a single slice, such as an X-ray, there is one picture, along the slice: across it would be lines.
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
    planes = cutting(presented.relevance[0])
    slices_only = slices_only or len(planes) < len(SLICE_VIEWS)
    oriented = not _is_picture(presented)
    if not slices_only:
        show_in_3d(presented)
    paths: list[Path] = []
    with ExitStack() as views:  # each is closed whatever goes wrong in another
        slices = {name: _open(views, SliceView(application, name)) for name in planes}
        three_d = None if slices_only else _open(views, ThreeDView(application, THREE_D_VIEW))
        if presented.legend is not None:
            announce_legend(presented.scene, presented.legend)
        count = len(slices) + (three_d is not None)
        for name, orientation in planes.items():
            progress(orientation, len(paths) / count)
            view = slices[name]
            view.show(orientation, presented.focus)
            view.annotate(caption_of(presented), view.place() if oriented else "")
            if oriented:
                view.mark_directions()
            paths.append(view.write(folder / f"{orientation.lower()}.png"))
        if three_d is not None:
            progress("3D", len(paths) / count)
            three_d.show(presented.focus)
            three_d.annotate(caption_of(presented), "")
            paths.append(three_d.write(folder / "3d.png"))
    return paths


def caption_of(presented: PresentedNodes) -> tuple[str, ...]:
    """What is shown, and of several volumes whose map (as the card calls it: files may be called after patients)."""
    if len(presented.relevance) < 2:
        return presented.caption
    number = presented.inputs[read(presented).input]
    called = (presented.facts["model"]["card"].get("inputs") or [])[number : number + 1]
    name = f" ({called[0]['name']})" if called else ""
    return (*presented.caption, f"Volume {number + 1} of {len(presented.facts['volumes'])}{name}")


def _is_picture(presented: PresentedNodes) -> bool:
    """Whether it is a single slice at the origin along the axes, as of files that say nothing of the patient's own
    (PNG, DICOM X-rays): letters for these would be made up.
    """
    relevance = presented.relevance[0]
    matrix = matrix_of(relevance, world=True)
    as_stored = np.diag([*(np.array([-1, -1, 1]) * relevance.GetSpacing()), 1.0])
    return bool(relevance.GetImageData().GetDimensions()[2] == 1 and np.allclose(matrix, as_stored))


def _open(views: ExitStack, view: _View) -> _View:
    views.callback(view.close)
    return view
