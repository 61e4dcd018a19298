"""How relevance passes a linear layer by a rule: the one implementation of the formula in :mod:`.rules`."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from .flow import Flow, Passage, share_of
from .linear import LinearMap
from .magnitudes import by_magnitudes, signs_are_known
from .rules import LinearRule
from .terms import by_terms


def flow_through(rule: LinearRule, layer: LinearMap, relevance: Tensor) -> Flow:
    """Propagate the relevance of a layer's output to its inputs."""
    passage = Passage(rule, layer, Flow([]))
    if rule.by_sign() and signs_are_known(layer):
        passage.where_it_is(relevance, rule.parts, by_magnitudes)
    else:
        for part in rule.parts:
            share = share_of(part, relevance, layer.output)
            # behind a ReLU nothing reaches negative outputs: half of gamma's work
            if part.where == "all" or share.any():
                passage.where_it_is(share, (part,), partial(by_terms, part=part))
    flow = passage.flow
    if not flow.relevance:
        flow.relevance.extend(torch.zeros_like(x) for x in layer.inputs)
    return flow
