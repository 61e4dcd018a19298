"""What runs under other names on CUDA, in networks and in programs that were taken down there, is what it is here."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lrp_helpers import Function, difference, noise, seeded
from LRPExplainLib.lrp import LRPError, attribute, capture
from torch import Tensor, nn

aten = torch.ops.aten
MEAN, VARIANCE, SHIFT = noise(4, seed=6), noise(4, seed=7).abs(), noise(4, seed=8)
STATISTICS = (VARIANCE, SHIFT, MEAN, VARIANCE)


def fused(kernel: Callable[..., Any], cell: nn.LSTMCell | nn.GRUCell) -> Callable[[Tensor], Any]:
    """A cell as CUDA runs it: products without their biases, and one kernel for the rest."""

    def call(x: Tensor) -> Any:
        state = x[:, :4]
        products = x @ cell.weight_ih.T, state @ cell.weight_hh.T
        return kernel(*products, state, cell.bias_ih, cell.bias_hh)

    return call


LSTM, GRU = seeded(lambda: nn.LSTMCell(5, 4)), seeded(lambda: nn.GRUCell(5, 4))
SAME: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor], Tensor]] = {
    "LSTM": (
        lambda x: torch.cat(fused(aten._thnn_fused_lstm_cell, LSTM)(x)[:2], 1),
        lambda x: torch.cat(LSTM(x, (x[:, :4], x[:, :4])), 1),
        noise(2, 5),
    ),
    "GRU": (lambda x: fused(aten._thnn_fused_gru_cell, GRU)(x)[0], lambda x: GRU(x, x[:, :4]), noise(2, 5)),
    "batch norm": (
        lambda x: aten.cudnn_batch_norm(x, *STATISTICS, False, 0.1, 1e-5)[0],
        lambda x: F.batch_norm(x, MEAN, VARIANCE, VARIANCE, SHIFT, eps=1e-5),
        noise(2, 4, 5, 3),
    ),
    "batch norm, MIOpen": (
        lambda x: aten.miopen_batch_norm(x, *STATISTICS, False, 0.1, 1e-5)[0],
        lambda x: F.batch_norm(x, MEAN, VARIANCE, VARIANCE, SHIFT, eps=1e-5),
        noise(2, 4, 5, 3),
    ),
    "RMS norm": (
        lambda x: aten._fused_rms_norm(x, [4], SHIFT, 1e-5)[0],
        lambda x: F.rms_norm(x, [4], SHIFT, 1e-5),
        noise(2, 5, 4),
    ),
    "instance norm": (
        lambda x: aten.cudnn_batch_norm(x, VARIANCE, SHIFT, None, None, True, 0.1, 1e-5)[0],
        lambda x: F.instance_norm(x, weight=VARIANCE, bias=SHIFT, eps=1e-5),
        noise(1, 4, 5, 3),
    ),
}  # fmt: skip


# What PyTorch 2.4 does not trace without the hardware, or does not have
LATER = {"batch norm, MIOpen": "miopen_batch_norm", "RMS norm": "_fused_rms_norm"}


def traceable(kernel: str) -> bool:
    """Whether this PyTorch has a kernel, and knows its shapes without the hardware."""
    known = torch._C._dispatch_has_kernel_for_dispatch_key
    return hasattr(aten, kernel) and any(known(f"aten::{kernel}", key) for key in ("Meta", "CompositeImplicitAutograd"))


@pytest.mark.parametrize("name", SAME)
def test_answer_and_map_are_the_same(name: str) -> None:
    if name in LATER and not traceable(LATER[name]):
        pytest.skip(f"PyTorch {torch.__version__} does not trace {LATER[name]} here")
    theirs, here, x = SAME[name]
    graphs = [capture(Function(function), x) for function in (theirs, here)]
    expected = here(x).detach()
    assert difference(graphs[0](x), expected) < 1e-12
    start = noise(*expected.shape, seed=3)
    for composite in ("epsilon", "epsilon-plus", "volume", "attn-lrp"):
        found, wanted = (attribute(graph, x, start, composite) for graph in graphs)
        assert difference(found.relevance, wanted.relevance) < 1e-5, composite
        assert abs(found.ledger.gap) <= 1e-9 * float(start.abs().sum())


def test_a_batch_norm_in_training_is_refused() -> None:
    network = Function(lambda x: aten.cudnn_batch_norm(x, *STATISTICS, True, 0.1, 1e-5)[0])
    with pytest.raises(LRPError, match="in training mode"):
        capture(network, noise(2, 4, 5, 3))


@pytest.mark.parametrize("refuse", [False, True])
def test_kernels_of_vendors_are_off_while_a_network_is_captured_and_on_again_afterwards(refuse: bool) -> None:
    def enabled() -> tuple[bool, bool]:
        return torch.backends.mkldnn.enabled, torch.backends.cudnn.enabled

    before, seen = enabled(), []

    def network(x: Tensor) -> Tensor:
        seen.append(enabled())
        if refuse:
            raise ValueError
        return x * 2

    assert before == (True, True)
    if refuse:
        with pytest.raises(LRPError):
            capture(Function(network), noise(1, 2))
    else:
        capture(Function(network), noise(1, 2))
    assert seen[0] == (False, False)
    assert enabled() == before
