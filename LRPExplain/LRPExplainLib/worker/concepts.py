"""What the worker does with an explanation that it made: it takes it apart by the channels of an inner layer.

The functions are like those of `checks`.
"""

from __future__ import annotations

from dataclasses import asdict

from .. import concepts as parts
from ..errors import UserError
from ..explanation import Explanation
from ..inspection import inner_layers
from ..methods import LRP
from ..models.loading import load_recorded
from ..progress import Progress
from ..recorded import recorded_composite, recorded_question
from .checks import Message, trusting
from .writing import WRITING


def layers(message: Message, progress: Progress) -> Message:
    """The layers of the explanation's model whose channels can be told apart, and which one is taken without a name."""
    with trusting(message) as trust:
        found, automatic = inner_layers(load_recorded(Explanation.load(message["explanation"]).model, trust))
    return {"layers": [asdict(layer) for layer in found], "automatic": automatic}


def concepts(message: Message, progress: Progress) -> Message:
    """Maps of the "top" channels of "layer" (None: as `concepts` chooses) of "explanation"; they go into "out"."""
    explanation = Explanation.load(message["explanation"])
    if explanation.composite.get("method", LRP) != LRP:
        raise UserError(f"Concepts are found by lrp, not by {explanation.composite['name']}: explain by lrp first.")
    with trusting(message) as trust:
        found = parts.concepts(
            load_recorded(explanation.model, trust),
            [entry["path"] for entry in explanation.volumes[: explanation.given]],
            recorded_question(explanation.target),
            recorded_composite(explanation.composite),
            message.get("device") or "auto",
            progress,
            layer=message.get("layer") or "",
            top=message.get("top") or parts.TOP,
            memory=message.get("memory"),
            precision=message.get("precision"),
        )
    with WRITING:
        found.save(message["out"], compressed=False)
    return {"facts": found.facts, "folder": message["out"]}


VERBS = {"layers": layers, "concepts": concepts}
