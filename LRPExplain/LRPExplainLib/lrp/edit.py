"""What every graph pass needs: which operator a call is, a new constant, one node in another's place."""

from __future__ import annotations

from typing import Any

from torch import Tensor, fx


def packet(node: fx.Node) -> Any:
    """The operator without its overload (`aten.add` for `aten.add.Tensor`), or the function itself."""
    return getattr(node.target, "overloadpacket", node.target)


def constant(graph: fx.Graph, constants: dict[fx.Node, Tensor], value: Tensor, like: fx.Node) -> fx.Node:
    """A new node that stands for a computed value."""
    name = f"_computed_{len(constants)}"
    setattr(graph.owning_module, name, value)  # torch.fx wants every name to lead somewhere
    node = graph.create_node("get_attr", name)
    node.meta = {key: like.meta[key] for key in ("layer",) if key in like.meta}
    node.meta["val"] = value
    constants[node] = value
    return node


def replace(graph: fx.Graph, node: fx.Node, by: fx.Node) -> None:
    """Let all users of `node` read `by`, which keeps its own metadata, and remove `node`."""
    node.replace_all_uses_with(by, propagate_meta=False)
    graph.erase_node(node)
