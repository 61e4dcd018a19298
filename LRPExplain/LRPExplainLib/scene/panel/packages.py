"""The Python packages that computing needs: looked for, and installed after asking."""

from __future__ import annotations

import importlib.util
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import slicer
from slicer.i18n import tr as _

from ...errors import UserError
from ...worker import missing_of, missing_requirements


def ensure(file: Path) -> None:
    """Make sure that the packages of a requirements file are installed; asks before it installs any.

    PyTorch is left to the PyTorch extension where that is installed, since it finds the build for the graphics card.

    Raises UserError if one is still missing.
    """
    missing = missing_requirements(file)
    if not missing or slicer.app.testingEnabled():  # a test never changes the Python that it runs in
        _refuse(missing)
        return
    torch = next((line for line in missing if line.startswith("torch")), None)
    if torch and hasattr(slicer.modules, "pytorchutils"):
        if not _install_torch(torch):  # declined: not asked again, neither for this nor for what needs it
            _refuse(missing)
        missing.remove(torch)
    if missing:
        _install(missing)
    _refuse(missing_requirements(file))


def ensure_optional(requirements: Sequence[str]) -> None:
    """The same for packages that a single function needs."""
    missing = missing_of(requirements)
    if missing and not slicer.app.testingEnabled():
        _install(missing)
    _refuse(missing_of(requirements))


def _refuse(missing: Sequence[str]) -> None:
    if missing:
        raise UserError(
            _("Python packages are not installed: {names}. Press the button again and agree to install them.").format(
                names=", ".join(missing)
            )
        )


@contextmanager
def _failing_in_a_sentence(names: Sequence[str]) -> Iterator[None]:
    try:
        yield
    except (subprocess.CalledProcessError, OSError, ImportError) as error:
        reason = str(error)
        if isinstance(error, subprocess.CalledProcessError):
            reason = _("exit code {code}").format(code=error.returncode)
        raise UserError(
            _(
                "Installing {names} failed ({reason}): the Python console has pip's own words. Check the network and"
                " the space on the disk, and press the button again."
            ).format(names=", ".join(names), reason=reason)
        ) from error


def _install_torch(requirement: str) -> bool:
    with _failing_in_a_sentence([requirement]):
        import PyTorchUtils

        version = requirement.removeprefix("torch") or None
        return PyTorchUtils.PyTorchUtilsLogic().installTorch(True, torchVersionRequirement=version) is not None


def _install(missing: list[str]) -> None:
    with _failing_in_a_sentence(missing):
        if importlib.util.find_spec("slicer.packaging"):  # Slicer 5.12 and later
            from slicer.packaging import pip_ensure

            try:
                pip_ensure(missing, requester="LRPExplain")
            except RuntimeError:  # declined; `ensure` says what is missing
                return
        else:
            question = _("These Python packages will be downloaded and installed: {names}. Continue?")
            if slicer.util.confirmOkCancelDisplay(question.format(names=", ".join(missing))):
                slicer.util.pip_install(" ".join(missing))
