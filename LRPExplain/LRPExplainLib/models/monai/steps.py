"""The steps of a bundle's preprocessing, put into the fields of a card.

`arrange` says which of them, or which order, a card cannot express. MONAI's arrays are [C, i, j, k]; a card with `axes`
"ijk" has the same order.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ...errors import UserError
from .config import Component

Kind = Literal["orientation", "spacing", "intensity", "crop", "size", "at least", "multiple", "resize"]
AXES = 3


@dataclass(frozen=True)
class Step:
    """One thing done to a volume."""

    kind: Kind
    value: Any
    component: Component
    extra: Mapping[str, Any] = field(default_factory=dict)


def arrange(steps: Sequence[Step], dimensions: int, window: Sequence[int] | None) -> dict[str, Any]:
    """The fields of a card's `preprocessing` for these steps, in MONAI's order of axes.

    Raises:
        UserError: an order that a card cannot say.
    """
    fields: dict[str, Any] = {"intensity": tuple(step.value for step in steps if step.kind == "intensity")}
    kinds = [step.kind for step in steps]
    for n, step in enumerate(steps):
        before, after = kinds[:n], kinds[n + 1 :]
        if step.kind == "orientation":
            if "spacing" in before or "crop" in before:
                raise _order(step, "after the voxel size is changed or the volume cropped")
            fields["orientation"] = step.value
        elif step.kind == "spacing":
            if "intensity" in before and "intensity" in after:
                raise _order(step, "between intensity steps")
            if "spacing" in before or set(before) & {"size", "at least", "multiple", "resize"}:
                raise _order(step, "after the number of voxels was set")
            fields |= {"spacing": step.value, "resampling": "first-voxel", "interpolation": step.extra["interpolation"]}
            fields["intensity_first"] = "intensity" in before
        elif step.kind == "crop":
            when = "first" if not set(before) - {"orientation"} else "last" if "intensity" in before else "resampled"
            if (
                "crop" in before
                or (when != "first" and "spacing" in after)
                or (when == "last" and "intensity" in after)
            ):
                raise _order(step, "between other steps")
            fields["crop"] = {**step.value, "when": when}
        elif step.kind in ("size", "at least", "multiple", "resize"):
            if "intensity" in after or "spacing" in after or "crop" in after:
                raise _order(step, "before the intensity or the voxel size is changed")
            _extent(step, fields, dimensions, window)
    return fields


def _extent(step: Step, fields: dict[str, Any], dimensions: int, window: Sequence[int] | None) -> None:
    if step.kind == "multiple":
        fields["size_multiple"] = step.value
    elif step.kind == "resize":
        if window is not None:
            raise step.component.complaint("resizes the volume before it is cut into windows: write a card instead.")
        fields["resize"] = {**step.value, "size": step.value["size"][:dimensions]}
    else:
        size = step.value[:dimensions]
        if len(size) != dimensions:
            raise step.component.complaint(f"names {len(size)} sizes for {dimensions} axes: correct the bundle.")
        if step.kind == "at least" and window is not None and all(a <= b for a, b in zip(size, window, strict=True)):
            return  # a window is padded in the same way itself
        fields["size" if step.kind == "size" else "minimum_size"] = (*size, *[0] * (AXES - dimensions))


def _order(step: Step, when: str) -> UserError:
    return step.component.complaint(f"comes {when}, an order that a card cannot say: write a card for this model.")
