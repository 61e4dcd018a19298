"""Relevance is conserved, and accounted for, on every network of the registry with every composite."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from benchmarks.networks import NETWORKS, Network, first_tensor, start_relevance
from LRPExplainLib import lrp
from LRPExplainLib.lrp import Attribution, Graph, LedgerRow
from torch import Tensor

CLOSES = 1e-3  # of the start relevance: issue and DESIGN.md
ROW_CLOSES = 1e-4
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

    @functools.lru_cache(maxsize=None)  # noqa: B019 - lives as long as the case
    def explained(self, composite: str) -> Attribution:
        return lrp.attribute(self.graph, self.x, start_relevance(self.output), composite)


@pytest.fixture(scope="module", params=NETWORKS.values(), ids=NETWORKS)
def network(request: pytest.FixtureRequest) -> Network:
    missing = request.param.missing()
    if missing:
        pytest.skip(missing)
    return request.param


@pytest.fixture(scope="module", params=[False, True], ids=["zero-biases", "biases"])
def case(request: pytest.FixtureRequest, network: Network) -> Case:
    """One capture of each network without and one with its biases, shared by all that is asked of it."""
    model, x = network.build(biases=request.param), network.input()
    with torch.no_grad():
        output = first_tensor(model(x))
    return Case(network, request.param, lrp.capture(model, x), x, output)


def test_captured_network_computes_the_same(case: Case) -> None:
    """Batch norms are folded, so rounding may differ; deep networks at random weights amplify it."""
    output = first_tensor(case.graph(case.x))
    assert output.shape == case.output.shape
    assert case.output.abs().max() > 0
    assert (output - case.output).abs().max() <= 1e-4 * case.output.abs().max()


def test_every_operator_has_an_answer(case: Case) -> None:
    assert [operator.name for operator in case.graph.operators() if operator.role is None] == []


def test_registry_says_which_networks_hold_sample_statistics(case: Case) -> None:
    """The bare ratio is asked of all the others: a norm that is overlooked here would be let off."""
    holds = any(operator.name in SAMPLE_NORMS for operator in case.graph.operators())
    assert holds == (case.network.norm == "sample")


@pytest.mark.parametrize("composite", COMPOSITES)
def test_relevance_is_accounted_for(case: Case, composite: str, record_property: Callable[[str, object], None]) -> None:
    attribution = case.explained(composite)
    ledger, start = attribution.ledger, float(start_relevance(case.output).double().sum())
    if not case.biases:
        absorbed = ledger.absorbed / start
        record_property(
            "conservation", (case.network.name, case.network.norm, composite, ledger.relevance / start, absorbed)
        )
    assert ledger.target_value == pytest.approx(start)
    assert torch.isfinite(attribution.relevance).all()
    assert attribution.relevance.double().sum().item() == pytest.approx(ledger.relevance, abs=1e-9 * start)
    assert abs((ledger.relevance + ledger.absorbed) / start - 1) <= CLOSES
    assert [row for row in ledger.by_layer if abs(row.gap) > ROW_CLOSES * start] == []


@pytest.mark.parametrize("composite", COMPOSITES)
def test_only_stabilisers_and_sample_means_absorb_without_biases(case: Case, composite: str) -> None:
    if case.biases:
        pytest.skip("biases absorb as well, and may")
    attribution = case.explained(composite)
    start = attribution.ledger.target_value

    def absorbs(row: LedgerRow) -> bool:
        return abs(row.absorbed_bias) > 1e-6 * start

    if case.network.norm != "sample":
        assert [row for row in attribution.ledger.by_layer if absorbs(row)] == []
        if composite == "epsilon-plus":
            assert abs(attribution.ledger.relevance / start - 1) <= CLOSES
    softmax_expands = composite == "attn-lrp"  # its softmax rule has a constant term; Achtibat 2024, prop. 3.1
    changed = [
        row for row in attribution.ledger.by_layer if row.changed and not (softmax_expands and row.role == "softmax")
    ]
    assert changed == []
