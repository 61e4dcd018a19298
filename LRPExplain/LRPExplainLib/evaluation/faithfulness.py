"""Does the model go by what the map says? Pieces of the volume are replaced, and the target value is followed.

Pieces are made and ranked in the volume's own geometry, where relevance is, replaced in the model's input, and the
answer is predicted as any other: through windows, blended, read at the same voxels.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from scipy.ndimage import maximum, minimum
from torch import Tensor

from ..errors import UserError
from ..folders import json_number
from ..progress import Progress, nobody
from ..seeds import check_seed
from .baselines import BASELINES, Original, Replace
from .clock import Clock
from .curves import abpc, aopc, area, faithfulness_correlation, steps
from .localisation import Array
from .subject import Subject
from .supervoxels import EDGE_MM, PIECES, brought_to, relevance_of

_LEAST = 8  # pieces: with fewer there is no order to speak of
_EMPTY = 0.01  # of all voxels: a value that so many share is that of empty space


@dataclass(frozen=True)
class Perturbation:
    """How the volume is perturbed.

    Attributes:
        pieces: "blocks" or "slic".
        edge_mm: of a piece.
        baselines: what pieces are replaced by, names of `BASELINES`.
        runs: random sets of pieces for the faithfulness correlation; 0: none.
        subset: share of all pieces in each of these sets.
        seed: of the sets.
    """

    pieces: str = "blocks"
    edge_mm: float = EDGE_MM
    baselines: tuple[str, ...] = tuple(BASELINES)
    runs: int = 20
    subset: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        check_seed(self.seed)
        for names, choice, what in (
            ((self.pieces,), PIECES, "kind of pieces"),
            (self.baselines, BASELINES, "baseline"),
        ):
            if not names:
                raise UserError(f"No {what} is named: choose from {', '.join(choice)}.")
            for name in names:
                if name not in choice:
                    raise UserError(f"There is no {what} '{name}': choose {', '.join(choice)}.")
        if not 0 < self.subset < 1 or self.runs < 0:
            raise UserError("Random sets hold more than none and less than all pieces: give a share between 0 and 1.")


class Perturbed:
    """A subject's volume in pieces; made once, any number of maps can be tested on it.

    Attributes:
        pieces: the numbers of those that can be replaced: the model sees them, and they are not empty, as the air
            around a head is: nothing but the one value that is most frequent in the volume.
        sets: random sets of them, for the faithfulness correlation.
    """

    def __init__(
        self,
        subject: Subject,
        how: Perturbation = Perturbation(),
        voxels: Array | None = None,
        score: Callable[[Tensor], float] | None = None,
    ) -> None:
        """
        Args:
            voxels: the first volume [K, J, I], which supervoxels need.
            score: what to read off an output instead of the target value; see `Subject.values`.

        Raises:
            UserError: there are too few pieces.
        """
        self.subject, self.how, self._score = subject, how, score
        prepared = subject.prepared
        first = prepared.sources[0]
        labels = PIECES[how.pieces](first, how.edge_mm, voxels)
        self._labels = [labels] + [brought_to(labels, first, grid) for grid in prepared.sources[1:]]
        self._on_grid = brought_to(labels, first, prepared.grid) * prepared.inside.numpy()
        x = prepared.tensor[0].numpy()
        numbers = np.unique(self._on_grid)
        numbers = numbers[numbers > 0]
        shows = np.zeros(len(numbers), dtype=bool)
        for channel in x:
            empty = _empty_value(channel[self._on_grid > 0])
            shows |= (maximum(channel, self._on_grid, numbers) != empty) | (
                minimum(channel, self._on_grid, numbers) != empty
            )
        self.pieces = numbers[shows]
        if len(self.pieces) < _LEAST:
            raise UserError(
                f"The volume falls into {len(self.pieces)} pieces of {how.edge_mm:g} mm, too few to rank:"
                " choose smaller ones."
            )
        edge = tuple(how.edge_mm / step for step in reversed(prepared.grid.spacing))
        self._original = Original(x, self._mask(self.pieces), edge)
        self._replacers: dict[str, Replace] = {}
        self.points = steps(len(self.pieces))
        rng = np.random.default_rng(how.seed)
        size = max(1, round(how.subset * len(self.pieces)))
        self.sets = [rng.choice(self.pieces, size, replace=False) for _ in range(how.runs)]
        self._drops: dict[str, list[float]] = {}
        self.full: float | None = None

    def relevance(self, maps: Sequence[Array]) -> Array:
        """Each piece's relevance, in the order of `pieces`, from maps on the volumes [K, J, I]."""
        return relevance_of(self._labels, maps)[self.pieces]

    def replaced(self, baseline: str, sets: Sequence[Array]) -> Iterator[Tensor]:
        """Inputs in which these pieces are replaced."""
        if baseline not in self._replacers:
            self._replacers[baseline] = BASELINES[baseline](self._original)
        for pieces in sets:
            yield torch.from_numpy(self._replacers[baseline](self._mask(pieces)).astype(np.float32))[None]

    def values(self, baseline: str, sets: Sequence[Array], clock: Clock) -> list[float]:
        """The target value with these pieces replaced."""
        return list(self.subject.values(self.replaced(baseline, sets), clock.tell, self._score))

    def first(self, clock: Clock) -> float:
        """The target value of the volume as it is."""
        if self.full is None:
            self.full = next(self.subject.values([self.subject.prepared.tensor], clock.tell, self._score))
        return self.full

    def drops(self, baseline: str, clock: Clock) -> list[float]:
        """By how much each of the random sets lowers the target value."""
        if baseline not in self._drops:
            first = self.first(clock)
            self._drops[baseline] = [first - value for value in self.values(baseline, self.sets, clock)]
        return self._drops[baseline]

    def sums(self, relevance: Array) -> list[float]:
        """The relevance in each of the random sets."""
        of = dict(zip(self.pieces.tolist(), relevance.tolist(), strict=True))
        return [sum(of[number] for number in chosen.tolist()) for chosen in self.sets]

    @property
    def runs(self) -> int:
        """How many predictions one map takes, at most."""
        return 1 + len(self.how.baselines) * self._replacements

    def seconds(self) -> float:
        """About how long replacing pieces takes, judged by half of them replaced once by each baseline."""
        once = 0.0
        for baseline in self.how.baselines:
            made = self.replaced(baseline, [self.pieces[:1], self.pieces[::2]])
            next(made)  # with what is done but once
            begin = time.perf_counter()
            next(made)
            once += time.perf_counter() - begin
        return once * self._replacements

    @property
    def _replacements(self) -> int:
        return 3 * (len(self.points) - 2) + 1 + len(self.sets)

    def _mask(self, pieces: Array) -> Array:
        chosen = np.zeros(int(self._on_grid.max()) + 1, dtype=bool)
        chosen[pieces] = True
        return np.asarray(chosen[self._on_grid])


