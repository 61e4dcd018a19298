"""Composites: which rule goes where, as tables.

A row matches a layer by its role (see :mod:`.operators`; `input` is a weighted layer that no other precedes, `head` one
that no other follows, `scores` a sum or mean of what heads give, where one answer is for the whole input, `resampled`
an average or a resampling of the input itself) or, with a pattern, by its name; the first row that matches decides. To
change a composite, put rows before its own (:meth:`Composite.override`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Literal, get_args

from . import rules
from .errors import LRPError
from .rules import PASS, SIGNAL, TAYLOR, UNIFORM, WINNER, LinearRule, Rule

Biases = Literal["absorb", "share"]
ROLES = (
    "input", "head", "scores", "resampled", "conv", "linear", "norm", "sum", "bias", "average", "activation", "scale",
    "gate", "product", "matmul", "softmax", "ending", "max", "move", "switch",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One line of a composite: layers of this role, or of this name pattern (`encoder.*`), get this rule."""

    match: str
    rule: Rule

    def matches(self, roles: tuple[str, ...], layer: str) -> bool:
        return self.match in roles or (self.match not in ROLES and fnmatchcase(layer, self.match))


@dataclass(frozen=True)
class Composite:
    """A named table of rules.

    Attributes:
        name: what users, cards and the command line call it.
        description: one sentence for a person who has to choose.
        rows: the first that matches decides.
        normalization: how norms with the sample's own statistics are seen. `fixed`: folded into the layer before
            them, mean and variance held fixed; `linear`: folded, the mean a linear function of the input; `identity`:
            relevance passes them unchanged.
        biases: what they receive: `absorb` keeps it, as rules are written in the literature; `share` hands it to the
            contributions that the bias was added to (:meth:`~.rules.LinearRule.sharing_bias`), but for the last ones of
            one answer for the whole input: a strong negative one would outweigh what speaks for the answer, and turn
            its sign.
    """

    name: str
    description: str
    rows: tuple[Row, ...]
    normalization: Literal["fixed", "linear", "identity"] = "fixed"
    biases: Biases = "absorb"

    def rule_for(
        self, roles: tuple[str, ...], layer: str, accepts: Callable[[Rule], bool], prior: bool = False
    ) -> Rule:
        """The rule for a call that plays these roles (most special first) in the layer of this name.

        A pattern like `encoder.*` names all that is in there, activations with parameters included; its rule is for
        those calls that can have it.

        Args:
            prior: the bias is what one answer for the whole input starts from, and is of no part of the input.
        """
        for row in self.rows:
            if row.matches(roles, layer) and (row.match in ROLES or accepts(row.rule)):
                if self.biases == "share" and isinstance(row.rule, LinearRule) and not prior:
                    return row.rule.sharing_bias()
                return row.rule
        raise LRPError(f"The composite {self.name} has no rule for {layer} ({roles[-1]}); add a row for that role.")

    def override(self, table: Mapping[str, Rule | str]) -> Composite:
        """The same composite with rules (or their names) for roles or name patterns put before its own.

        Raises:
            LRPError: no such rule, or no table of rules.
        """
        if not isinstance(table, Mapping):
            raise LRPError(f"Rules are told by a dict from a role or a layer's name to a rule, but got {table!r}.")
        rows = tuple(Row(match, _as_rule(rule)) for match, rule in table.items())
        return replace(self, name=f"{self.name}*", rows=rows + self.rows)

    def with_biases(self, biases: Biases) -> Composite:
        """The same composite with biases that absorb what they receive, or share it.

        Raises:
            LRPError: neither of the two.
        """
        if biases not in get_args(Biases):
            raise LRPError(f"Biases cannot '{biases}': choose {' or '.join(get_args(Biases))}.")
        return replace(self, biases=biases)

    def as_rows(self) -> list[tuple[str, str]]:
        """The table for people and JSON: (match, rule)."""
        return [(row.match, str(row.rule)) for row in self.rows]


def _as_rule(rule: Rule | str) -> Rule:
    if isinstance(rule, Rule):
        return rule
    if not isinstance(rule, str):
        raise LRPError(f"A rule is one of lrp.rules or its name, but got {rule!r}; write for example gamma(0.25).")
    return rules.rule_named(rule)


def _composite(
    name: str,
    description: str,
    table: Mapping[str, Rule],
    base: Mapping[str, Rule],
    normalization: Literal["fixed", "linear", "identity"] = "fixed",
    biases: Biases = "absorb",
) -> Composite:
    return Composite(name, description, tuple(Row(*item) for item in {**table, **base}.items()), normalization, biases)


