"""What `lrpexplain inspect` tells of a model."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from . import lrp
from .imaging import Windows, least_size, prepare, read_volume
from .imaging.segmentation import read_labels
from .models import ExplainableModel, ModelCard
from .models.adapting import captured
from .models.card import Preprocessing
from .models.example import check_shape, default_shape, input_channels, slices_of
from .outcome import require_tensor
from .refusals import WINDOWS, said_plainly

_OTHER_SIZE = "give a size that it takes (--shape D H W)"
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
        UserError, lrp.LRPError: the volumes cannot be read, the shape is no size of a volume, or the model refuses it.
    """
    if shape is not None:
        check_shape(shape)
    x = _example(model, volumes, shape)
    given = len(volumes or model.card.inputs) or 1
    with said_plainly(model, given, x.shape, WINDOWS if volumes else _OTHER_SIZE):
        graph = captured(model.module, x)
    output = require_tensor(graph(x))
    wishes = replace(model.card.preprocessing, slices=slices_of(model))
    card = replace(model.card.completed(output.shape, lrp.ending(graph)), preprocessing=wishes)
    sections = [_identity(model), _card(card, x, output), _operators(graph), _layers(graph)]
    return "\n\n".join(sections)


def inner_layers(model: ExplainableModel) -> tuple[list[lrp.InnerLayer], str]:
    """The layers whose channels can be told apart, and the one that is looked at where none is named ("": none).

    Errors as for `describe`; nothing is run.
    """
    x = _example(model, None, None)
    with said_plainly(model, len(model.card.inputs) or 1, x.shape):
        graph = lrp.capture(model.module, x)
    try:
        automatic = lrp.inner_layer(graph).name
    except lrp.LRPError:  # no convolution
        automatic = ""
    return lrp.inner_layers(graph), automatic


def _example(
    model: ExplainableModel, volumes: Sequence[str | os.PathLike[str]] | None, shape: Sequence[int] | None
) -> torch.Tensor:
    """What the network would see first of these volumes, or of an empty one."""
    wishes, slices = model.card.preprocessing, slices_of(model)
    least = least_size(wishes.window, slices)
    if volumes:
        labels = [entry.labels or None for entry in model.card.inputs][: len(volumes)] or [None] * len(volumes)
        images = [read_labels(path, on) if on else read_volume(path) for path, on in zip(volumes, labels, strict=False)]
        volume = prepare(images, wishes, least=least, labels=labels).tensor
    else:
        size = [max(n, m) for n, m in zip(shape or default_shape(model), least, strict=True)]
        beside = (slices or {}).get("neighbours", 0)
        volume = torch.zeros(1, max(1, input_channels(model) // (2 * beside + 1)), *size)
    windows = Windows(volume.shape[2:], wishes.window, slices)
    return windows.cut(volume, windows.views[0])


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
        f"Windows    {_windows(wishes)}",
        f"Shapes     input {list(x.shape)} -> output {list(output.shape)}, {card.output.activation}",
        f"Classes    {classes}",
        *(f"Note       {note}" for note in card.notes),
    ])  # fmt: skip


def _windows(wishes: Preprocessing) -> str:
    """How a volume is cut for the network."""
    texts = []
    if wishes.slices is not None:
        beside = wishes.slices.get("neighbours", 0)
        texts.append(
            f"slices along {wishes.slices.get('axis', 'k')}" + (f" with {beside} on each side" if beside else "")
        )
    if wishes.window is not None:
        size = " x ".join(str(n) for n in wishes.window["size"])
        texts.append(" ".join([size, *(f"{key}={value}" for key, value in wishes.window.items() if key != "size")]))
    return ", ".join(texts) or "none: the whole volume at once"


def _operators(graph: lrp.Graph) -> str:
    rows = [("operator", "calls", "role", "relevance")]
    for operator in lrp.count_operators(graph):
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
