"""What an explanation records of how it was asked and made, as the values that it is asked and made with."""

from collections.abc import Mapping
from typing import Any

from . import lrp, methods
from .errors import UserError
from .imaging import Everywhere, region_of
from .question import Question


def recorded_composite(facts: dict[str, Any]) -> lrp.Composite:
    """The composite of an explanation."""
    rows = tuple(lrp.Row(row["match"], lrp.rules.rule_named(row["rule"])) for row in facts["rules"])
    return lrp.Composite(facts["name"], facts["description"], rows, facts["normalization"], facts["biases"])


def recorded_method(facts: Mapping[str, Any]) -> methods.Method | None:
    """The method of an explanation with its parameters; None for LRP.

    Raises:
        UserError: the map is made of others (see `comparison`), or captum is missing.
    """
    name = facts.get("method", methods.LRP)
    if made_of_others(name):
        raise UserError(
            f"A {name} map is made of others and cannot be computed again: take the maps that it was made of."
        )
    return None if name == methods.LRP else methods.method_named(name, facts["parameters"])


def made_of_others(name: str) -> bool:
    """Whether a method's map is a consensus or a combination (see `comparison`)."""
    return name != methods.LRP and name not in methods.METHODS


def recorded_precision(provenance: Mapping[str, Any]) -> str:
    """The precision in which an explanation was made; those of before there was a choice do not tell."""
    return str(provenance.get("run", {}).get("precision", "float32"))


def recorded_question(target: Mapping[str, Any]) -> Question:
    """The question of an explanation, about the class that was met and the same voxels.

    Raises:
        UserError: the explanation is of one channel of a layer (see `concepts`), which is no question to the model.
    """
    if "concept" in target:
        raise UserError("This map is a part of another one: give the folder of the whole explanation, one above.")
    region = Everywhere() if target["where"] == "everywhere" else region_of(target)
    return Question(target["index"], target.get("rather_than_index"), region, target["value"], target["start"])
