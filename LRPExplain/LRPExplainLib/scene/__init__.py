"""An Explanation in 3D Slicer's own scene: nodes, overlay, pictures, scene file. The only part that imports ``slicer``.

Inside Slicer the nodes go to the application's scene; elsewhere PyPI's slicer-core provides the same scene and views.
"""

from .overlay import restore
from .present import PresentedNodes, present
from .render import render
from .renderer import missing_renderer
from .storage import load, save

__all__ = ["PresentedNodes", "load", "missing_renderer", "present", "render", "restore", "save"]
