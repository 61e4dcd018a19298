"""The engine's exceptions: one, and a kind of it that callers can say more about."""


class LRPError(ValueError):
    """One sentence for the user: what stands in the way of the explanation and what to do about it."""


class RefusedInput(LRPError):
    """The network itself does not take an input of this shape; `reason` is what it says, for the end of a sentence."""

    def __init__(self, shapes: str, reason: str) -> None:
        super().__init__(f"The model refuses an input of shape {shapes} ({reason}): give one of a size that it takes.")
        self.shapes, self.reason = shapes, reason
