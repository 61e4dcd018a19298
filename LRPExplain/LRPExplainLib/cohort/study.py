"""cohort(folders) -> Cohort, and its folder.

cohort.json           facts: members, clusters, what sets them apart (cohort.schema.json)
cohort.md, cohort.html  the same for people; the page holds its pictures
cluster_1.nrrd ...    mean maps on the common grid, each member's divided by its summed magnitudes
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..folders import check_replaceable, whole_folder, write_json
from .collect import Collected, collect
from .common import ALIGNMENTS, Space
from .groups import Groups, central, group, is_odd, normalised, overlap_with_rest
from .page import cohort_page
from .tables import table

FORMAT, VERSION = "lrpexplain-cohort", 1
FACTS, TABLE, PAGE = "cohort.json", "cohort.md", "cohort.html"
OWN = (FACTS, TABLE, PAGE, "cluster_*.nrrd", ".DS_Store", "Thumbs.db")
EDGE_MM = 8.0
EXAMPLES = 3  # of each cluster

Pictures = Mapping[str, Mapping[str, bytes]]  # member -> view -> PNG


@dataclass(frozen=True, eq=False)
class Cohort:
    """A cohort's clusters.

    Attributes:
        facts: cohort.json.
        means: of each cluster the mean map [inputs, K, J, I] on `space`.
        examples: folders of the explanations that stand for each cluster, by member.
    """

    facts: dict[str, Any]
    space: Space
    means: tuple[np.ndarray, ...]
    examples: dict[str, Path]

    def table(self) -> str:
        """For people, as Markdown."""
        return table(self.facts)

    def save(self, folder: str | os.PathLike[str], pictures: Pictures | None = None) -> None:
        """Write the folder, whole or not at all. An empty folder or an earlier cohort is replaced.

        Args:
            pictures: of the examples, as drawn by the views.

        Raises:
            UserError: the folder holds other things, or cannot be written.
        """
        import SimpleITK as sitk

        with whole_folder(Path(folder), OWN) as partial:
            write_json(self.facts, partial / FACTS)
            (partial / TABLE).write_text(self.table() + "\n", encoding="utf-8")
            page = cohort_page(self.facts, self.space, self.means, pictures or {})
            (partial / PAGE).write_text(page, encoding="utf-8")
            for number, mean in enumerate(self.means, 1):
                for n, cells in enumerate(mean, 1):
                    name = f"cluster_{number}.nrrd" if len(mean) == 1 else f"cluster_{number}_{n}.nrrd"
                    sitk.WriteImage(self.space.grid.image(cells.astype(np.float32)), str(partial / name))


def check_cohort_output(folder: str | os.PathLike[str]) -> None:
    """Refuse an output folder before anything is computed.

    Raises:
        UserError: it exists and is neither empty nor a cohort.
    """
    check_replaceable(Path(folder), OWN)


def cohort(
    folders: Sequence[str | os.PathLike[str]],
    clusters: int | None = None,
    edge_mm: float = EDGE_MM,
    align: str = "field",
    seed: int = 0,
    progress: Callable[[str, float], None] = lambda stage, share: None,
) -> Cohort:
    """Cluster the relevance maps of many explanations of one model and class (SpRAy).

    Args:
        folders: explanation folders, or folders that hold them at any depth.
        clusters: how many; None: as the eigengap tells.
        edge_mm: of a cell of the common grid.
        align: how voxels of different volumes correspond, one of `ALIGNMENTS`.
        seed: of k-means and t-SNE.
        progress: called with a stage and the share done.

    Raises:
        UserError: too few explanations, or of different models, classes or numbers of inputs; no such alignment; or
            scikit-learn is missing.
    """
    if align not in ALIGNMENTS:
        raise UserError(f"There is no alignment '{align}': choose {', '.join(ALIGNMENTS)}.")
    if not edge_mm > 0:
        raise UserError(f"A cell is longer than 0 mm, not {edge_mm:g}.")
    found = collect([Path(folder) for folder in folders], edge_mm, align, progress)
    maps = np.stack([member.cells for member in found.members])
    progress("clustering", 0.9)
    groups = group(maps, clusters, seed)
    normed = normalised(maps)
    inside = [groups.labels == label for label in range(groups.count)]
    means = tuple(normed[some].mean(axis=0).reshape(maps.shape[1:]) for some in inside)
    nearest = [central(normed, some, EXAMPLES) for some in inside]
    rows = [
        _cluster(number, found, normed, some, mean, examples)
        for number, (some, mean, examples) in enumerate(zip(inside, means, nearest, strict=True), 1)
    ]
    progress("clustering", 1.0)
    examples = {found.members[n].name: found.members[n].folder for some in nearest for n in some}
    return Cohort(_facts(found, groups, clusters, edge_mm, seed, rows), found.space, means, examples)


def _cluster(
    number: int, found: Collected, normed: np.ndarray, inside: np.ndarray, mean: np.ndarray, examples: list[int]
) -> dict[str, Any]:
    share, overlap = float(inside.mean()), overlap_with_rest(normed, inside)
    strongest = np.unravel_index(int(mean.argmax()), mean.shape)
    return {
        "number": number,
        "size": int(inside.sum()),
        "share": share,
        "overlap_with_rest": overlap,
        "odd": is_odd(overlap, share),
        "strongest_ras": list(found.space.place(tuple(int(n) for n in strongest[1:]))),
        "examples": [found.members[n].name for n in examples],
    }


def _facts(
    found: Collected, groups: Groups, clusters: int | None, edge_mm: float, seed: int, rows: list[dict[str, Any]]
) -> dict[str, Any]:
    members = [
        {
            "name": member.name,
            "folder": str(member.folder.resolve()),
            "cluster": int(label) + 1,
            "place": [float(value) for value in place],
            "target_value": member.target_value,
        }
        for member, label, place in zip(found.members, groups.labels, groups.places, strict=True)
    ]
    return {
        "format": FORMAT,
        "version": VERSION,
        "model": found.model,
        "target": found.target,
        "settings": {"align": found.space.align, "edge_mm": edge_mm, "neighbours": groups.neighbours, "seed": seed},
        "grid": found.space.grid.as_dict(),
        "eigenvalues": [float(value) for value in groups.eigenvalues],
        "clusters_from": "eigengap" if clusters is None else "given",
        "clusters": rows,
        "members": members,
        "left_out": [{"folder": folder, "reason": reason} for folder, reason in found.left_out],
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
