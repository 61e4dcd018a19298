"""cohort(folders) -> Cohort: where a model looks over many volumes, in groups, the odd ones first.

cohort.html                     for people: self-contained
cohort.json, cohort.md          the same facts, as cohort.schema.json says, and as tables
cluster_N/mean.nrrd             its mean map, signed, in the common space (mean_2.nrrd ... for further inputs)
cluster_N/mean_axial.png ...    the mean map, of several inputs that with its strongest block, summed along each axis
cluster_N/example_M_axial.png   the slices of an example through its strongest relevance, where they were drawn
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from .. import __version__
from ..explanation import Explanation, relevance_names
from ..folders import check_replaceable, whole_folder, within, write_json
from ..imaging.grid import Grid
from ..imaging.writing import write_image
from ..progress import Progress, nobody
from ..seeds import check_seed
from .anatomy import mean_anatomy
from .collect import find
from .gathering import Used, gather
from .groups import Groups, distances, embed, group, require_sklearn
from .oddness import Figures, figures, largest, typical
from .page import page
from .pictures import projections
from .space import check_space, lie_apart, together
from .tables import tables

FORMAT, VERSION = "lrpexplain-cohort", 1
FACTS, TABLE, PAGE = "cohort.json", "cohort.md", "cohort.html"
SCHEMA = Path(__file__).with_name("cohort.schema.json")
OWN = (FACTS, TABLE, PAGE, "cluster_*", *within("cluster_*", ("mean*.nrrd", "*.png")))
EXAMPLES = 3

Pictures = Mapping[str, Mapping[str, bytes]]


@dataclass(frozen=True, eq=False)
class Cohort:
    """Explanations of many volumes in groups.

    Attributes:
        facts: cohort.json, whose schema is cohort.schema.json.
        means: cluster number -> one float32 image per input: the mean of its maps, each divided by the sum of its
            magnitudes, in the common space; a voxel is the mean share of relevance in that block.
        examples: name -> folder of the explanations that stand for their clusters.
        anatomy: the mean of the examples' volumes in the common space, 0 to 1; None where they were not at hand.
    """

    facts: dict[str, Any]
    means: Mapping[int, Sequence[sitk.Image]]
    examples: Mapping[str, Path]
    anatomy: sitk.Image | None = None

    @property
    def odd(self) -> list[dict[str, Any]]:
        """Facts of the clusters that stand apart, the most apart first."""
        return [cluster for cluster in self.facts["clusters"] if cluster["odd"]]

    def table(self) -> str:
        """For people, as Markdown."""
        return tables(self.facts)

    def save(
        self, folder: str | os.PathLike[str], pictures: Pictures | None = None, missing: str | None = None
    ) -> None:
        """Write the folder, whole or not at all. An empty folder or an earlier cohort is replaced.

        Args:
            pictures: of examples, by name: "axial", "sagittal", "coronal" -> PNG.
            missing: why there are none, or not of all.

        Raises:
            UserError: the folder holds other things, or cannot be written.
        """
        shown = pictures or {}
        drawn = {
            cluster["number"]: projections(self.means[cluster["number"]][cluster["strongest_input"] - 1], self.anatomy)
            for cluster in self.facts["clusters"]
        }
        with whole_folder(Path(folder), OWN) as partial:
            for cluster in self.facts["clusters"]:
                place = partial / f"cluster_{cluster['number']}"
                place.mkdir()
                images = self.means[cluster["number"]]
                for image, name in zip(images, mean_names(len(images)), strict=True):
                    write_image(image, place / name)
                for view, png in drawn[cluster["number"]].items():
                    (place / f"mean_{view}.png").write_bytes(png)
                for n, name in enumerate(cluster["examples"], 1):
                    for view, png in shown.get(name, {}).items():
                        (place / f"example_{n}_{view}.png").write_bytes(png)
            write_json(self.facts, partial / FACTS)
            (partial / TABLE).write_text(self.table() + "\n", encoding="utf-8")
            (partial / PAGE).write_text(page(self.facts, drawn, shown, missing), encoding="utf-8")


def mean_names(count: int) -> list[str]:
    """File names of the mean maps of `count` inputs."""
    return [name.replace("relevance", "mean") for name in relevance_names(count)]


def check_cohort_output(folder: str | os.PathLike[str]) -> None:
    """Refuse an output folder before anything is computed.

    Raises:
        UserError: it exists and is neither empty nor a cohort.
    """
    check_replaceable(Path(folder), OWN)


def cohort(
    folders: Sequence[str | os.PathLike[str]],
    clusters: int | None = None,
    grid_mm: float | None = None,
    align: str = "frame",
    neighbours: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Cohort:
    """Group the explanations of one model by where their relevance lies (spectral relevance analysis).

    Args:
        folders: explanations, or folders that hold them at any depth.
        clusters: how many; None: by the widest gap between eigenvalues.
        grid_mm: edge of the blocks whose summed relevance is compared; None: a 24th of the first volume's longest side.
        align: how places in different volumes correspond: "frame" (fields of view turned upright and stretched onto
            each other; the same as space where all volumes have one geometry), "space" (patient space as it is),
            "centre" (of the field of view) or "target" (the centre of what is predicted as the target). The common
            space lies where the first volume does.
        neighbours: of each map in the graph; None: 1.5 times the square root of how many there are.
        seed: of k-means and of the picture of the groups.
        progress: told the stage and the share that is done.

    Raises:
        UserError: no explanations, fewer than four with a map, of different models, questions or methods, a named one
            that is broken, settings that are none, or scikit-learn is missing.
    """
    require_sklearn()
    check_space(align, grid_mm)
    check_seed(seed)
    tell = progress or nobody
    used, left_out, first, space = gather(find(folders), align, grid_mm, tell)
    tell("grouping", 0.95)
    maps, start, stop = together([blocks for one in used for blocks in one.maps])
    maps = maps.reshape(len(used), -1, *maps.shape[1:])
    maps /= np.abs(maps).sum(axis=(1, 2, 3, 4), keepdims=True, dtype=np.float64).astype(np.float32)
    apart = distances(maps)
    place = space.grid(start, stop)
    groups = group(apart, clusters, neighbours, seed)
    names = [one.found.name for one in used]
    rows, means = _clusters(groups.labels, apart, maps, names, place)
    chosen = {name for row in rows for name in row["examples"]}
    examples = {one.found.name: one.found.folder for one in used if one.found.name in chosen}
    facts = {
        "format": FORMAT,
        "version": VERSION,
        "question": _question(first),
        "model": {key: first.model[key] for key in ("name", "sha256")},
        "method": first.composite["name"],
        "space": {"align": align, "edge_mm": space.edge, "blocks": int(np.prod(place.size)),
                  "geometry": place.as_dict(), "inputs": maps.shape[1]},
        "clustering": _clustering(groups, clusters, seed),
        "clusters": rows,
        "explanations": _explanations(used, rows, embed(apart, seed)),
        "left_out": left_out,
        "notes": _notes(used, align, rows),
        "provenance": {"created": datetime.now(UTC).isoformat(timespec="seconds"), "versions": _versions()},
    }  # fmt: skip
    return Cohort(facts, means, examples, mean_anatomy(examples.values(), space, start, stop))


def _clusters(
    labels: np.ndarray, apart: np.ndarray, maps: np.ndarray, names: Sequence[str], grid: Grid
) -> tuple[list[dict[str, Any]], dict[int, list[sitk.Image]]]:
    """Facts of the clusters, the odd ones first, and their mean maps; numbered by size."""
    main = largest(labels, apart)
    found: dict[int, Figures] = {
        int(label): figures(int(label), main, labels, apart, maps) for label in np.unique(labels)
    }
    by_size = sorted(found, key=lambda label: (label != main, -np.sum(labels == label), label))
    rows, means = [], {}
    for number, label in enumerate(by_size, 1):
        own = np.flatnonzero(labels == label)
        mean = maps[own].mean(axis=0, dtype=np.float64).astype(np.float32)
        means[number] = [grid.image(values) for values in mean]
        one = found[label]
        where = np.unravel_index(int(np.abs(mean).argmax()), mean.shape)
        x, y, z = grid.point([float(n) for n in where[:0:-1]])
        rows.append({
            "number": number, "size": len(own), "share": len(own) / len(labels), "main": label == main, "odd": one.odd,
            "silhouette": one.silhouette, "elsewhere": one.elsewhere, "alike": one.alike,
            "for": float(mean[mean > 0].sum()), "against": float(mean[mean < 0].sum()),
            "strongest_ras_mm": [-x, -y, z], "strongest_input": int(where[0]) + 1,
            "examples": [names[n] for n in own[typical(maps[own])[:EXAMPLES]].tolist()],
            "members": [names[n] for n in own.tolist()],
            "means": [f"cluster_{number}/{name}" for name in mean_names(len(mean))],
        })  # fmt: skip
    return sorted(rows, key=_first_shown), means


def _first_shown(row: Mapping[str, Any]) -> tuple[bool, float, int]:
    """Odd clusters first, those that stand alone or farthest apart before the others; then by size."""
    apart = 1.0 if row["silhouette"] is None else row["silhouette"]
    return not row["odd"], -apart if row["odd"] else 0.0, row["number"]


def _question(first: Explanation) -> dict[str, Any]:
    keys = ("class", "rather_than", "where", "value", "start")
    return {key: first.target[key] for key in keys if key in first.target}


def _clustering(groups: Groups, given: int | None, seed: int) -> dict[str, Any]:
    return {
        "method": "spectral", "neighbours": groups.neighbours, "seed": seed,
        "number_from": "eigengap" if given is None else "given",
        "eigenvalues": [round(float(value), 6) for value in groups.eigenvalues],
    }  # fmt: skip


def _explanations(used: Sequence[Used], rows: Sequence[Mapping[str, Any]], plane: np.ndarray) -> list[dict[str, Any]]:
    number_of = {name: row["number"] for row in rows for name in row["members"]}
    return [
        {
            "name": one.found.name, "cluster": number_of[one.found.name], "target_value": one.target_value,
            "embedding": [round(float(x), 4) for x in place],
        }
        for one, place in zip(used, plane, strict=True)
    ]  # fmt: skip


def _notes(used: Sequence[Used], align: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    notes = []
    if otherwise := [one for one in used if one.changed]:
        several = f"{len(otherwise)} of {len(used)} explanations"
        which = several if len(otherwise) > 1 else f"'{otherwise[0].found.name}'"
        what = ", ".join(sorted({key for one in otherwise for key in one.changed}))
        notes.append(
            f"The volumes of {which} were prepared in another way than those of '{used[0].found.name}' ({what}): that"
            " alone changes a map, and may make a group of its own."
        )
    if align == "space" and lie_apart([blocks for one in used for blocks in one.maps]):
        notes.append(
            "The volumes lie far apart in patient space, so that one place in it is not one place in the body: register"
            " them, or align them by centre, frame or target."
        )
    if len(rows) == 1:
        notes.append(f"The maps of all {len(used)} explanations form one group: none stands apart as a group.")
    return notes


def _versions() -> dict[str, str]:
    import sklearn

    return {"lrpexplain": __version__, "scikit-learn": sklearn.__version__, "numpy": np.__version__}