# What most composites agree on away from weighted layers. Where signals that can cancel meet (residual sums, averages,
# constants), sharing by magnitude keeps relevance bounded; on non-negative signals it equals epsilon and z+. Scores are
# shared as they are added: by magnitude a negative one's relevance would have the sign of the answer, which turns what
# speaks for a class into what speaks against it; and there is nothing to bound, as the answer is their sum.
BOUNDED: dict[str, Rule] = {
    "scores": rules.epsilon(),
    "norm": PASS, "sum": rules.magnitude(), "bias": rules.magnitude(), "average": rules.magnitude(),
    "activation": PASS, "scale": PASS, "gate": SIGNAL, "product": UNIFORM, "matmul": SIGNAL, "softmax": PASS,
    "ending": TAYLOR, "max": WINNER, "move": PASS, "switch": PASS,
}  # fmt: skip
# Epsilon everywhere a layer is linear, as the epsilon rule is defined.
EPSILON: dict[str, Rule] = BOUNDED | dict.fromkeys(("scores", "sum", "bias", "average"), rules.epsilon(1e-2))

# Achtibat 2024: products are shared, softmax is expanded around its input, normalisation is passed unchanged.
ATTENTION: dict[str, Rule] = EPSILON | {"gate": UNIFORM, "matmul": UNIFORM, "softmax": TAYLOR}

_PRESETS = (
    _composite(
        "epsilon",
        "The plain rule everywhere: every contribution in proportion; closest to gradient times input, and as noisy.",
        {"conv": rules.epsilon(1e-2), "linear": rules.epsilon(1e-2)},
        EPSILON,
    ),
    _composite(
        "epsilon-plus",
        "Positive contributions in convolutions, epsilon in dense layers: smooth maps of what speaks for the target.",
        {"conv": rules.z_plus(), "linear": rules.epsilon()},
        BOUNDED,
    ),
    _composite(
        "epsilon-plus-flat",
        "Epsilon-plus with an even spread in the first layer: robust against the input's own contrast.",
        {"input": rules.flat(), "conv": rules.z_plus(), "linear": rules.epsilon()},
        BOUNDED,
    ),
    _composite(
        "epsilon-alpha2-beta1",
        "Positive contributions doubled against negative ones: shows what speaks for and against the target.",
        {"conv": rules.alpha_beta(2, 1), "linear": rules.epsilon()},
        BOUNDED,
    ),
    _composite(
        "epsilon-alpha2-beta1-flat",
        "Alpha2-beta1 with an even spread in the first layer.",
        {"input": rules.flat(), "conv": rules.alpha_beta(2, 1), "linear": rules.epsilon()},
        BOUNDED,
    ),
    _composite(
        "epsilon-gamma-box",
        "Gamma in convolutions and the input's own bounds in the first layer (Montavon 2019).",
        {"input": rules.z_box(), "conv": rules.gamma(0.25), "linear": rules.epsilon()},
        BOUNDED,
    ),
    _composite(
        "gamma",
        "Gamma everywhere: favours contributions that agree with the layer's answer, between epsilon and z+.",
        {"conv": rules.gamma(0.25), "linear": rules.gamma(0.25)},
        BOUNDED,
    ),
    _composite(
        "volume",
        "Positive contributions, none lost to biases, and an even spread in the first layer: smooth and robust.",
        {"input": rules.flat(), "conv": rules.z_plus(absorb_bias=False), "linear": rules.epsilon()},
        BOUNDED,
        biases="share",
    ),
    _composite(
        "excitation-backprop",
        "Positive contributions in every layer, none lost to biases: a probability that walks down to the voxels.",
        {"conv": rules.z_plus(absorb_bias=False), "linear": rules.z_plus(absorb_bias=False)},
        BOUNDED,
    ),
    _composite(
        "attn-lrp",
        "For transformers: relevance also flows through attention weights and gates (Achtibat 2024).",
        {"conv": rules.gamma(0.25), "linear": rules.gamma(0.05)},
        ATTENTION,
        normalization="identity",
    ),
)

COMPOSITES: dict[str, Composite] = {composite.name: composite for composite in _PRESETS}
DEFAULT_COMPOSITE = "volume"


def composite_named(composite: str | Composite) -> Composite:
    """A preset by its name, or the composite itself; LRPError names the presets there are."""
    if isinstance(composite, Composite):
        return composite
    if composite not in COMPOSITES:
        raise LRPError(f"There is no composite '{composite}'; choose one of {', '.join(COMPOSITES)}.")
    return COMPOSITES[composite]
