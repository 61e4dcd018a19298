"""Any network -> a normalised ATen graph.

Hooks on `nn.Module` see neither functional calls nor TorchScript; the ATen level has some 140 operators and misses
nothing. The network is traced with fake tensors (shapes only, no arithmetic), in-place calls are functionalised, and
the passes of :mod:`.passes` leave a graph in which each node is one that relevance must cross.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from threading import RLock
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException
from torch.func import functionalize
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.attention import SDPBackend, sdpa_kernel

from . import passes
from .concrete import KnownNumbers
from .errors import LRPError
from .fused import SPELLED_OUT
from .graph import Graph, Rebuild, flatten_output, require_tensor
from .leaving import RefuseLeaving
from .norms import TRACED, spell_batch_norm
from .selections import spell_selections
from .spelled import STEPS
from .untraceable import (
    explained,
    refuse_numbers_from_data,
    refuse_quantized,
    refuse_randomness,
    refuse_shapes_from_data,
    refuse_training,
    refuse_unready,
    refuse_untraceable,
)
from .writes import Unwritten

_ONE_AT_A_TIME = RLock()  # tracing sets switches of the whole process, and PyTorch's own tracers do so, too

_TELLING = (
    "torch._subclasses.fake_tensor",
    "torch.fx.experimental.recording",  # up to PyTorch 2.5
    "torch.fx.experimental.symbolic_shapes",
)
_PARAMETRIZED = re.compile(r"\.parametrizations\.(\w+)\..*")  # conv.parametrizations.weight.original0


@torch.inference_mode(False)  # in which nothing could be derived, as adjoints are
def capture(model: nn.Module | torch.jit.ScriptModule, *inputs: Tensor) -> Graph:
    """Turn a network into a :class:`Graph` for inputs of these shapes.

    Args:
        model: an `nn.Module`, a ScriptModule or the module of a `torch.export` program, in eval mode. Not changed.
        inputs: one tensor per input, batch first; only shapes, dtypes and devices matter.

    Returns:
        A graph with `graph(*inputs)` equal to `model(*inputs)` up to rounding (batch norms are folded).
        It is of the weights as they are now, and refused once these have been written to.

    Raises:
        LRPError: what is given is no network or no tensor; the network draws random numbers, is in training mode, lets
            the data decide which way to go, or does not accept inputs of this shape.
    """
    if not inputs:
        raise LRPError("The model needs at least one input tensor; give one per input, batch first.")
    for x in inputs:
        require_tensor(x)
    refuse_untraceable(model)
    if not callable(model):
        raise LRPError(
            f"A model is needed, but got {type(model).__name__}; give an nn.Module or a loaded ScriptModule."
        )
    refuse_unready(model, inputs)
    with _ONE_AT_A_TIME, _kept(model):
        traced, rebuild, numbers = _trace(model, [_plain(x) for x in inputs])
        passes.tell_parameters(traced)
        spell_batch_norm(traced.graph)
        spell_selections(traced.graph)
        traced.graph.eliminate_dead_code()
        refuse_quantized(traced.graph)
        refuse_randomness(traced.graph)
        refuse_training(traced.graph)
        refuse_shapes_from_data(traced.graph)
        passes.name_layers(traced, _parameter_names(model))
        read = passes.tensors_read(traced) + numbers
        constants = passes.normalize(traced)
        refuse_numbers_from_data(traced.graph, constants)
    return Graph(traced.graph, constants, rebuild, read)


def _trace(model: Any, inputs: list[Tensor]) -> tuple[fx.GraphModule, Rebuild, list[Tensor]]:
    """The calls, what puts the outputs together, and the numbers of its own that the network has decided by."""
    structure: list[tuple[str, Rebuild, list[Tensor]]] = []

    def flat(integers: Callable[[], AbstractContextManager[Any]], *args: Tensor) -> list[Tensor]:
        with integers() as known, RefuseLeaving():
            result = model(*args)
            tensors, rebuild = flatten_output(result)
        structure.append((type(result).__name__, rebuild, known.read if known else []))
        return tensors

    try:
        # The fused attention and recurrence kernels are opaque; without them both are spelled out in layers and gates.
        # And cuDNN's norms are ATen's by another name.
        with (
            torch.no_grad(),
            warnings.catch_warnings(),
            sdpa_kernel(SDPBackend.MATH),
            _without_vendors(),
        ):
            warnings.simplefilter("ignore")
            try:
                traced = _functional(partial(flat, KnownNumbers), inputs)
            except RuntimeError as error:  # a signal was written to integers that are not traced: `mask &= x > 0`
                if "mutating a non-functional tensor" not in str(error):
                    raise
                traced = _functional(partial(flat, nullcontext), inputs)
    except (DataDependentOutputException, DynamicOutputShapeException) as error:
        raise LRPError(
            f"The model lets its data decide what it computes ({error.func}), so its graph cannot be captured; "
            "replace that branch or loop by tensor operations."
        ) from error
    except LRPError:
        raise
    except Exception as error:
        raise explained(error, model, inputs) from error
    if not any(node.op == "output" and node.args[0] for node in traced.graph.nodes):
        raise LRPError(
            f"The model returns {structure[-1][0]}, in which there is no tensor to explain; let it return tensors, or a"
            " tuple, list, dict or dataclass of them."
        )
    return traced, *structure[-1][1:]


@contextmanager
def _without_vendors() -> Iterator[None]:
    """The switches of oneDNN and cuDNN (MIOpen's, too) alone: their `flags` touch TF32 as well, and warn."""
    before = torch.backends.mkldnn.enabled, torch.backends.cudnn.enabled
    torch.backends.mkldnn.enabled = False  # type: ignore[assignment]
    torch.backends.cudnn.enabled = False
    try:
        yield
    finally:
        torch.backends.mkldnn.enabled, torch.backends.cudnn.enabled = before  # type: ignore[assignment]


def _functional(function: Callable[..., list[Tensor]], inputs: list[Tensor]) -> fx.GraphModule:
    """The calls of a function, none of which writes in place."""
    try:
        traced = _functionalised(function, inputs)
    except Exception:  # a functionalised tensor cannot be read even where its value is known: `shape.tolist()`
        traced = _traced(function, inputs)
    passes.forget_layouts(traced.graph)
    if passes.writes_in_place(traced.graph):  # within a composite call, such as circular padding
        refuse_training(traced.graph)  # PyTorch 2.4 cannot functionalise what writes running statistics
        traced = _functionalised(traced, inputs)
    return traced


def _functionalised(function: Callable[..., list[Tensor]], inputs: list[Tensor]) -> fx.GraphModule:
    traced = _traced(functionalize(function), inputs)
    passes.forget_writes_to_inputs(traced.graph)
    return traced


def _traced(function: Callable[..., list[Tensor]], inputs: list[Tensor]) -> fx.GraphModule:
    tracer = make_fx(function, {**SPELLED_OUT, **STEPS, **TRACED}, tracing_mode="fake", _allow_non_fake_inputs=True)
    # TorchScript's optimiser compares constants, which tracing forbids
    with torch.jit.optimized_execution(False), _without_logs():
        return tracer(*inputs)


@contextmanager
def _kept(model: Any) -> Iterator[None]:
    """Put back what a network writes or replaces in its forward pass: buffers, and attributes such as a cached mask,
    which would stay a tensor without values.
    """
    modules = [m for m in model.modules() if not isinstance(m, torch.jit.ScriptModule)] if _is_module(model) else []
    held = [(module.__dict__, dict(module.__dict__)) for module in modules]
    held += [(value, dict(value)) for _, before in held for value in before.values() if isinstance(value, dict)]
    lists = [(value, list(value)) for _, before in held for value in before.values() if isinstance(value, list)]
    values = [(b, b.clone(), Unwritten([b])) for b in model.buffers()] if _is_module(model) else []
    try:
        yield
    finally:
        for attributes, before in held:
            attributes.clear()
            attributes.update(before)
        for items, content in lists:
            items[:] = content
        for buffer, value, unwritten in values:
            if unwritten.holds() and not buffer.is_inference():  # a write would be held against earlier graphs
                continue
            with torch.inference_mode(buffer.is_inference()), torch.no_grad():
                buffer.copy_(value)


@contextmanager
def _without_logs() -> Iterator[None]:
    """Keep PyTorch's loggers quiet: they tell at length of the mistake that an LRPError is about to explain."""
    loggers = [logging.getLogger(name) for name in _TELLING]
    before = [logger.disabled for logger in loggers]
    try:
        for logger in loggers:
            logger.disabled = True
        yield
    finally:
        for logger, disabled in zip(loggers, before, strict=True):
            logger.disabled = disabled


def _plain(x: Tensor) -> Tensor:
    """A torch.Tensor without a subclass (MONAI's MetaTensor, nn.Parameter), which tracing would carry along."""
    return x.detach().as_subclass(Tensor)


def _is_module(model: Any) -> bool:
    return isinstance(model, nn.Module)


def _parameter_names(model: Any) -> dict[tuple[Any, ...], str]:
    """Name of each parameter and buffer by the memory it occupies: the one identity TorchScript keeps, too.

    What a parametrization (weight norm, spectral norm) is made of has the name of what it makes.
    """
    named = [*model.named_parameters(), *model.named_buffers()] if _is_module(model) else []
    return {passes.identity(tensor): _PARAMETRIZED.sub(r".\1", name) for name, tensor in named}
