"""What every graph pass needs: which operator a call is, a new constant, a new call, one node in another's place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor, fx


def packet(node: fx.Node) -> Any:
    """The operator without its overload (`aten.add` for `aten.add.Tensor`), or the function itself."""
    return getattr(node.target, "overloadpacket", node.target)


def constant(graph: fx.Graph, constants: dict[fx.Node, Tensor], value: Tensor, like: fx.Node) -> fx.Node:
    """A new node that stands for a computed value."""
    name = f"_computed_{len(constants)}"
    assert graph.owning_module is not None
    graph.owning_module.register_buffer(name, value)  # torch.fx wants every name to lead to one; 2.4 warns if not
    node = graph.create_node("get_attr", name)
    node.meta = _layer(like) | {"val": value}
    constants[node] = value
    return node


def call_like(graph: fx.Graph, like: fx.Node, shape: Sequence[int], target: Any, *args: Any) -> fx.Node:
    """A new call that returns a tensor of this shape and has the layer, dtype and device of another."""
    node = graph.call_function(target, args)
    node.meta = _layer(like) | {"val": like.meta["val"].new_empty(shape)}
    return node


def replace(graph: fx.Graph, node: fx.Node, by: fx.Node) -> None:
    """Let all users of `node` read `by`, which keeps its own metadata, and remove `node`."""
    node.replace_all_uses_with(by, propagate_meta=False)
    graph.erase_node(node)


def forget_unread(graph: fx.Graph, nodes: Iterable[fx.Node]) -> None:
    """Remove those that nothing reads, and what they alone read: in passes over many nodes, where looking through the
    whole graph after each (`eliminate_dead_code`) would take longer than all else."""
    waiting = dict.fromkeys(nodes)
    while waiting:
        node, _ = waiting.popitem()
        if node.op in ("call_function", "get_attr") and not node.users:
            waiting.update(dict.fromkeys(node.all_input_nodes))
            graph.erase_node(node)


def _layer(node: fx.Node) -> dict[str, Any]:
    """The name of a node's layer, if it has one, as metadata of another."""
    return {"layer": node.meta["layer"]} if "layer" in node.meta else {}
