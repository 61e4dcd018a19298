"""What a run will do, decided from graph and composite before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass

import torch
from torch import fx

from .call import Answer
from .composites import ROLES, Composite
from .edit import packet
from .errors import LRPError
from .graph import Graph, arguments, layer_of, results_of, shape_of
from .inner import steps_to
from .layers import matrices_of
from .norms import NORMS
from .operators import CONVOLUTION, DENSE, NORM, operator_name, require_answers
from .origins import non_negative, require_scores
from .remaking import Recipe, recipes
from .rules import PASS, LinearRule, Rule

aten = torch.ops.aten


@dataclass(frozen=True)
class Plan:
    """What a run will do, decided before anything is computed.

    Attributes:
        steps: the calls that the chosen output depends on, in forward order.
        answers, rules: what each operator does and the rule it does it with.
        norms: for a layer the normalisation folded into it.
        folded: the folded normalisations.
        saves: for each step the nodes whose values its backward step reads.
        recipes: how some of these are made from the others.
        non_negative: nodes whose values are never negative.
        by_sign: layers whose contributions count by their sign alone, and have both.
    """

    steps: list[fx.Node]
    answers: dict[fx.Node, Answer]
    rules: dict[fx.Node, Rule]
    norms: dict[fx.Node, fx.Node]
    folded: frozenset[fx.Node]
    saves: dict[fx.Node, list[fx.Node]]
    recipes: dict[fx.Node, Recipe]
    non_negative: frozenset[fx.Node]
    by_sign: frozenset[fx.Node]


def make_plan(graph: Graph, composite: Composite, output: fx.Node) -> Plan:
    """Decide every operator's answer and rule, which norms fold, and which values the backward walk will read."""
    require_scores(output, graph)
    steps = steps_to(graph, output)
    answers = require_answers(graph, steps)
    norms = {} if composite.normalization == "identity" else _foldable(answers, graph)
    folded = frozenset(norms.values())
    first, last = _first_layers(steps, answers), _last_layers(steps, answers)
    # Of one answer for the whole input. A segmentation's scores are read voxel by voxel
    scores = _of_scores(steps, last) if shape_of(output)[2:].numel() == 1 else set()
    _require_layers(composite, answers)
    resampled = _of_the_input(graph, answers)
    never_negative = non_negative(graph)
    rules: dict[fx.Node, Rule] = {}
    saves: dict[fx.Node, list[fx.Node]] = {}
    by_sign: set[fx.Node] = set()
    for node, answer in answers.items():
        special = ("input",) if node in first else ("head",) if node in last else ()
        roles = (*special, answer.role)
        if scores and special == ("head",):
            roles = ("head", "linear")  # a convolution that gives the classes' scores is a dense layer at each place
        elif node in scores and answer.role in ("sum", "average", "bias"):
            roles = ("scores", answer.role)
        elif node in resampled:
            roles = ("resampled", answer.role)
        rule = composite.rule_for(roles, layer_of(node), answer.accepts, prior=node in scores)
        if answer is NORM and composite.normalization == "identity":
            rule = PASS
        if not answer.accepts(rule):
            raise _does_not_apply(rule, node, answer)
        rules[node] = rule
        if _goes_by_sign(node, answer, rule, never_negative | graph.constants.keys()):
            by_sign.add(node)
        saved = [] if node in folded else answer.saves(node, rule, node in by_sign)
        norm = node if packet(node) in NORMS else norms.get(node)
        if norm is not None and saved:  # its output stands for that of the layer it is folded into
            results = results_of(norm)
            saved = [results[0] if source is node else source for source in saved] + [results[1], results[2]]
        saves[node] = [source for source in saved if source not in graph.constants]
    again = recipes(steps, saves, answers)
    return Plan(steps, answers, rules, norms, folded, saves, again, never_negative, frozenset(by_sign))


