"""Methods by name, and their parameters as text."""

from collections.abc import Mapping
from dataclasses import fields

from ..errors import UserError
from .base import Method
from .grad_cam import GradCam
from .gradients import Gradient, GradientXInput, IntegratedGradients, SmoothGrad
from .guided import GuidedBackprop
from .occlusion import Occlusion
from .rise import Rise
from .with_captum import captum_attr

LRP = "lrp"
METHODS: dict[str, type[Method]] = {
    cls.name: cls
    for cls in (
        Gradient, GradientXInput, IntegratedGradients, SmoothGrad, GradCam, GuidedBackprop, Occlusion, Rise,
    )
}  # fmt: skip
_TYPES = {"int": int, "float": float, "str": str, int: int, float: float, str: str}
_WORDS = {int: "a whole number", float: "a number", str: "a text"}


def method_named(
    method: str | Method | None = LRP, parameters: Mapping[str, str | int | float] | None = None
) -> Method | None:
    """The method of this name; None for LRP, which is not one of these.

    Args:
        parameters: name -> value, as a value or as text; see the fields of each method.

    Raises:
        UserError: no such method or parameter, a value that is none, or captum is missing.
    """
    given = dict(parameters or {})
    if isinstance(method, Method):
        if given:
            raise TypeError("a Method is whole: put its parameters into it")
        found = method
    elif method is None or method == LRP:
        if given:
            raise UserError(f"lrp has no parameter '{next(iter(given))}': its rules are chosen by composite and rules.")
        return None
    elif method not in METHODS:
        raise UserError(f"There is no method '{method}': choose {', '.join([LRP, *METHODS])}.")
    else:
        found = METHODS[method](**_read(METHODS[method], given))
    if found.needs_captum:
        captum_attr(found.name)
    return found


def _read(cls: type[Method], given: Mapping[str, str | int | float]) -> dict[str, str | int | float]:
    known = {field.name: _TYPES[field.type] for field in fields(cls)}  # type: ignore[index]
    values = {}
    for name, value in given.items():
        if name not in known:
            has = f"choose {', '.join(known)}" if known else "it has none"
            raise UserError(f"{cls.name} has no parameter '{name}': {has}.")
        try:
            values[name] = known[name](value)
            if not isinstance(value, str) and values[name] != value:  # int() cuts off what is behind the point
                raise ValueError
        except (TypeError, ValueError, OverflowError):
            raise UserError(f"'{value}' is not {_WORDS[known[name]]}, as {name} of {cls.name} is.") from None
    return values
