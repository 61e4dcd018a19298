"""Section "Method": composite, and the values that rarely change."""

from __future__ import annotations

from typing import Any

from slicer.i18n import tr as _

from ...errors import UserError
from .parameters import Composite
from .section import Section


def descriptions() -> dict[Composite, str]:
    """One sentence for each composite: the engine's own, here so that they can be translated; a test compares them."""
    return {
        Composite.MODEL: _(
            "What the model's card asks for, else volume, or of several volumes epsilon-plus, which tells them apart."
        ),
        Composite.VOLUME: _(
            "Positive contributions, none lost to biases, and an even spread in the first layer: smooth and robust."
        ),
        Composite.EPSILON_PLUS_FLAT: _(
            "Epsilon-plus with an even spread in the first layer: robust against the input's own contrast."
        ),
        Composite.EPSILON_PLUS: _(
            "Positive contributions in convolutions, epsilon in dense layers: smooth maps of what speaks for the"
            " target."
        ),
        Composite.EPSILON_GAMMA_BOX: _(
            "Gamma in convolutions and the input's own bounds in the first layer (Montavon 2019)."
        ),
        Composite.GAMMA: _(
            "Gamma everywhere: favours contributions that agree with the layer's answer, between epsilon and z+."
        ),
        Composite.EPSILON_ALPHA2_BETA1_FLAT: _("Alpha2-beta1 with an even spread in the first layer."),
        Composite.EPSILON_ALPHA2_BETA1: _(
            "Positive contributions doubled against negative ones: shows what speaks for and against the target."
        ),
        Composite.EXCITATION_BACKPROP: _(
            "Positive contributions in every layer, none lost to biases: a probability that walks down to the voxels."
        ),
        Composite.ATTN_LRP: _(
            "For transformers: relevance also flows through attention weights and gates (Achtibat 2024)."
        ),
        Composite.EPSILON: _(
            "The plain rule everywhere: every contribution in proportion; closest to gradient times input, and as"
            " noisy."
        ),
    }


class MethodSection(Section):
    """Says what the chosen composite is."""

    def refresh(self) -> None:
        if self.parameters:
            self.ui.compositeDescriptionLabel.text = descriptions()[self.parameters.composite]

    def chosen(self) -> dict[str, Any]:
        """The method as arguments of the logic's `explain`.

        Raises UserError if a rule is not written as LAYER=RULE.
        """
        chosen = self.parameters
        return {
            "composite": chosen.composite.value or None,
            "rules": rules(chosen.rules),
            "biases": chosen.biases.value or None,
            "device": chosen.device.value,
            "memory": chosen.memory or None,
            "precision": chosen.precision.value,
        }


def rules(text: str) -> dict[str, str]:
    """ "input=flat; encoder.*=gamma(0.1)" as a table.

    Raises UserError if a part has no layer or no rule.
    """
    table = {}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        layer, equals, rule = (piece.strip() for piece in part.partition("="))
        if not (layer and equals and rule):
            raise UserError(
                _("'{text}' is no rule for a layer: write LAYER=RULE, for example input=flat.").format(text=part)
            )
        table[layer] = rule
    return table