def faithfulness(perturbed: Perturbed, maps: Sequence[Array], progress: Progress = nobody) -> dict[str, Any]:
    """Perturbation curves of a map, and what they say.

    Args:
        maps: relevance on each volume, [K, J, I].

    Returns:
        JSON-ready: "settings", "target_value" of the unperturbed volume, "pieces" (how many), "baselines": per baseline
        the curves "most_relevant_first", "least_relevant_first" and "insertion" (lists of {"pieces", "score"}; a score
        is the target value over that of the unperturbed volume, in magnitude), "aopc_most_relevant_first",
        "aopc_least_relevant_first", "abpc", "deletion_auc", "insertion_auc" and "faithfulness_correlation" (None where
        not defined).
    """
    clock = Clock(progress, "perturbing", perturbed.runs * perturbed.subject.views)
    relevance = perturbed.relevance(maps)
    order = perturbed.pieces[np.argsort(-relevance, kind="stable")]
    first = perturbed.first(clock)
    if first == 0:
        raise UserError("The model's output is exactly 0 where it is asked, so no drop can be told.")
    return {
        "settings": asdict(perturbed.how) | {"baselines": list(perturbed.how.baselines)},
        "target_value": first,
        "pieces": len(order),
        "baselines": {
            name: _one_baseline(perturbed, name, order, relevance, first, clock) for name in perturbed.how.baselines
        },
    }


def _one_baseline(
    perturbed: Perturbed, baseline: str, order: Array, relevance: Array, first: float, clock: Clock
) -> dict[str, Any]:
    points, count = perturbed.points, len(order)
    inner = points[1:-1]
    (none,) = perturbed.values(baseline, [order], clock)
    most = perturbed.values(baseline, [order[:n] for n in inner], clock)
    least = perturbed.values(baseline, [order[count - n :] for n in inner], clock)
    insertion = perturbed.values(baseline, [order[n:] for n in inner], clock)
    curves = {
        "most_relevant_first": np.array([first, *most, none]) / abs(first),
        "least_relevant_first": np.array([first, *least, none]) / abs(first),
        "insertion": np.array([none, *insertion, first]) / abs(first),
    }
    shares = [n / count for n in points]
    correlation = np.nan
    if perturbed.how.runs > 1:
        correlation = faithfulness_correlation(perturbed.sums(relevance), perturbed.drops(baseline, clock))
    return {
        **{
            name: [{"pieces": n, "score": float(score)} for n, score in zip(points, curve, strict=True)]
            for name, curve in curves.items()
        },
        "aopc_most_relevant_first": aopc(curves["most_relevant_first"]),
        "aopc_least_relevant_first": aopc(curves["least_relevant_first"]),
        "abpc": abpc(curves["most_relevant_first"], curves["least_relevant_first"]),
        "deletion_auc": area(shares, curves["most_relevant_first"]),
        "insertion_auc": area(shares, curves["insertion"]),
        "faithfulness_correlation": json_number(correlation),
    }


def _empty_value(values: Array) -> float:
    """What empty space is filled with; NaN, which nothing equals, where no value is so frequent."""
    found, counts = np.unique(values, return_counts=True)
    if not len(found):
        return np.nan
    most = int(counts.argmax())
    return float(found[most]) if counts[most] > max(1, _EMPTY * len(values)) else np.nan
