"""Relevance is conserved, and accounted for, on every network of the registry with every composite."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from LRPExplainLib import lrp
from LRPExplainLib.lrp import Graph, Ledger, count_operators
from torch import Tensor

from benchmarks.networks import NETWORKS, Network, first_tensor, start_relevance

CLOSES = 1e-3  # of the start relevance, for a whole network
ROW_CLOSES = 1e-4  # for one layer
COMPOSITES = [name for name in ("epsilon", "epsilon-plus", "gamma", "attn-lrp", "volume") if name in lrp.COMPOSITES]
SAMPLE_NORMS = ("aten.native_group_norm", "aten.native_layer_norm")


@dataclass(frozen=True)
class Case:
    """A network captured, with its input and its output as PyTorch computes it."""

    network: Network
    biases: bool
    graph: Graph
    x: Tensor
    output: Tensor


CASES = {f"{name}{suffix}": (name, biases) for name in NETWORKS for biases, suffix in ((False, ""), (True, "-biases"))}


@pytest.fixture(scope="module", params=CASES.values(), ids=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    """One capture of each network without and one with its biases, shared by all that is asked of it."""
    name, biases = request.param
    network = NETWORKS[name]
    missing = network.missing()
    if missing:
        pytest.skip(missing)
    model, x = network.build(biases), network.input()
    with torch.no_grad():
        output = first_tensor(model(x))
    return Case(network, biases, lrp.capture(model, x), x, output)


def test_captured_network_computes_the_same(case: Case) -> None:
    """Batch norms are folded, so rounding may differ; deep networks at random weights amplify it."""
    output = first_tensor(case.graph(case.x))
    assert output.shape == case.output.shape
    assert case.output.abs().max() > 0
    assert (output - case.output).abs().max() <= 1e-4 * case.output.abs().max()


def test_every_operator_has_an_answer(case: Case) -> None:
    assert [operator.name for operator in count_operators(case.graph) if operator.role is None] == []


def test_registry_says_which_networks_hold_sample_statistics(case: Case) -> None:
    """The bare ratio is asked of all the others: a norm that is overlooked here would be let off."""
    holds = any(operator.name in SAMPLE_NORMS for operator in count_operators(case.graph))
    assert holds == (case.network.norm == "sample")


@pytest.mark.parametrize("composite", COMPOSITES)
def test_relevance_is_accounted_for(case: Case, composite: str, record_property: Callable[[str, object], None]) -> None:
    attribution = lrp.attribute(case.graph, case.x, start_relevance(case.output), composite)
    ledger, start = attribution.ledger, float(start_relevance(case.output).double().sum())
    assert torch.isfinite(attribution.relevance).all()
    assert ledger.target_value == pytest.approx(start, rel=1e-6)
    assert ledger.relevance == pytest.approx(attribution.relevance.double().sum().item(), abs=1e-6 * start)
    assert abs((ledger.relevance + ledger.absorbed) / start - 1) <= CLOSES
    assert [row for row in ledger.by_layer if abs(row.gap) > ROW_CLOSES * start] == []
    if not case.biases:
        row = (case.network.name, case.network.norm, composite, ledger.relevance / start, ledger.absorbed / start)
        record_property("conservation", row)
        assert_only_stabilisers_and_sample_means_absorb(case.network, composite, ledger)


def assert_only_stabilisers_and_sample_means_absorb(network: Network, composite: str, ledger: Ledger) -> None:
    rows, start = ledger.by_layer, ledger.target_value
    means_absorb = network.norm == "sample" and lrp.COMPOSITES[composite].normalization == "fixed"
    if not means_absorb:
        assert [row for row in rows if abs(row.absorbed_bias) > CLOSES * start] == []
    if network.norm != "sample" and composite == "epsilon-plus":
        assert abs(ledger.relevance / start - 1) <= CLOSES
    # the softmax of attn-lrp is expanded around its input, which leaves a constant (Achtibat 2024, prop. 3.1)
    assert {row.role for row in rows if row.changed} <= ({"softmax"} if composite == "attn-lrp" else set())
