"""Bytes of the values of a captured graph, and what is alive of them; views are not counted twice."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from .edit import packet
from .graph import Graph, results_of

aten = torch.ops.aten


class Sizes:
    """Bytes of nodes' values; views belong to what they are views of, of several results each is on its own."""

    def __init__(self, graph: Graph) -> None:
        self._root: dict[fx.Node, fx.Node] = {}
        self._bytes: dict[fx.Node, int] = {}
        for node in [*graph.inputs, *graph.steps]:
            source = _viewed(node)
            self._root[node] = self._root.get(source, source) if source is not None else node
            self._bytes[node] = bytes_of(node) - sum(bytes_of(result) for result in results_of(node).values())

    def root(self, node: fx.Node) -> fx.Node | None:
        """The node whose memory a node's value lies in; None for constants, which are counted once for all."""
        return self._root.get(node)

    def of(self, node: fx.Node) -> int:
        return self._bytes.get(node, 0)

    def union(self, nodes: Iterable[fx.Node]) -> int:
        """Bytes of several values together."""
        return sum(self._bytes[root] for root in {self._root[node] for node in nodes if node in self._root})


class Meter:
    """What is alive, and the most that ever was."""

    def __init__(self, sizes: Sizes) -> None:
        self._sizes = sizes
        self._holders: Counter[fx.Node] = Counter()
        self.now = 0
        self.peak = 0

    def hold(self, node: fx.Node) -> None:
        root = self._sizes.root(node)
        if root is not None:
            if not self._holders[root]:
                self.now += self._sizes.of(root)
            self._holders[root] += 1

    def drop(self, node: fx.Node) -> None:
        root = self._sizes.root(node)
        if root is not None:
            self._holders[root] -= 1
            if not self._holders[root]:
                self.now -= self._sizes.of(root)

    def working(self, bytes_: int) -> None:
        self.peak = max(self.peak, self.now + bytes_)


def _viewed(node: fx.Node) -> fx.Node | None:
    """What a call returns a view of, if it does."""
    schema = getattr(node.target, "_schema", None)
    if not node.all_input_nodes:
        return None
    source = node.all_input_nodes[0]
    if node.target is operator.getitem:
        return source if _viewed(source) is not None else None
    if schema is None or not schema.returns or schema.returns[0].alias_info is None:
        return None
    value = source.meta.get("val")
    copies = packet(node) is aten.reshape and not (isinstance(value, Tensor) and value.is_contiguous())
    return None if copies else source


def leaves(node: fx.Node) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(node.meta.get("val")) if isinstance(leaf, Tensor)]


def bytes_of(node: Any) -> int:
    return sum(leaf_bytes(leaf) for leaf in leaves(node)) if isinstance(node, fx.Node) else 0


def leaf_bytes(leaf: Tensor) -> int:
    return leaf.numel() * leaf.element_size()
