"""Why a network has no graph: it refuses its input, PyTorch cannot follow what it does, or no graph would fit it."""

from __future__ import annotations

import re
import traceback
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from .edit import packet
from .errors import LRPError, RefusedInput
from .graph import flatten_output

aten = torch.ops.aten

_ERROR_NAMES = re.compile(r"^(?:[\w.]*(?:Error|Exception):\s*)+")  # builtins.RuntimeError: AssertionError: ...
_ASSERTION = re.compile(r"^.*INTERNAL ASSERT FAILED.*please report a bug to PyTorch\.\s*")  # where in PyTorch's code
_DECIDES = (
    "The model lets its data decide what it computes, so its graph cannot be captured; replace that branch or loop by"
    " tensor operations."
)
_FROM_DATA = ("data-dependent", "trying to get a value out of", "_local_scalar_dense")
_QUANTIZED = "The model is quantized, and relevance needs its weights as numbers: give the model before quantization."
_SCRIPTED = {  # what tells in a TorchScript module's code -> what to say
    "quantized::": _QUANTIZED,
    "mkldnn": (
        "The model is one of torch.jit.optimize_for_inference, whose layers are this processor's own and cannot be"
        " traced: give it as it was before."
    ),
}
_WHATEVER_THE_INPUT = {  # what tells in an error's text -> what to say
    "dynamo-optimized": "The model is compiled, which PyTorch cannot trace: give it without torch.compile.",
    " flex_attention": (
        "The model calls flex_attention, which PyTorch does not trace in steps: replace it by"
        " scaled_dot_product_attention."
    ),
    "HigherOrderOperator": (
        "The model calls a control-flow operator of PyTorch's, which cannot be traced in steps: write that branch or"
        " loop as tensor operations."
    ),
}
_OF_ITS_CODE = (NameError, AttributeError, KeyError, TypeError, ImportError)  # not how a network refuses a shape
_WITH_STATISTICS = (aten.native_batch_norm.default, aten._native_batch_norm_legit.default)
_OF_SEQUENCES = (nn.modules.rnn.__file__, nn.utils.rnn.__file__)
_PACKED = (
    "The model packs sequences, of which PyTorch does not trace how many there are at each step: give it one sequence"
    " of full length, unpacked."
)


def refuse_untraceable(model: Any) -> None:
    """LRPError for what is known beforehand: a program that is no network yet, and packed integers for weights."""
    if isinstance(model, torch.export.ExportedProgram):
        raise LRPError("A torch.export program is called by its module: give exported.module().")
    if isinstance(model, nn.Module) and any(".quantized." in type(part).__module__ for part in model.modules()):
        raise LRPError(_QUANTIZED)


def refuse_unready(model: Any, inputs: Sequence[Tensor]) -> None:
    """LRPError for weights or an input without values, or with fewer than their shape says."""
    for x in inputs:
        if x.layout is not torch.strided or x.is_nested:
            kind = "nested" if x.is_nested else f"of {x.layout}"
            raise LRPError(f"The model's inputs are dense tensors, but got one {kind}; make it dense (x.to_dense()).")
        if not x.numel():
            raise LRPError(f"An input of shape {list(x.shape)} is empty, so there is nothing to explain; give samples.")
    named = [*model.named_parameters(), *model.named_buffers()] if isinstance(model, nn.Module) else []
    for name, tensor in named:
        if nn.parameter.is_lazy(tensor):
            raise LRPError(
                f"The model's '{name}' has no size yet, since its layer has seen no input; call the model once on one."
            )
        if tensor.is_meta:
            raise LRPError(f"The model's '{name}' is on the meta device and has no values; load its weights first.")
        if tensor.layout is not torch.strided:
            raise LRPError(
                f"The model's '{name}' is of {tensor.layout}, in which no rule can look at weights; make it dense"
                " (.to_dense())."
            )


def refuse_quantized(graph: fx.Graph) -> None:
    """LRPError for a TorchScript module with packed integers for weights, where it could be traced."""
    if any(str(node.target).startswith("quantized.") for node in graph.nodes):
        raise LRPError(_QUANTIZED)


def refuse_randomness(graph: fx.Graph) -> None:
    """LRPError when the network draws random numbers."""
    for node in graph.nodes:
        kind = packet(node)
        random = torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())
        if random and (node.users or kind is aten.native_dropout):
            raise LRPError(
                f"The model draws random numbers ({node.name}), so no explanation would fit its answer; "
                "call model.eval() first or remove the random layer."
            )


