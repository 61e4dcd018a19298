"""Where the files of a record are now."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..digests import sha256_of
from ..errors import UserError, number_of
from ..explanation import given_volumes
from ..imaging.reading import volume_digest
from .aliases import last_part


@dataclass(frozen=True)
class Places:
    """Where to look for what a record names.

    Attributes:
        model: the model's file or folder; None: it is looked for.
        volumes: one per input, in the record's order; empty: they are looked for.
        segment: the segmentation that was asked about; None: it is looked for.
        card: the model's card, where it does not lie beside the model; None: it is looked for.
        near: folders in which files of the recorded name are looked for, where the recorded path is not there.
    """

    model: Path | None = None
    volumes: Sequence[Path] = ()
    segment: Path | None = None
    card: Path | None = None
    near: Sequence[Path] = ()

    def model_of(self, facts: dict[str, Any]) -> Path:
        """Errors as `_find`."""
        return self._find("model", facts["model"]["path"], self.model, "--model", facts["model"]["sha256"])

    def volumes_of(self, facts: dict[str, Any]) -> list[Path]:
        """Raises UserError besides where their number is wrong, or one was given from memory."""
        wanted = given_volumes(facts["volumes"])
        if self.volumes and len(self.volumes) != len(wanted):
            raise UserError(
                f"The record is of {number_of(len(wanted), 'volume')}, but got {len(self.volumes)}: give each."
            )
        given: list[Path | None] = [*self.volumes] if self.volumes else [None] * len(wanted)
        return [
            self._find("volume", entry["path"] or entry["name"], place, "--volume", entry["sha256"])
            for entry, place in zip(wanted, given, strict=True)
        ]

    def segment_of(self, facts: dict[str, Any]) -> Path | None:
        """The segmentation that was asked about, if that was the question."""
        if facts["target"]["where"] != "segment":
            return None
        region = facts["target"]["region"]
        name = region["file"] or region["segment"]
        return self._find("segmentation", name, self.segment, "--segment", region["sha256"])

    def card_of(self, facts: dict[str, Any]) -> Path | None:
        """The card, if it is given or was another one than that beside the model, and is still there."""
        if self.card is not None or "card_file" not in facts["model"]:
            return self.card
        return next((each for each in self._candidates(facts["model"]["card_file"]) if each.is_file()), None)

    def _candidates(self, recorded: str) -> list[Path]:
        return [Path(recorded), *(folder / last_part(recorded) for folder in self.near)]

    def _find(self, what: str, recorded: str, given: Path | None, option: str, sha256: str | None) -> Path:
        """Where it is: of several files of its name the one with this SHA-256, else the first one.

        Raises:
            UserError: nowhere.
        """
        candidates = [given] if given is not None else self._candidates(recorded)
        found = [candidate for candidate in candidates if candidate.exists()]
        if found:
            digest = sha256_of if what == "model" else volume_digest
            same = (each for each in found if each.is_file() and digest(each) == sha256)
            return found[0] if len(found) == 1 else next(same, found[0])
        name = given if given is not None else recorded
        raise UserError(f"The {what} '{name}' is not here: say where it is with {option}.")
