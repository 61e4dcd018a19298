""".safetensors: weights alone; the network is one that the card names (`architectures.py`)."""

from pathlib import Path

from torch import nn

from ...digests import sha256_of
from ...errors import UserError
from ..architectures import ARCHITECTURES
from ..budget import build
from ..card import ModelCard
from ..states import fill, read_state
from .base import Format, Loaded, has_suffix


def _load(path: Path, card: ModelCard | None, trust: bool) -> Loaded:
    if card is None or card.network is None:
        raise UserError(
            f"'{path}' holds weights only: give it a card whose 'network' names an architecture"
            f" ({' or '.join(ARCHITECTURES)}), or save the whole model, as TorchScript or a torch.export program."
        )
    name = card.network["architecture"]
    if name not in ARCHITECTURES:
        raise UserError(
            f"The card asks for the architecture '{name}', but there is only {', '.join(ARCHITECTURES)}: of another one"
            " save the whole model, as TorchScript or a torch.export program."
        )
    arguments = card.network.get("arguments", {})
    state = read_state(path, str(path))

    def make() -> nn.Module:
        try:
            return ARCHITECTURES[name](**arguments)
        except (TypeError, ValueError, RuntimeError) as error:
            raise UserError(f"The card's arguments do not suit the architecture '{name}' ({error}).") from error

    module = build(make, state, f"The card of '{path}'")
    fill(module, state, str(path))
    return Loaded(module.float().eval(), card, sha256_of(path))


SAFETENSORS = Format("safetensors with a card (.safetensors)", has_suffix(".safetensors"), _load)
