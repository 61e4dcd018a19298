"""The self test: one scenario for each section of the panel, as a user goes through them, with the bundled model."""

from __future__ import annotations


class Scenarios:
    """Mixed into the module's test class."""
