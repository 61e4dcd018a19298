"""The Explanation: everything one request produced, as one value, and the one folder format it is kept in.

relevance.nrrd (relevance_2.nrrd ...)   float32, in the geometry of each source volume
prediction.seg.nrrd or prediction.json  what the model said
explanation.json                        target, composite, ledger, model, volumes, provenance
"""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from .errors import UserError, reason
from .folders import check_replaceable, read_json, whole_folder, within, write_json
from .imaging.grid import Grid
from .imaging.segmentation import write_segmentation
from .imaging.writing import write_image

FORMAT = "lrpexplain-explanation"
VERSION = 1
FACTS = "explanation.json"
SEGMENTATION = "prediction.seg.nrrd"
PROBABILITIES = "prediction.json"
VIEWS = "views"
# What `concepts` adds to the folder of the whole explanation: tables, and a folder for each part of it.
CONCEPTS, CONCEPTS_TABLE, CONCEPT = "concepts.json", "concepts.md", "concept-{rank}"
OTHER_CHANNELS, NOT_THROUGH = "other-channels", "not-through"
# What an explanation folder consists of; only such a folder is ever replaced.
_WHOLE = (FACTS, SEGMENTATION, PROBABILITIES, "relevance.nrrd", "relevance_*.nrrd")
_PARTS = (CONCEPT.format(rank="*"), OTHER_CHANNELS, NOT_THROUGH)
OWN = (
    *_WHOLE, VIEWS, *within(VIEWS, ("*.png",)), CONCEPTS, CONCEPTS_TABLE, *_PARTS,
    *(pattern for part in _PARTS for pattern in within(part, _WHOLE)),
)  # fmt: skip
_FACTS = ("target", "composite", "ledger", "model", "volumes", "provenance")


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the model said.

    Attributes:
        segmentation: uint8 label map in the geometry of the first volume (None for a classification); a voxel's
            value is an index of `classes`, 0 being the background.
        probabilities: class name -> probability, or for a regression name -> value (empty for a segmentation).
        classes: {"name": str, "color": [r, g, b] in 0..255}; where classes may overlap, which a label map cannot show,
            also "voxels": how many have this class, and "centre_ras": their centre of mass, if there are any.
    """

    segmentation: sitk.Image | None
    probabilities: dict[str, float]
    classes: list[dict[str, Any]]

    def sizes(self) -> list[dict[str, Any]]:
        """Of a segmentation, each class with what it takes up: {"name", "voxels", "ml"}; else empty."""
        if self.segmentation is None:
            return []
        counts = np.bincount(sitk.GetArrayViewFromImage(self.segmentation).ravel(), minlength=len(self.classes))
        voxel_ml = float(np.prod(self.segmentation.GetSpacing())) / 1000
        found = [entry.get("voxels", shown) for entry, shown in zip(self.classes, counts.tolist(), strict=False)]
        return [
            {"name": entry["name"], "voxels": count, "ml": count * voxel_ml}
            for entry, count in zip(self.classes, found, strict=False)
        ]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Prediction):
            return NotImplemented
        mine, theirs = self.segmentation, other.segmentation
        same = mine is theirs is None or (mine is not None and theirs is not None and _same_image(mine, theirs))
        return same and (self.probabilities, self.classes) == (other.probabilities, other.classes)

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, eq=False)
class Explanation:
    """Why a model said what it said about its volumes.

    Attributes:
        relevance: one float32 image per input volume, voxel by voxel on the volume's own grid.
        prediction: what the model said.
        target: {"class", "index", "where", "value", "start", "text", ...}: what was explained; see `question.Asked`.
        composite: {"name", "description", "normalization", "biases", "rules": [{"match", "rule"}]}; of another method
            than LRP also "method" and "parameters", and no rules.
        ledger: {"target_value", "in_volume", "absorbed", "outside", "gap", "relative_gap", "by_layer", ...}; of
            another method also "conserves" (whether the map sums to the target value) and "note" (what its sum means).
        model: {"name", "path", "sha256", "card"}, and "card_file" where the card does not lie beside the model under
            its name.
        volumes: per input {"name", "path", "sha256", "geometry"}; the path is None for an image given in memory. The
            segmentation that a cascade's previous stage made of the others is the last, with that model's
            {"name", "path", "sha256"} as "made_by".
        provenance: {"created", "versions", "device", "timings", "run"}.

    All dictionaries hold JSON values. Two explanations are equal when all of it is, images voxel by voxel.
    """

    relevance: tuple[sitk.Image, ...]
    prediction: Prediction
    target: dict[str, Any]
    composite: dict[str, Any]
    ledger: dict[str, Any]
    model: dict[str, Any]
    volumes: list[dict[str, Any]]
    provenance: dict[str, Any]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Explanation):
            return NotImplemented
        return (
            len(self.relevance) == len(other.relevance)
            and all(_same_image(a, b) for a, b in zip(self.relevance, other.relevance, strict=True))
            and self.prediction == other.prediction
            and all(getattr(self, name) == getattr(other, name) for name in _FACTS)
        )

    __hash__ = None  # type: ignore[assignment]

    @property
    def given(self) -> int:
        """How many of the volumes were given, which are the first ones."""
        return len(given_volumes(self.volumes))

    def prepared_differently(self, other: Explanation) -> list[str]:
        """What of the card's preprocessing, windows among it, is not the same in another explanation of the model."""
        a, b = (one.model.get("card", {}).get("preprocessing", {}) for one in (self, other))
        return sorted(key for key in {*a, *b} if a.get(key) != b.get(key))

    def save(self, folder: str | os.PathLike[str], compressed: bool = True) -> None:
        """Write the folder, whole or not at all. An empty folder or an earlier explanation is replaced.

        Args:
            compressed: what is to be kept; a folder that is read once and removed is quicker without.

        Raises:
            UserError: the folder holds other things, or cannot be written.
        """
        with whole_folder(Path(folder), OWN) as partial:
            self.write(partial, compressed)

    def write(self, folder: Path, compressed: bool = True) -> None:
        """Write the files into an existing folder."""
        facts: dict[str, Any] = {"format": FORMAT, "version": VERSION}
        facts |= {name: getattr(self, name) for name in _FACTS}
        for image, name in zip(self.relevance, relevance_names(len(self.relevance)), strict=True):
            # the noise in floating-point digits hardly compresses: the fastest level keeps the zeros small
            write_image(image, folder / name, compressed, level=1)
        if self.prediction.segmentation is not None:
            facts["classes"] = self.prediction.classes
            write_segmentation(self.prediction.segmentation, self.prediction.classes, folder / SEGMENTATION, compressed)
        else:
            said = {"classes": self.prediction.classes, "probabilities": self.prediction.probabilities}
            write_json(said, folder / PROBABILITIES)
        write_json(facts, folder / FACTS)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Explanation:
        """Read a folder back into an equal value.

        Raises:
            UserError: it is no explanation folder, of a later version, or incomplete.
        """
        steps = cls.load_in_steps(folder)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return end.value

    @classmethod
    def load_in_steps(cls, folder: str | os.PathLike[str]) -> Generator[None, None, Explanation]:
        """As `load`, yielding after each volume, for who has to serve a user in between."""
        folder = Path(folder)
        facts = _read_json(folder / FACTS)
        if facts.get("format") != FORMAT:
            raise UserError(f"'{folder}' is not an explanation folder: give one that LRPExplain wrote.")
        if facts.get("version") != VERSION:
            raise UserError(f"'{folder}' is of format version {facts.get('version')}: update LRPExplain to read it.")
        try:
            grids = [Grid.from_dict(entry["geometry"]) for entry in facts["volumes"]]
            names = relevance_names(len(grids))
            relevance = []
            for name, grid in zip(names, grids, strict=True):
                relevance.append(_read_image(folder / name, grid))
                yield
            return cls(
                tuple(relevance), _read_prediction(folder, facts, grids[0]), **{name: facts[name] for name in _FACTS}
            )
        except (AttributeError, LookupError, OverflowError, TypeError, ValueError) as error:
            raise UserError(f"'{folder / FACTS}' is incomplete ({reason(error)}): explain the volume again.") from error


