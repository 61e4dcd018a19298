"""FloatRange, the pack behind range widgets."""

from __future__ import annotations

from .packs import parameterPack


@parameterPack
class FloatRange:
    minimum: float
    maximum: float

    def __init__(self, minimum: float = 0.0, maximum: float = 0.0) -> None:
        if not minimum <= maximum:
            raise ValueError(f"FloatRange must have minimum <= maximum: {minimum} <= {maximum}")
        self.minimum, self.maximum = minimum, maximum

    def setRange(self, minimum: float, maximum: float) -> None:
        if not minimum <= maximum:
            raise ValueError(f"FloatRange must have minimum <= maximum: {minimum} <= {maximum}")
        self.minimum, self.maximum = minimum, maximum
