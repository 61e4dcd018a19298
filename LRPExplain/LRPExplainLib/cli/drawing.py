"""Pictures and progress bars of the command line."""

import importlib.util
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError

if TYPE_CHECKING:
    from ..explanation import Explanation


def require_views() -> None:
    if importlib.util.find_spec("slicer") is None:
        raise UserError(
            "Pictures need 3D Slicer's core: install it with 'pip install slicer-core', or leave the pictures out."
        )
    from ..scene import missing_renderer

    missing = missing_renderer()
    if missing:
        raise UserError(missing)


def render(explanation: "Explanation", folder: Path, bundle: Path | None = None, slices_only: bool = False) -> None:
    from .. import scene

    with bar() as progress:
        progress("presenting", 0.0)
        presented = scene.present(explanation)
        scene.render(presented, folder, progress, slices_only)
        if bundle is not None:
            progress("saving", 1.0)
            scene.save(presented, bundle)


def pictures_of(
    explanation: "Explanation", views: Sequence[str] = ("axial", "sagittal", "coronal", "3d")
) -> tuple[dict[str, bytes], str | None]:
    """What the views draw of an explanation as PNG, by the view's name (of a single slice one alone); or why there is
    nothing.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            require_views()
            render(explanation, Path(folder), slices_only="3d" not in views)
        except UserError as missing:  # figures are worth having without them; the page says why it has none
            return {}, str(missing)
        drawn = {name: Path(folder) / f"{name}.png" for name in views}
        return {name: path.read_bytes() for name, path in drawn.items() if path.is_file()}, None


@contextmanager
def bar() -> Iterator[Callable[[str, float], None]]:
    """A progress bar on standard error, if that is a terminal; it is wiped at the end."""
    from tqdm import tqdm

    shape = "{desc:<12} {percentage:3.0f} %|{bar}| {elapsed}"
    with tqdm(total=1.0, disable=None, leave=False, bar_format=shape) as bar:

        def progress(stage: str, share: float) -> None:
            bar.set_description_str(stage, refresh=False)
            bar.update(share - bar.n)
            bar.refresh()

        yield progress