def refuse_training(graph: fx.Graph) -> None:
    """LRPError when a batch norm updates its running statistics."""
    for node in graph.nodes:
        training = node.target in _WITH_STATISTICS and node.args[5] and node.args[3] is not None
        if training or packet(node) is aten._native_batch_norm_legit_functional:
            raise LRPError(f"The model's batch norm ({node.name}) is in training mode; call model.eval() first.")


def refuse_shapes_from_data(graph: fx.Graph) -> None:
    """LRPError when how large a tensor is depends on values (`x[x > 0]`): no graph would fit the next input."""
    for node in graph.nodes:
        value = node.meta.get("val")
        if isinstance(value, Tensor) and not all(isinstance(n, int) for n in value.shape):
            raise LRPError(
                f"The model lets its data decide how large its tensors are ({node.name}), so its graph cannot be "
                "captured; replace that selection by a mask, or leave that step out."
            )


def refuse_numbers_from_data(graph: fx.Graph, constants: dict[fx.Node, Tensor]) -> None:
    """LRPError when a signal is read as a Python number (`x.mean().item()`): relevance cannot cross that."""
    for node in graph.nodes:
        if packet(node) in (aten._local_scalar_dense, aten.item) and node not in constants:
            raise LRPError(
                f"The model reads a value of its data as a Python number ({node.name}), so its graph cannot be "
                "captured; keep it a tensor (leave out .item() or float())."
            )


def explained(error: Exception, model: Any, inputs: Sequence[Tensor]) -> LRPError:
    """The sentence for an error that stopped the tracing of a network."""
    text, kind = str(error), type(error).__name__
    packed = any(frame.filename in _OF_SEQUENCES for frame in traceback.extract_tb(error.__traceback__))
    if any(words in text.lower() for words in _FROM_DATA):
        return LRPError(_PACKED if packed else _DECIDES)
    known = next((sentence for words, sentence in _WHATEVER_THE_INPUT.items() if words in text), None)
    if known is not None:
        return LRPError(known)
    refusal = _refusal(model, inputs)
    if refusal is not None:
        shapes = ", ".join(str(list(x.shape)) for x in inputs)
        why = _reason(str(refusal)) or _reason(text) or kind
        if isinstance(refusal, _OF_ITS_CODE):
            return LRPError(
                f"The model's own code fails on this input ({type(refusal).__name__}: {why}), before anything is"
                " explained: call the model alone on it, and mend it there."
            )
        return _unlike(model, inputs, why) or RefusedInput(shapes, why)
    if packed:
        return LRPError(_PACKED)
    code = str(model.inlined_graph) if isinstance(model, torch.jit.ScriptModule) else ""
    scripted = next((sentence for words, sentence in _SCRIPTED.items() if words in code), None)
    if scripted is not None:
        return LRPError(scripted)
    if _answers_differ(model, inputs):
        return LRPError(
            "The model draws random numbers, so no explanation would fit its answer; call model.eval() first or remove"
            " the random layer."
        )
    return LRPError(
        f"The model runs, but PyTorch cannot trace it ({_reason(text) or kind}): replace the step that this speaks of"
        " by tensor operations."
    )


def _unlike(model: Any, inputs: Sequence[Tensor], why: str) -> LRPError | None:
    """The sentence where the input is of another precision or on another device than the weights, and that is why."""
    weights = [w for w in model.parameters() if w.is_floating_point()] if isinstance(model, nn.Module) else []
    for what, word, of in (("dtype", "type", "of"), ("device", "device", "on")):
        kinds = {getattr(weight, what) for weight in weights}
        others = {getattr(x, what) for x in inputs} - kinds
        if len(kinds) == 1 and others and word in why:
            (own,), other = kinds, others.pop()
            return LRPError(
                f"The model's weights are {of} {own} but its input is {of} {other} ({why}); bring both to one"
                f" (.to({own}))."
            )
    return None


def _reason(text: str) -> str:
    """The telling line of an exception; TorchScript puts it behind its traceback and the error's name. "": none."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return _ASSERTION.sub("", _ERROR_NAMES.sub("", lines[-1])).rstrip(". ") if lines else ""


def _refusal(model: Any, inputs: Sequence[Tensor]) -> Exception | None:
    """What the model itself says against these inputs; TorchScript's interpreter loses that where shapes alone run."""
    try:
        with torch.no_grad(), torch.jit.optimized_execution(False):
            model(*inputs)
    except Exception as error:
        return error
    return None


def _answers_differ(model: Any, inputs: Sequence[Tensor]) -> bool:
    """Whether the same input gets another answer when it is given once more."""
    with torch.no_grad():
        first, second = (flatten_output(model(*inputs))[0] for _ in range(2))
    return any(not torch.allclose(a, b, equal_nan=True) for a, b in zip(first, second, strict=True))
