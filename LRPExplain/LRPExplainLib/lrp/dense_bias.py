"""A graph pass that gives dense layers their biases back.

`F.linear` becomes one `addmm` where its input lies contiguously, and `mm` or `bmm`, `reshape` and `add` where it does
not (behind a transpose, in attention). It is the same layer, so it must get the same rule.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from .edit import call_like, replace
from .graph import arguments, keywords, shape_of

aten = torch.ops.aten


def join_dense_biases(graph: fx.Graph, constants: dict[fx.Node, Tensor]) -> None:
    """Spell `reshape(x @ w) + b` with constant w [C, K] and b [K] as `reshape(addmm(b, x, w))`."""
    for node in list(graph.nodes):
        if node.target is not aten.add.Tensor or keywords(node):
            continue
        for product, bias in (arguments(node)[:2], arguments(node)[1::-1]):
            found = _product_of(product, bias, constants)
            if found is not None:
                with graph.inserting_before(node):
                    joined = with_bias(graph, found, bias, constants)
                    if shape_of(node) != shape_of(joined):
                        joined = call_like(
                            graph, node, shape_of(node), aten.reshape.default, joined, list(shape_of(node))
                        )
                replace(graph, node, joined)
                break


def _product_of(summand: Any, bias: Any, constants: dict[fx.Node, Tensor]) -> fx.Node | None:
    """The product with a constant matrix that is read here alone, seen through a view of its rows."""
    if not (isinstance(summand, fx.Node) and isinstance(bias, fx.Node) and bias in constants):
        return None
    outputs = shape_of(summand)[-1:]
    if summand in constants or constants[bias].shape != outputs:
        return None
    product = summand
    while product.target is aten.reshape.default and len(product.users) == 1:
        product = arguments(product)[0]
    if product.target not in (aten.mm.default, aten.bmm.default) or len(product.users) != 1:
        return None
    shared = is_shared(constants.get(arguments(product)[1]))
    return product if shared and shape_of(product)[-1:] == outputs else None


def is_shared(matrix: Tensor | None) -> bool:
    """Whether this is one matrix for a whole batch."""
    return matrix is not None and (matrix.dim() == 2 or matrix.stride(0) == 0 or len(matrix) == 1)


def with_bias(graph: fx.Graph, product: fx.Node, bias: fx.Node, constants: dict[fx.Node, Tensor]) -> fx.Node:
    """The product with a bias, as rows."""
    x, weight = arguments(product)
    rows = shape_of(product)[:-1].numel()
    if product.target is aten.bmm.default:  # one matrix for all: the batch is more rows
        matrix = constants[weight][0]
        weight = call_like(graph, weight, matrix.shape, aten.select.int, weight, 0, 0)
        constants[weight] = matrix
        x = call_like(graph, x, (rows, shape_of(x)[-1]), aten.reshape.default, x, [rows, shape_of(x)[-1]])
    return call_like(graph, product, (rows, shape_of(product)[-1]), aten.addmm.default, bias, x, weight)