def _goes_by_sign(node: fx.Node, answer: Answer, rule: Rule, never_negative: Set[fx.Node]) -> bool:
    """Whether a layer's contributions are told apart by x w and |x w|: of signed inputs that are not in groups."""
    if answer not in (CONVOLUTION, DENSE) or not isinstance(rule, LinearRule) or not rule.by_sign():
        return False
    grouped = packet(node) is aten.convolution and arguments(node)[8] > 1
    return not grouped and any(source not in never_negative for source in node.all_input_nodes)


def _foldable(answers: Mapping[fx.Node, Answer], graph: Graph) -> dict[fx.Node, fx.Node]:
    """Layer -> the normalisation that alone reads it, and whose channels are the layer's."""
    norms = {}
    for node in answers:
        if packet(node) not in NORMS:
            continue
        layer = arguments(node)[0]
        if answers.get(layer) not in (CONVOLUTION, DENSE) or sum(user in answers for user in layer.users) != 1:
            continue
        by_rows = packet(node) is aten.native_layer_norm
        if by_rows != (answers[layer] is DENSE):
            continue
        if not by_rows or (len(arguments(node)[1]) == 1 and graph.is_constant(matrices_of(layer)[1])):
            norms[layer] = node
    return norms


def _first_layers(steps: list[fx.Node], answers: Mapping[fx.Node, Answer]) -> set[fx.Node]:
    """Weighted layers that no other weighted layer precedes."""
    after: set[fx.Node] = set()
    first: set[fx.Node] = set()
    for node in steps:
        if any(source in after for source in node.all_input_nodes):
            after.add(node)
        elif answers[node] in (CONVOLUTION, DENSE):
            first.add(node)
            after.add(node)
    return first


def _of_the_input(graph: Graph, answers: Mapping[fx.Node, Answer]) -> set[fx.Node]:
    """Averages and resamplings of the input itself, which has been moved about at most."""
    raw, found = set(graph.inputs), set[fx.Node]()
    for node, answer in answers.items():
        sources = [source for source in node.all_input_nodes if source not in graph.constants]
        if answer.role in ("move", "average") and all(source in raw for source in sources):
            raw.add(node)
            if answer.role == "average":
                found.add(node)
    return found


def _last_layers(steps: list[fx.Node], answers: Mapping[fx.Node, Answer]) -> set[fx.Node]:
    """Weighted layers that no other weighted layer follows on the way to the output."""
    before: set[fx.Node] = set()
    last: set[fx.Node] = set()
    for node in reversed(steps):
        weighted = answers[node] in (CONVOLUTION, DENSE)
        if weighted and node not in before:
            last.add(node)
        if weighted or node in before:
            before.update(node.all_input_nodes)
    return last


def _of_scores(steps: list[fx.Node], last: Set[fx.Node]) -> set[fx.Node]:
    """The last layers, and what is made of their results."""
    found = set(last)
    for node in steps:
        if any(source in found for source in node.all_input_nodes):
            found.add(node)
    return found


def _require_layers(composite: Composite, answers: Mapping[fx.Node, Answer]) -> None:
    """LRPError when a row names layers that the network has not: a typing mistake would silently do nothing."""
    for row in composite.rows:
        if row.match in ROLES:
            continue
        named = [(node, answer) for node, answer in answers.items() if row.matches((), layer_of(node))]
        if not named:
            raise LRPError(
                f"No layer of the model is named '{row.match}'; write a name or pattern that `lrpexplain inspect` "
                f"shows, or a role ({', '.join(ROLES)})."
            )
        if not any(answer.accepts(row.rule) for _, answer in named):
            raise _does_not_apply(row.rule, *named[0])


def _does_not_apply(rule: Rule, node: fx.Node, answer: Answer) -> LRPError:
    return LRPError(
        f"The rule {rule} does not apply to {layer_of(node)} ({operator_name(node)}), which knows "
        f"{', '.join(answer.rules)}; change that row of the composite."
    )
