"""The engine's one exception."""


class LRPError(ValueError):
    """One sentence for the user: what stands in the way of the explanation and what to do about it."""
