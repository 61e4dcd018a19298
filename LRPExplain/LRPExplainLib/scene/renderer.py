"""Whether this machine can draw at all, asked without risk to the process that asks."""

from __future__ import annotations

import functools
import subprocess
import sys

# Without any OpenGL library VTK 9.6 ends the process with a segmentation fault, so a child asks.
_PROBE = """
import vtkmodules.vtkRenderingOpenGL2
from vtkmodules.vtkRenderingCore import vtkRenderWindow
window = vtkRenderWindow()
window.SetOffScreenRendering(1)
window.SetSize(8, 8)
window.Render()
raise SystemExit(0 if window.SupportsOpenGL() else 1)
"""
_HOW_TO_GET_ONE = {
    "linux": "install the software renderer of your distribution (Debian, Ubuntu: apt install libegl1)",
}
_PROBE_SECONDS = 60


@functools.cache
def missing_renderer() -> str | None:
    """None if VTK can draw off screen here; otherwise one sentence that says why not and what to do."""
    try:
        result = subprocess.run(
            [sys.executable, "-c", _PROBE], capture_output=True, timeout=_PROBE_SECONDS, check=False
        )
        failed = result.returncode != 0
    except (OSError, subprocess.TimeoutExpired):
        failed = True
    if not failed:
        return None
    advice = _HOW_TO_GET_ONE.get(sys.platform, "install a graphics driver with OpenGL 3.2 or later")
    return f"No pictures were drawn because this machine has no OpenGL renderer: {advice}."