def check_output(folder: str | os.PathLike[str]) -> None:
    """Refuse an output folder before anything is computed.

    Raises:
        UserError: it exists and is neither empty nor an explanation folder.
    """
    check_replaceable(Path(folder), OWN)


def relevance_names(count: int) -> list[str]:
    """File names of the relevance volumes of `count` inputs."""
    return ["relevance.nrrd", *(f"relevance_{n}.nrrd" for n in range(2, count + 1))][:count]


def given_volumes(volumes: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Of an explanation's volumes those that were given, which are the first ones; an earlier stage made the others."""
    return [entry for entry in volumes if "made_by" not in entry]


def _read_prediction(folder: Path, facts: dict[str, Any], grid: Grid) -> Prediction:
    if "classes" in facts:
        return Prediction(_read_image(folder / SEGMENTATION, grid), {}, facts["classes"])
    said = _read_json(folder / PROBABILITIES)
    return Prediction(None, said["probabilities"], said["classes"])


def _read_image(path: Path, grid: Grid) -> sitk.Image:
    """An image with exactly the geometry it was written with: NRRD's header mixes spacing and direction, and rounds."""
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise UserError(f"'{path}' is missing or damaged ({reason(error)}): explain the volume again.") from error
    if image.GetSize() != grid.size:
        raise UserError(f"'{path}' does not have the size that {FACTS} tells: explain the volume again.")
    for key in image.GetMetaDataKeys():  # the segment table of a segmentation; `Prediction.classes` holds it
        image.EraseMetaData(key)
    return grid.stamp(image)


def _same_image(a: sitk.Image, b: sitk.Image) -> bool:
    if a.GetPixelID() != b.GetPixelID() or Grid.of(a) != Grid.of(b):
        return False
    return bool(np.array_equal(sitk.GetArrayViewFromImage(a), sitk.GetArrayViewFromImage(b)))


def _read_json(path: Path) -> dict[str, Any]:
    content = read_json(path, "an explanation folder that LRPExplain wrote", "explain the volume again")
    return content if isinstance(content, dict) else {}
