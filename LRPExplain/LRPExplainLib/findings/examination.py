"""All findings of one explanation, each computed when it is first asked for."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from .account import ledger_line, shares_by_input
from .caution import of_answer, of_input, of_reference
from .clusters import Clusters, regions_in_steps
from .field import Field, Index, Point
from .magnitudes import Magnitudes
from .profiles import Profile, profiles_of
from .reference import OUTSIDE, Reference, Share, shares_in_steps, shares_of
from .selection import Selection
from .steps import finished

MOST = 50  # hot spots that are listed; more than that is speckle
_LEAST = 0.0005  # share of relevance; a smaller one would be listed as 0.0 %


@dataclass(frozen=True)
class HotSpot:
    """A connected region of relevance above the threshold.

    Attributes:
        rank: 1 is the region with the most |relevance|.
        share: its part of the |relevance| of all maps together (0..1).
        relevance: its sum.
        ml: its volume.
        mean: relevance per voxel.
        peak, place: the strongest voxel's relevance and where it lies (RAS, mm).
        segment: the segment of the reference that holds most of its relevance; "outside" if most of it lies in none;
            empty without a reference.
        overlap: the part of its |relevance| that lies in that segment (0..1).
    """

    rank: int
    share: float
    relevance: float
    ml: float
    mean: float
    peak: float
    place: Point
    segment: str
    overlap: float

    @property
    def percent(self) -> str:
        """The share for people; the first region is listed however little it holds."""
        return f"{100 * self.share:.1f} %" if self.share >= _LEAST else "< 0.1 %"


@dataclass(frozen=True)
class Readout:
    """What is under the crosshair.

    Attributes:
        relevance: of the voxel.
        hot_spot: the region that holds it; None where it is below the threshold.
        segments: names of the reference's segments that hold it.
        intensity: of the explained volume there, if that is known.
    """

    relevance: float
    hot_spot: HotSpot | None
    segments: tuple[str, ...]
    intensity: float | None = None


class Findings:
    """What one explanation says, in numbers.

    Args:
        maps: the relevance of each input; None for one that has gone.
        volumes: the inputs themselves, each on the grid of its map; None for one that has gone.
        names: of the inputs.
        ledger, card: of the explanation and of its model.
        selection: what counts as a hot spot.
        reference: segments on the grid of the first map, if there are any.
        shown: which of the maps the hot spots, profiles and shares are of.
        target: of the explanation, if that is known.

    Attributes are computed when they are first read, so that a panel can ask for one after the other.
    """

    def __init__(
        self,
        maps: Sequence[Field | None],
        volumes: Sequence[Field | None],
        names: Sequence[str],
        ledger: Mapping[str, Any],
        card: Mapping[str, Any],
        selection: Selection,
        reference: Reference | None = None,
        shown: int = 0,
        magnitudes: Magnitudes | None = None,
        target: Mapping[str, Any] | None = None,
    ) -> None:
        self.maps, self.volumes, self.names = tuple(maps), tuple(volumes), tuple(names)
        self.ledger, self.card, self.target = ledger, card, target
        self.selection, self.reference = selection, reference
        field = self.maps[shown]
        assert field is not None
        self.field = field
        self.volume = self.volumes[shown]
        self.magnitudes = magnitudes or Magnitudes([self.field.values])
        self._of_inputs: dict[int, tuple[str, ...]] = {}

    @property
    def notes(self) -> list[str]:
        """What was assumed or noticed of the model, such as that its network ends in a softmax."""
        return list(self.card.get("notes", ()))

    @cached_property
    def level(self) -> float:
        """The threshold in units of relevance."""
        return self.selection.level(self.magnitudes)

    @cached_property
    def clusters(self) -> Clusters:
        """All regions above the threshold."""
        return finished(self._clusters_in_steps())

    @cached_property
    def hot_spots(self) -> tuple[HotSpot, ...]:
        """The strongest regions, at most `MOST`, and the first of them however little it holds."""
        spots = [self._hot_spot(n) for n in range(min(len(self.clusters), MOST))]
        return tuple(spot for n, spot in enumerate(spots) if n == 0 or spot.share >= _LEAST)

    @cached_property
    def profiles(self) -> tuple[Profile, Profile, Profile]:
        """Relevance per slice along i, j and k."""
        return profiles_of(self.field)

    @cached_property
    def shares(self) -> tuple[Share, ...]:
        """Relevance per segment of the reference, and outside all of them; empty without a reference."""
        return tuple(shares_of(self.field, self.reference)) if self.reference is not None else ()

    def in_steps(self) -> Iterator[None]:
        """Find `clusters`, then `shares`, in steps, for who has other things to do in between."""
        self.clusters = yield from self._clusters_in_steps()
        if self.reference is not None:
            yield
            self.shares = tuple((yield from shares_in_steps(self.field, self.reference)))

    def _clusters_in_steps(self) -> Generator[None, None, Clusters]:
        regions = yield from regions_in_steps(self.field, self.level, self.selection.sign)
        return regions.of_at_least(self.selection.minimum_cluster_ml, self.field.voxel_ml)

    @cached_property
    def inputs(self) -> tuple[tuple[str, float, float], ...]:
        """Of each input: its name, the relevance in it, and that as a share of the target value."""
        return tuple(shares_by_input(self.ledger, list(self.names)))

    @cached_property
    def ledger_line(self) -> str:
        """The ledger as one line."""
        return ledger_line(self.ledger)

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """Sentences worth a radiologist's attention; empty if nothing stands out."""
        of_inputs = (sentence for n in range(len(self.maps)) for sentence in self.of_input(n))
        judged = self.reference is not None and self.reference.judges
        return (
            *of_answer(self.ledger, self.card, self.target),
            *of_inputs,
            *(of_reference(self.shares) if judged else ()),
        )

    def of_input(self, number: int) -> tuple[str, ...]:
        """Those of the warnings that one input gives rise to, which take the longest to find; found once."""
        if number not in self._of_inputs:
            self._of_inputs[number] = self._look_at(number)
        return self._of_inputs[number]

    def _look_at(self, number: int) -> tuple[str, ...]:
        several = len(self.maps) > 1
        return tuple(of_input(self.maps[number], self.volumes[number], self.names[number], number, self.card, several))

    def at(self, index: Index) -> Readout:
        """What is at a voxel (i, j, k) of the map."""
        label = self.clusters.at(index)
        segments = tuple(self.reference.names_at(index)) if self.reference is not None else ()
        intensity = self.volume.at(index) if self.volume is not None else None
        return Readout(self.field.at(index), self._hot_spot(label - 1) if label else None, segments, intensity)

    def _hot_spot(self, n: int) -> HotSpot:
        clusters = self.clusters
        total = self.magnitudes.total()
        relevance, voxels = float(clusters.totals[n]), int(clusters.voxels[n])
        segment, overlap = self._segment_of(n)
        place = self.field.point(clusters.places[n])
        return HotSpot(
            rank=n + 1,
            share=abs(relevance) / total if total else 0.0,
            relevance=relevance,
            ml=voxels * self.field.voxel_ml,
            mean=relevance / voxels,
            peak=float(clusters.peaks[n]),
            place=place,
            segment=segment,
            overlap=overlap,
        )

    @cached_property
    def _overlaps(self) -> list[dict[str, float]]:
        """For each region, |relevance| by the name of the segment it lies in; outside all under `OUTSIDE`."""
        clusters = self.clusters
        found: list[dict[str, float]] = [{} for _ in range(len(clusters))]
        if self.reference is None or not found:
            return found
        where = np.flatnonzero(clusters.labels)
        label = clusters.labels.ravel()[where].astype(np.int64) - 1
        weight = np.abs(self.field.values[clusters.box].ravel()[where]).astype(np.float64)
        covered = np.zeros(len(where), bool)
        for layer in self.reference.layers:
            value = np.asarray(layer.labels[clusters.box]).ravel()[where].astype(np.int64)
            width = max([*layer.names, int(value.max(initial=0))], default=0) + 1
            table = np.bincount(label * width + value, weights=weight, minlength=width * len(found))
            for entry, row in zip(found, table.reshape(len(found), width), strict=True):
                entry.update({name: float(row[v]) for v, name in layer.names.items() if row[v]})
            covered |= np.isin(value, list(layer.names))
        outside = np.bincount(label[~covered], weights=weight[~covered], minlength=len(found))
        for entry, rest in zip(found, outside.tolist(), strict=True):
            if rest:
                entry[OUTSIDE] = rest
        return found

    def _segment_of(self, n: int) -> tuple[str, float]:
        overlaps = self._overlaps[n]
        if not overlaps:
            return "", 0.0
        name = max(overlaps, key=lambda key: overlaps[key])
        return name, overlaps[name] / abs(float(self.clusters.totals[n]))
