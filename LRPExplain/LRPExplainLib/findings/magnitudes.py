"""How much relevance lies above a level, without sorting millions of voxels each time a slider moves.

The bit pattern of a non-negative float32 orders as the number does, so its leading bits are a histogram with bins of
constant relative width (2**-7) over the whole range. It is made once; a level is then looked up in it and made exact
by sorting the voxels of one bin.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

_SHIFT = 16  # of the 32 bits; 8 bits of exponent and 7 of mantissa remain, and the sign: a table that fits the cache
_MAGNITUDE = np.uint32(0x7FFFFFFF)  # without the sign
_NOTHING = np.float32(1e-35).view(np.uint32)  # denormal numbers add nothing, but cost twenty times as much
_ARM = 1 << (31 - _SHIFT)  # bins of one sign


class Magnitudes:
    """The distribution of relevance in one or several maps, for positive and negative relevance."""

    def __init__(self, maps: Iterable[NDArray[np.floating]]) -> None:
        self._maps = list(maps)  # that are yet to be counted
        self._bits: list[NDArray[np.uint32]] = []
        self._counts = np.zeros(2 * _ARM)
        self._known: dict[tuple[float, str], float] = {}  # levels that were asked for

    def count(self) -> Iterator[None]:
        """Count a map in each step, for who has other things to do in between; else whoever asks first counts all."""
        while self._maps:
            bits = np.ascontiguousarray(self._maps.pop(0), np.float32).ravel().view(np.uint32)
            bits = bits[(bits & _MAGNITUDE) > _NOTHING]
            self._bits.append(bits)
            self._counts += np.bincount(bits >> _SHIFT, weights=np.abs(bits.view(np.float32)), minlength=2 * _ARM)
            yield

    @cached_property
    def _mass(self) -> NDArray[np.float64]:
        """Relevance by sign (positive, negative) and bin, as magnitudes: [2, bins]."""
        for _ in self.count():
            pass
        return self._counts.reshape(2, _ARM)

    @cached_property
    def positive(self) -> float:
        """Sum of the positive relevance."""
        return float(self._mass[0].sum())

    @cached_property
    def negative(self) -> float:
        """Sum of the negative relevance, as a magnitude."""
        return float(self._mass[1].sum())

    def total(self, sign: str = "both") -> float:
        """Sum of |relevance| of a sign ("positive", "negative") or of both."""
        return {"positive": self.positive, "negative": self.negative, "both": self.positive + self.negative}[sign]

    def peak(self, sign: str = "both") -> float:
        """The largest |relevance| of a sign; 0 where there is none."""
        return self.level(0.0, sign)

    def level(self, share: float, sign: str = "both") -> float:
        """The highest level at which voxels of at least that |relevance| hold ``share`` (0..1) of a sign's relevance.

        That of the strongest voxel for a share of 0; 0 for a share of 1 (every voxel), and where there is no relevance.
        """
        if (share, sign) not in self._known:
            self._known[share, sign] = self._level(share, sign)
        return self._known[share, sign]

    def _level(self, share: float, sign: str) -> float:
        total = self.total(sign)
        if total == 0 or share >= 1:
            return 0.0
        if share <= 0:
            strongest = int(np.flatnonzero(self._arm(sign))[-1])
            return float(self._members(sign, strongest).max())
        above = np.cumsum(self._arm(sign)[::-1])[::-1]  # in this bin and higher ones
        found = int(np.flatnonzero(above >= min(share * total, above[0]))[-1])
        members = np.sort(self._members(sign, found))[::-1]
        kept = above[found] - self._arm(sign)[found] + np.cumsum(members, dtype=np.float64)
        return float(members[min(int(np.searchsorted(kept, share * total * (1 - 1e-12))), len(members) - 1)])

    def _arm(self, sign: str) -> NDArray[np.float64]:
        return {"positive": self._mass[0], "negative": self._mass[1], "both": self._mass.sum(axis=0)}[sign]

    def _members(self, sign: str, place: int) -> NDArray[np.float32]:
        """Magnitudes of the voxels in a bin."""
        offsets = {"positive": (0,), "negative": (_ARM,), "both": (0, _ARM)}[sign]
        found = [bits[(bits >> _SHIFT) == place + offset] for bits in self._bits for offset in offsets]
        return np.abs(np.concatenate(found).view(np.float32))
