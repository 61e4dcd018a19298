"""The files of a trained model, in a folder or in a zip file."""

import json
from pathlib import Path, PurePosixPath
from typing import Any

from ...digests import sha256_of
from ...errors import UserError
from ..archive import Source, is_zip, opened

PLANS, DATASET = "plans.json", "dataset.json"
# The first that a fold has; the last is what a training that was stopped leaves.
CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_best.pth", "checkpoint_latest.pth")
# Plans and dataset files that are larger than this are none.
_TEXT_BYTES = 16 << 20


class TrainedModel:
    """Names of files are relative to the model's root, with "/".

    Attributes:
        name: how an error calls it.
        names: all files in it.
    """

    def __init__(self, path: Path, root: str = "") -> None:
        """
        Args:
            path: a folder or a zip file.
            root: within a zip file, the folder of the model, with "/" at its end.
        """
        self.path, self._root = path, root
        self.name = str(path)
        if path.is_dir():
            self.names = {file.relative_to(path).as_posix() for file in path.glob("fold_*/*.pth")}
            self.names |= {file for file in (PLANS, DATASET) if (path / file).is_file()}
        else:
            self.names = {name.removeprefix(root) for name in _members(path) if name.startswith(root)}

    def checkpoints(self) -> list[str]:
        """One for each fold, as nnU-Net chooses them; fold_all only where there is no other."""
        folds = sorted({name.split("/")[0] for name in self.names if name.startswith("fold_")})
        folds = [fold for fold in folds if fold != "fold_all"] or folds
        for kind in CHECKPOINTS:
            found = [f"{fold}/{kind}" for fold in folds if f"{fold}/{kind}" in self.names]
            if found:
                return found
        raise UserError(
            f"'{self.name}' has no fold with {' or '.join(CHECKPOINTS)}: train it, or give the folder of the trained"
            " model (TRAINER__PLANS__CONFIGURATION)."
        )

    def left_out(self, checkpoints: list[str]) -> str | None:
        """What to say of folds that have a checkpoint, but not of the kind that is read of the others."""
        read, kind = {file.split("/")[0] for file in checkpoints}, PurePosixPath(checkpoints[0]).name
        trained = {name.split("/")[0] for name in self.names if name.startswith("fold_") and name.endswith(CHECKPOINTS)}
        rest = sorted(trained - read - {"fold_all"})
        return f"Left out, without the {kind} that is read of the other folds: {', '.join(rest)}." if rest else None

    def json(self, file: str) -> Any:
        """The content of a JSON file.

        Raises:
            UserError: it is missing, or none.
        """
        if file not in self.names:
            raise UserError(f"'{self.name}' has no {file}: give a whole trained model of nnU-Net v2.")
        try:
            source = self.source(file, _TEXT_BYTES)
            return json.loads(source if isinstance(source, bytes) else source.read_bytes())
        except (ValueError, RecursionError) as error:
            raise UserError(f"'{self.name}/{file}' is not readable JSON: fetch the model again.") from error

    def source(self, file: str, limit: int | None = None) -> Source:
        """Where a file can be read from."""
        if self.path.is_dir():
            source = self.path / file
            size = source.stat().st_size
        else:
            with opened(self.path, self.name) as archive:
                size = archive.getinfo(self._root + file).file_size
                source = archive.read(self._root + file) if limit is None or size <= limit else b""  # type: ignore[assignment]
        if limit is not None and size > limit:
            raise UserError(f"'{self.name}/{file}' is larger than {limit >> 20} MiB, which it never is: do not use it.")
        return source

    def digest(self, checkpoints: list[str]) -> str:
        """SHA-256 of the zip file, or of plans, dataset and these checkpoints."""
        if not self.path.is_dir():
            return sha256_of(self.path)
        return sha256_of(*(self.path / file for file in (PLANS, DATASET, *checkpoints)))


def trained_model(path: Path) -> tuple[TrainedModel, list[str] | None] | None:
    """The trained model that a path stands for, and the checkpoints if it names them; None if it is none.

    Raises:
        UserError: a zip file that holds several.
    """
    if path.is_dir():
        described = [(path / file).is_file() for file in (PLANS, DATASET)]
        if all(described) or (any(described) and any(path.glob("fold_*"))):  # which of them is missing, `json` says
            return TrainedModel(path), None
        if path.name.startswith("fold_") and (path.parent / PLANS).is_file():
            model = TrainedModel(path.parent)
            found = [f"{path.name}/{kind}" for kind in CHECKPOINTS if f"{path.name}/{kind}" in model.names]
            return model, found[:1] or model.checkpoints()
        return None
    if path.suffix == ".pth" and path.parent.name.startswith("fold_") and (path.parents[1] / PLANS).is_file():
        return TrainedModel(path.parents[1]), [f"{path.parent.name}/{path.name}"]
    if path.suffix.lower() == ".zip" and is_zip(path):
        roots = sorted(name.removesuffix(PLANS) for name in _members(path) if PurePosixPath(name).name == PLANS)
        if len(roots) > 1:
            names = ", ".join(PurePosixPath(root).name for root in roots)
            raise UserError(f"'{path}' holds several trained models ({names}): unpack it and give the folder of one.")
        return (TrainedModel(path, roots[0]), None) if roots else None
    return None


def _members(path: Path) -> list[str]:
    with opened(path, str(path)) as archive:
        return [member.filename for member in archive.infolist() if not member.is_dir()]
