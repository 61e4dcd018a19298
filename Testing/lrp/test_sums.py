"""Sums for the books, and the pieces that layers are worked on in."""

import pytest
import torch
from LRPExplainLib.lrp.optimizations import without
from LRPExplainLib.lrp.sums import PIECE, dots, pieces, total
from torch import Tensor

SHAPE = (2, 3, 33, 40, 41)  # not a multiple of what is summed at once


def signed(dtype: torch.dtype = torch.float32, layout: torch.memory_format = torch.contiguous_format) -> Tensor:
    """Relevance of both signs that nearly cancels."""
    made = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return (made - made.mean()).to(dtype).to(memory_format=layout)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_what_cancels_is_summed_as_in_float64(dtype: torch.dtype, layout: torch.memory_format) -> None:
    x = signed(dtype, layout)
    # about what the values' own rounding in float32 is worth in a sum of so many
    assert abs(float(total(x) - x.double().sum())) < 1e-9 * float(x.double().abs().sum())
    assert total(x).dtype == torch.float64


def test_without_runs_the_sum_is_that_of_a_float64_copy() -> None:
    x = signed()
    with without("runs"):
        assert float(total(x)) == float(x.double().flatten().sum())


@pytest.mark.parametrize("shape", [(), (2, 1, 1, 1, 1), (1, 3, 1, 1, 1), (1, 3, 33, 1, 1), (1, 1, 33, 40, 41), SHAPE])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_sums_times_factors_are_those_of_the_products(shape: tuple[int, ...], layout: torch.memory_format) -> None:
    s, factor = signed(layout=layout), torch.rand(shape, generator=torch.Generator().manual_seed(1)) + 0.5
    (alone,) = dots(s, factor.expand_as(s))
    _, beside = dots(s, torch.tensor(2.0).expand_as(s), factor.expand_as(s))
    wanted = float((s.double() * factor).sum())
    largest = float((s.double() * factor).abs().sum())
    assert float(alone) == pytest.approx(wanted, abs=1e-9 * largest)
    assert float(beside) == pytest.approx(wanted, abs=1e-9 * largest)


def test_pieces_are_of_all_tensors_and_what_is_broadcast_is_whole_in_each() -> None:
    x = torch.arange(2 * PIECE, dtype=torch.float32).view(1, 2, 16, -1, 64)
    along, channels, scalar = x[:, :1] * 2, x[:, :, :1, :1, :1], torch.tensor(3.0)
    found = list(pieces(x, along, channels, None, scalar))
    assert len(found) > 1
    assert torch.equal(torch.cat([piece[0] for piece in found], 2), x)
    assert torch.equal(torch.cat([piece[1] for piece in found], 2), along)
    assert all(piece[2] is channels and piece[3] is None and piece[4] is scalar for piece in found)


def test_what_is_small_is_one_piece() -> None:
    x, bias = torch.rand(1, 2, 4, 4), torch.rand(1, 2, 1, 1)
    ((whole, same, nothing),) = pieces(x, bias, None)
    assert whole is x
    assert same is bias
    assert nothing is None
