"""What `lrpexplain inspect` tells of a model."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from . import lrp
from .imaging import prepare, read_volume
from .models import ExplainableModel, ModelCard, example_input
from .outcome import require_tensor

# Columns of the ledger's table and their headings.
_FIGURES = {
    "relevance_out": "out",
    "relevance_in": "in",
    "absorbed_bias": "bias",
    "absorbed_stabiliser": "stabiliser",
    "changed": "changed",
    "gap": "gap",
}


def describe(
    model: ExplainableModel,
    volumes: Sequence[str | os.PathLike[str]] | None = None,
    shape: Sequence[int] | None = None,
) -> str:
    """Inputs, outputs, classes and operators of a model, as text.

    Args:
        volumes: capture it for these volumes, prepared as the card asks;
        shape: or for a size [D, H, W]; neither: for the card's size or a small cube.

    Raises:
        UserError, lrp.LRPError: the volumes cannot be read, or the model refuses the size.
    """
    if volumes:
        x = prepare([read_volume(path) for path in volumes], model.card.preprocessing).tensor
    else:
        x = example_input(model, shape)
    graph = lrp.capture(model.module, x)
    output = require_tensor(graph(x))
    card = model.card.completed(output.shape)
    sections = [_identity(model), _card(card, x, output), _operators(graph), _layers(graph)]
    return "\n\n".join(sections)


def ledger_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The ledger by layer, output first, as text; rows as in explanation.json."""
    words, figures = ("layer", "operator", "role", "rule"), tuple(_FIGURES)
    table = [(*words, *_FIGURES.values())]
    table += [(*(str(row[key]) for key in words), *(f"{row[key]:.5g}" for key in figures)) for row in rows]
    return _aligned(table)


def _identity(model: ExplainableModel) -> str:
    parameters = sum(tensor.numel() for tensor in model.module.parameters())
    return "\n".join([
        f"Model      {model.card.name}",
        f"File       {model.path}",
        f"SHA-256    {model.sha256}",
        f"Parameters {parameters}",
    ])  # fmt: skip


def _card(card: ModelCard, x: torch.Tensor, output: torch.Tensor) -> str:
    wishes = card.preprocessing
    inputs = ", ".join(f"{entry.name} ({entry.modality or 'any modality'})" for entry in card.inputs)
    own = "the volume's own"
    spacing = " x ".join(f"{step:g} mm" if step else own for step in wishes.spacing) if wishes.spacing else own
    steps = [
        " ".join([step["type"], *(f"{k}={v}" for k, v in step.items() if k != "type")]) for step in wishes.intensity
    ]
    classes = ", ".join(f"{index} {entry.name}" for index, entry in enumerate(card.output.classes))
    return "\n".join([
        f"Card       {'stated' if card.stated else 'none, defaults assumed'}",
        f"Task       {card.task}",
        f"Inputs     {inputs or 'one channel per given volume'}",
        f"Voxels     orientation {wishes.orientation or 'as the volume has it'}, spacing {spacing},"
        f" size {wishes.size or 'any'}, multiple of {wishes.size_multiple}",
        f"Intensity  {'; '.join(steps) or 'as it is'}",
        f"Shapes     input {list(x.shape)} -> output {list(output.shape)}, {card.output.activation}",
        f"Classes    {classes}",
        *(f"Note       {note}" for note in card.notes),
    ])  # fmt: skip


def _operators(graph: lrp.Graph) -> str:
    rows = [("operator", "calls", "role", "relevance")]
    for operator in graph.operators():
        answer = "exact rule" if operator.role is not None else "NO RULE: this model cannot be explained"
        rows.append((operator.name, str(operator.count), operator.role or "-", answer))
    return _aligned(rows)


def _layers(graph: lrp.Graph) -> str:
    return "Layers     " + ", ".join(graph.layers())


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(text) for text in column) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
