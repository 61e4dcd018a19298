"""What is not a linear layer, against brute force: moves, maxima, activations, gates, softmax and attention."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from lrp_helpers import Case, Map, difference, explain, jacobian, noise, of, one_rule, shaped, table
from LRPExplainLib.lrp import COMPOSITES, Attribution, attribute, capture, count_operators, rules
from LRPExplainLib.lrp.origins import non_negative
from torch import Tensor, nn

TOLERANCE = 1e-6
COLUMNS = torch.tensor([2, 0, 0])
MASK = torch.tensor([[True, False, False], [False, True, False]])


def parts_of(found: Attribution) -> Tensor:
    """The relevance of all inputs as one vector."""
    parts = found.relevance if isinstance(found.relevance, tuple) else (found.relevance,)
    return torch.cat([part.flatten() for part in parts])


def overwritten(x: Tensor, y: Tensor) -> Tensor:
    """In-place writing, as windowed attention and circular padding do."""
    x = x.clone()
    x[:, 1:2] = y
    return x


def overwritten_by_index(x: Tensor, y: Tensor) -> Tensor:
    x = x.clone()
    x[:, COLUMNS[:2]] = y
    return x


def zeroed(x: Tensor) -> Tensor:
    x = x.clone()
    x[:, 1:] = 0.0
    return x


def written_to(x: Tensor) -> Tensor:
    x[:, :2] = 2.0
    x[:, 2:] = 3.0
    return x


MADE_LIKE: dict[str, Map] = {
    "empty": lambda x: written_to(torch.empty_like(x)), "zeros": torch.zeros_like, "ones": torch.ones_like,
    "full": lambda x: torch.full_like(x, 2.0), "new zeros": lambda x: x.new_zeros(2, 3),
    "new ones": lambda x: x.new_ones(2, 3), "new full": lambda x: x.new_full((2, 3), 2.0),
    "new empty": lambda x: written_to(x.new_empty(2, 3)), "filled": lambda x: x.clone().fill_(2.0),
    "zeroed": lambda x: x.clone().zero_(), "of the sum": lambda x: torch.ones_like(x.sum(1, True)),
}  # fmt: skip


@pytest.mark.parametrize("name", MADE_LIKE)
def test_what_is_made_in_the_shape_of_a_signal_is_constant(name: str) -> None:
    made, x = MADE_LIKE[name], noise(2, 3)
    model = of(lambda x: 2 * x + made(x))()
    graph = capture(model, x)
    assert {operator.name for operator in count_operators(graph)} == {"aten.add", "aten.mul"}
    assert difference(graph(x), 2 * x + made(x)) <= TOLERANCE
    start = noise(2, 3, seed=9)
    found = attribute(graph, x, start, one_rule(rules.norm(rules.Stabilizer(1e-15, relative=False))))
    assert difference(found.relevance, start * 2 * x / (2 * x + made(x))) <= TOLERANCE


def filled(x: Tensor, y: Tensor) -> Tensor:
    result = x.new_empty(2, 7)
    result[:, :3] = x
    result[:, 3] = 2.5
    result[:, 4:] = y
    return result


@table(
    ("zero padding", of(lambda x: F.pad(x, (1, 2, 0, 1))), (2, 2, 3)),
    ("constant padding", of(lambda x: F.pad(x, (2, 0), value=3.0)), (2, 2, 3)),
    ("cropping", of(lambda x: F.pad(x, (-1, 1, -1, -1))), (2, 4, 3)),
    ("reflect", lambda: nn.ReflectionPad2d((1, 0, 2, 1)), (2, 1, 3, 2)),
    ("reflect 3d", lambda: nn.ReflectionPad3d(1), (1, 1, 2, 2, 3)),
    ("replicate", lambda: nn.ReplicationPad2d((1, 0, 2, 1)), (2, 1, 2, 2)),
    ("replicate 3d", lambda: nn.ReplicationPad3d((1, 0, 0, 1, 2, 0)), (1, 1, 2, 2, 2)),
    ("circular", lambda: nn.CircularPad2d(1), (1, 2, 3, 2)),
    ("cat", of(lambda x, y: torch.cat([x, y], 1)), (2, 2, 3), (2, 1, 3)),
    ("cat of the first axis", of(lambda x, y: torch.cat([x, y])), (2, 3), (1, 3)),
    ("cat of the last axis", of(lambda x, y: torch.cat([x, y, x], -1)), (2, 3), (2, 1)),
    ("cat with a constant", of(lambda x, c=shaped(2, 1, 3): torch.cat([c, x], 1)), (2, 2, 3)),
    ("class token", of(lambda x, c=shaped(1, 1, 3): torch.cat([c.expand(2, -1, -1), x], 1)), (2, 2, 3)),
    ("stack", of(lambda x, y: torch.stack([x, y], 1)), (2, 3), (2, 3)),
    ("slice", of(lambda x: x[:, 1:4:2]), (2, 5)),
    ("slice from the end", of(lambda x: x[..., -3:-1]), (2, 5)),
    ("ellipsis and new axis", of(lambda x: x[:, None, ..., 1:]), (2, 2, 3)),
    ("narrow", of(lambda x: x.narrow(2, 1, 2)), (2, 1, 4)),
    ("select", of(lambda x: x[:, 1]), (2, 3, 2)),
    ("select from the end", of(lambda x: x.select(-1, -1)), (2, 3)),
    ("permute", of(lambda x: x.permute(0, 3, 1, 2)), (2, 2, 3, 4)),
    ("permute from the end", of(lambda x: x.permute(0, -1, -2)), (2, 3, 4)),
    ("transpose", of(lambda x: x.transpose(1, -1)), (2, 2, 3, 4)),
    ("matrix transpose", of(lambda x: x.t()), (2, 3)),
    ("flatten", of(lambda x: x.flatten(1)), (2, 2, 3)),
    ("squeeze and unsqueeze", of(lambda x: x.squeeze(1).unsqueeze(-1)), (2, 1, 3)),
    ("roll", of(lambda x: torch.roll(x, (1, -1), (1, 2))), (2, 3, 4)),
    ("roll of everything", of(lambda x: torch.roll(x, 2)), (2, 3)),
    ("flip", of(lambda x: x.flip(1, 2)), (2, 3, 2)),
    ("index", of(lambda x, i=COLUMNS: x[:, i]), (2, 3, 2)),
    ("index by two", of(lambda x, i=COLUMNS: x[:, i, i]), (2, 3, 3)),
    ("index_select", of(lambda x, i=COLUMNS: x.index_select(1, i)), (2, 3)),
    ("gather", of(lambda x, i=COLUMNS: x.gather(1, i.expand(2, 3))), (2, 3)),
    ("expand", of(lambda x: x.expand(2, 3, 4)), (2, 3, 1)),
    ("expand with a new axis", of(lambda x: x.expand(4, 2, 3)), (2, 3)),
    ("repeat", of(lambda x: x.repeat(1, 2, 3)), (2, 1, 2)),
    ("repeat_interleave", of(lambda x: x.repeat_interleave(2, 1)), (2, 3)),
    ("split", of(lambda x: torch.cat(x.split(2, 1)[::-1], 1)), (2, 5)),
    ("split, part unused", of(lambda x: x.split([1, 3, 1], 1)[1]), (2, 5)),
    ("chunk", of(lambda x: x.chunk(2, 1)[1].flip(0)), (2, 4)),
    ("unbind", of(lambda x: torch.stack([x.unbind(1)[2], x.unbind(1)[0]], 1)), (2, 3, 2)),
    ("pixel shuffle", lambda: nn.PixelShuffle(2), (1, 4, 2, 3)),
    ("pixel unshuffle", lambda: nn.PixelUnshuffle(2), (1, 1, 4, 2)),
    ("channel shuffle", lambda: nn.ChannelShuffle(2), (1, 4, 2, 2)),
    ("unfold", lambda: nn.Unfold(2), (1, 2, 3, 3)),
    ("window", of(lambda x: x.unfold(2, 2, 1)), (1, 2, 4)),
    ("diagonal", of(lambda x: x.diagonal(0, 1, 2)), (2, 3, 3)),
    ("where", of(lambda x, y, m=MASK: torch.where(m, x, y)), (2, 3), (2, 3)),
    ("where against a number", of(lambda x, m=MASK: torch.where(m, x, 2.0)), (2, 3)),
    ("where by the signal", of(lambda x, y: torch.where(x > 0, y, y.flip(1))), (2, 3), (2, 3)),
    ("where broadcasts", of(lambda x, y, m=MASK: torch.where(m, x, y)), (1, 3), (2, 1)),
    ("masked_fill", of(lambda x, m=MASK: x.masked_fill(m, -1.0)), (2, 3)),
    ("masked_fill broadcasts", of(lambda x, m=MASK[:1]: x.masked_fill(m, 5.0)), (2, 3)),
    ("written in place", of(overwritten), (2, 3), (2, 1)),
    ("written in place by index", of(overwritten_by_index), (2, 3), (2, 2)),
    ("zeros written in place", of(zeroed), (2, 3)),
    ("filled step by step", of(filled), (2, 3), (2, 3)),
    # by an index or a mask that is computed from the input
    ("gather by argmax", of(lambda x: x.gather(1, x.argmax(1, True))), (2, 4)),
    ("gather of the largest", of(lambda x, y: y.gather(1, x.topk(2, 1)[1])), (2, 4), (2, 4)),
    ("gather in order", of(lambda x: x.flip(1).gather(1, x.argsort(1))), (2, 4)),
    ("gather by the maximum", of(lambda x: x.gather(1, x.max(1, True)[1])), (2, 4)),
    ("index by argmax", of(lambda x: x[torch.arange(2), :, x.mean(1).argmax(1)]), (2, 3, 4)),
    ("index_select of the largest", of(lambda x: x.index_select(1, x.mean(0).topk(2)[1])), (2, 4)),
    ("written at argmax", of(lambda x, y: x.index_put((torch.arange(2), x.argmax(1)), y)), (2, 4), (2,)),
    ("written to constants at argmax", of(lambda x, c=shaped(2, 4): c.scatter(1, x.argmax(1, True), 1.0)), (2, 4)),
    ("by two masks", of(lambda x, y: torch.where((x > 0) & ~(x > 1) | (x < -1), x, y)), (2, 4), (2, 4)),
    ("take along an axis", of(lambda x: x.take_along_dim(x.argsort(1), 1)), (2, 4)),
    # written at places, in triangles, turned
    ("scatter", of(lambda x, y, i=COLUMNS[:2]: x.scatter(1, i.expand(2, 2), y)), (2, 4), (2, 2)),
    ("scatter to zeros", of(lambda x, i=COLUMNS[:2]: x.new_zeros(2, 4).scatter(1, i.expand(2, 2), x)), (2, 2)),
    ("scatter of a number", of(lambda x, i=COLUMNS: x.scatter(1, i.expand(2, 3), 2.0)), (2, 4)),
    ("scatter of constants", of(lambda x, c=shaped(2, 3), i=COLUMNS[:2]: x.scatter(1, i.expand(2, 2), c)), (2, 4)),
    ("index_copy", of(lambda x, y, i=COLUMNS[:2]: x.index_copy(1, i, y)), (2, 4), (2, 2)),
    ("index_copy in place", of(lambda x, y, i=COLUMNS[:2]: x.clone().index_copy_(-2, i, y)), (2, 4, 2), (2, 2, 2)),
    ("index_fill", of(lambda x, i=COLUMNS: x.index_fill(-1, i, 2.0)), (2, 4)),
    ("index_fill with a constant", of(lambda x, i=COLUMNS, c=shaped(): x.index_fill(1, i, c)), (2, 4)),
    ("masked_scatter", of(lambda x, y, m=MASK: x.masked_scatter(m, y)), (2, 3), (2, 3)),
    ("take", of(lambda x, i=COLUMNS: x.take(i)), (2, 4)),
    ("lower triangle", of(lambda x: x.tril(-1)), (2, 3, 4)),
    ("upper triangle", of(lambda x: x.triu(1)), (2, 4, 3)),
    ("rot90", of(lambda x: x.rot90(1, (1, 2))), (2, 3, 2)),
    ("max_unpool 1d", of(lambda x: F.max_unpool1d(*F.max_pool1d(x, 2, return_indices=True), 2)), (2, 2, 4)),
    ("max_unpool 2d", of(lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2)), (2, 1, 4, 6)),
    ("max_unpool 3d", of(lambda x: F.max_unpool3d(*F.max_pool3d(x, 2, return_indices=True), 2)), (1, 2, 2, 4, 2)),
    ("cat with nothing", of(lambda x, y, e=shaped(0): torch.cat([e, x, e, y], 1)), (2, 2, 3), (2, 1, 3)),
    # the winner takes all
    ("max_pool 1d", lambda: nn.MaxPool1d(2, 1), (2, 2, 4)),
    ("max_pool 2d", lambda: nn.MaxPool2d(3, 2, padding=1), (2, 1, 4, 5)),
    ("max_pool 3d", lambda: nn.MaxPool3d(2, 1), (1, 2, 3, 2, 2)),
    ("adaptive max 2d", lambda: nn.AdaptiveMaxPool2d((2, 1)), (2, 1, 3, 4)),
    ("adaptive max 3d", lambda: nn.AdaptiveMaxPool3d(1), (1, 2, 2, 2, 2)),
    ("amax", of(lambda x: x.amax((1, 2))), (2, 2, 3)),
    ("max over an axis", of(lambda x: x.max(1).values), (2, 4)),
    ("maximum", of(torch.maximum), (2, 4), (2, 4)),
    ("minimum against a constant", of(lambda x, c=shaped(2, 4): torch.minimum(x, c)), (2, 4)),
    ("topk", of(lambda x: x.topk(2, 1).values), (2, 4)),
    ("sort", of(lambda x: x.sort(1).values), (2, 4)),
    ("min over an axis", of(lambda x: x.min(1).values), (2, 4)),
    ("min of everything", of(lambda x: x.min()), (2, 4)),
    ("least and greatest", of(lambda x: torch.stack(torch.aminmax(x, dim=1), 1)), (2, 4)),
    ("least and greatest of everything", of(lambda x: torch.stack(torch.aminmax(x))), (2, 4)),
    ("median", of(lambda x: x.median(1).values), (2, 5)),
    ("kthvalue", of(lambda x: x.kthvalue(2, 1).values), (2, 5)),
    ("greatest so far", of(lambda x: x.cummax(1).values), (2, 5)),
    ("fmax", of(torch.fmax), (2, 4), (2, 4)),
)  # fmt: skip
def test_what_only_moves_returns_relevance_to_where_it_came_from(case: Case) -> None:
    """Each output is a copy of one input, as the Jacobian says, or of a constant, which absorbs."""
    model, inputs = case.build(), case.inputs()
    start = noise(*model(*inputs).shape, seed=9)
    found = explain(model, inputs, start, "epsilon-plus")
    try:
        copies = jacobian(model, inputs)
    except RuntimeError as error:  # as of aten::aminmax before PyTorch 2.7 or so
        pytest.skip(str(error))
    assert difference(parts_of(found), copies.T @ start.flatten()) <= TOLERANCE
    absorbed = float(start.flatten() @ (1 - copies.sum(1)))
    assert found.ledger.absorbed == pytest.approx(absorbed, abs=TOLERANCE)


PER_CHANNEL = shaped(3, 1)
ACTIVATIONS = {
    "relu": F.relu, "leaky_relu": F.leaky_relu, "rrelu": F.rrelu, "elu": F.elu,
    "prelu": lambda x: F.prelu(x, PER_CHANNEL.flatten()),
    "celu": F.celu, "selu": F.selu, "gelu": F.gelu, "gelu by tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu, "mish": F.mish, "softplus": F.softplus, "sigmoid": torch.sigmoid, "tanh": torch.tanh,
    "hardtanh": F.hardtanh, "hardsigmoid": F.hardsigmoid, "hardswish": F.hardswish, "relu6": F.relu6,
    "clamp": lambda x: x.clamp(-0.5, 0.5), "clamp_min": lambda x: x.clamp(min=0.1), "logsigmoid": F.logsigmoid,
    "exp": torch.exp, "log": lambda x: torch.log(torch.exp(x)), "sqrt": lambda x: torch.sqrt(torch.exp(x)),
    "rsqrt": lambda x: torch.rsqrt(torch.exp(x)), "abs": torch.abs, "pow": lambda x: x**3, "square": torch.square,
    "erf": torch.erf, "neg": torch.neg, "threshold": lambda x: F.threshold(x, 0.1, -2.0),
    "reciprocal": torch.reciprocal, "log_softmax": lambda x: F.log_softmax(x, 1), "scaled": lambda x: x * 3.0,
    "scaled from the left": lambda x: 3.0 * x, "scaled per channel": lambda x: x * PER_CHANNEL,
    "exp2": torch.exp2, "expm1": torch.expm1, "log1p": lambda x: torch.log1p(x.square()),
    "log2": lambda x: torch.log2(x.square()), "log10": lambda x: torch.log10(x.square()), "erfc": torch.erfc,
    "sin": torch.sin, "cos": torch.cos, "tan": torch.tan, "asin": lambda x: torch.asin(torch.tanh(x)),
    "acos": lambda x: torch.acos(torch.tanh(x)), "atan": torch.atan, "sinh": torch.sinh, "cosh": torch.cosh,
    "asinh": torch.asinh, "acosh": lambda x: torch.acosh(torch.cosh(x)), "atanh": lambda x: torch.atanh(torch.tanh(x)),
    "logit": lambda x: torch.logit(torch.sigmoid(x)), "sinc": torch.sinc, "nan_to_num": torch.nan_to_num,
    "softshrink": F.softshrink, "hardshrink": F.hardshrink, "round": torch.round, "floor": torch.floor,
    "ceil": torch.ceil, "trunc": torch.trunc, "divided": lambda x: x / 4,
    "cast": lambda x: x.float(), "detached": lambda x: x.detach() * 2, "in place": lambda x: F.relu_(x.clone()),
}  # fmt: skip


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_elementwise_functions_pass_relevance_on_unchanged(name: str) -> None:
    start = noise(2, 3, 4, seed=9)
    found = explain(of(ACTIVATIONS[name])(), noise(2, 3, 4), start, "epsilon-plus")
    assert difference(found.relevance, start.to(found.relevance)) <= 1e-6
    assert found.ledger.absorbed == 0.0


def test_what_is_written_over_gets_nothing() -> None:
    """Of values that were written to one place the last is there; PyTorch's derivative gives relevance to both."""
    places, start = torch.tensor([[1, 1, 0]]), noise(1, 4, seed=9)
    model = of(lambda x, y: x.scatter(1, places, y))()
    x, y = noise(1, 4), noise(1, 3, seed=2)
    kept, written = explain(model, [x, y], start, "epsilon-plus").relevance
    assert torch.equal(kept[0, 2:], start[0, 2:])
    assert not kept[0, :2].any()
    assert written[0, 2] == start[0, 0]
    assert written[0, :2].tolist() == [start[0, 1] if value == model(x, y)[0, 1] else 0.0 for value in y[0, :2]]


def test_either_channel_shuffle_is_the_same() -> None:
    x, start = noise(1, 4, 2, 2), noise(1, 4, 2, 2, seed=9)
    maps = [explain(of(f)(), x, start, "epsilon-plus").relevance for f in (
        lambda x: torch.native_channel_shuffle(x, 2), lambda x: F.channel_shuffle(x, 2),
    )]  # fmt: skip
    assert torch.equal(*maps)


def test_overlapping_windows_that_found_one_maximum_unpool_it_once() -> None:
    x = torch.zeros(1, 1, 3, 3, dtype=torch.float64)
    x[0, 0, 1, 1] = 2.0
    model = of(lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, 1, return_indices=True), 2, 1))()
    found = explain(model, x, x, "epsilon-plus")
    assert torch.equal(found.relevance, x)
    assert found.ledger.gap == 0.0


BINS = shaped(3).sort().values
DECISIONS = {
    "a mask": lambda x: x > 0, "a count": lambda x: (x > 0).sum(1, True), "counts so far": lambda x: (x > 0).cumsum(1),
    "whether any": lambda x: (x > 0).any(1, True), "whether all": lambda x: (x > 0).all(1, True),
    "the greatest of a mask": lambda x: (x > 0).amax(1, True), "and": lambda x: (x > 0) & (x < 1),
    "or": lambda x: (x > 1) | (x < 0), "either": lambda x: (x > 1) ^ (x < 0), "not": lambda x: ~(x > 0),
    "which is the greatest": lambda x: x.argmax(1, True), "one of them": lambda x: F.one_hot(x.argmax(1), 4),
    "where it is in order": lambda x: x.argsort(1), "in which bin": lambda x: torch.bucketize(x, BINS),
    "index of the maximum": lambda x: x.max(1, True)[1], "a whole number": lambda x: x.long(),
    "a mask of numbers": lambda x: (x > 0).double(), "heaviside": lambda x: torch.heaviside(x, x.new_ones(())),
    "whether finite": torch.isfinite, "a count of numbers": lambda x: (x > 0).sum(1, True, dtype=torch.float64),
}  # fmt: skip


MINUS, POSITIONS = -shaped(2, 3, 4).abs(), torch.tensor([[[0], [2], [1]]])


@pytest.mark.parametrize(
    ("function", "known"),
    [
        (lambda x: F.avg_pool1d(x.relu(), 2), True),
        (lambda x: F.pad(x.sigmoid(), (1, 1), value=0.5), True),
        (lambda x: x.abs() + x.relu(), True),
        (lambda x: x.abs() * x.relu(), True),
        (lambda x: x.clamp(min=0.25), True),
        (lambda x: F.hardtanh(x, 0.0, 2.0), True),
        (lambda x: torch.cat([x.relu(), x.exp()]), True),
        (lambda x: F.avg_pool1d(x, 2), False),
        (lambda x: F.pad(x.sigmoid(), (1, 1), value=-0.5), False),
        (lambda x: x.relu() + MINUS, False),
        (lambda x: x.relu() - x.sigmoid(), False),
        (lambda x: x.relu() + x, False),
        (lambda x: x.abs() * x, False),
        (lambda x: x.exp() * MINUS, False),
        (lambda x: x.clamp(min=-0.25), False),
        (lambda x: x.clamp(max=0.25), False),
        (lambda x: F.hardtanh(x), False),
        (lambda x: torch.cat([x.relu(), x]), False),
        (lambda x: torch.cat([x.relu(), MINUS]), False),
        (lambda x: torch.minimum(x.exp(), MINUS), False),
        (lambda x: x.exp().scatter(2, POSITIONS, MINUS), False),
    ],
)
def test_what_is_known_to_be_non_negative_is(function: Map, known: bool) -> None:
    graph = capture(of(function)(), noise(2, 3, 4))
    lowest = min(float(graph(noise(2, 3, 4, seed=seed)).min()) for seed in range(5))
    assert (graph.outputs[0] in non_negative(graph)) == known
    assert (lowest >= 0) == known


@pytest.mark.parametrize("name", DECISIONS)
@pytest.mark.parametrize("joined", [torch.mul, torch.add])
def test_decisions_absorb_what_they_get(name: str, joined: object) -> None:
    """A sum hands them their share, a product nothing: they are constant almost everywhere."""
    decide, x, y, start = DECISIONS[name], noise(2, 4), noise(2, 4, seed=2), noise(2, 4, seed=9)
    choices = composite(gate=rules.UNIFORM, sum=rules.magnitude(rules.Stabilizer(1e-15, relative=False)))
    found = explain(of(lambda x, y: joined(y, decide(x)))(), [x, y], start, choices)
    decided = decide(x).double()
    expected = start if joined is torch.mul else start * y.abs() / (y.abs() + decided.abs())
    assert not found.relevance[0].any()
    assert difference(found.relevance[1], expected) <= TOLERANCE
    assert found.ledger.absorbed == pytest.approx(float((start - expected).sum()), abs=TOLERANCE)
    assert abs(found.ledger.gap) <= TOLERANCE


JOINED: dict[str, Map] = {
    "add": torch.add, "sub": torch.sub, "rsub": torch.rsub, "maximum": torch.maximum, "minimum": torch.minimum,
    "fmax": torch.fmax, "fmin": torch.fmin, "where": lambda x, c: torch.where(x.abs() > 0.5, x, c),
    "cat": lambda x, c: torch.cat([x, c], 1), "stack": lambda x, c: torch.stack([x, c]),
    "sum": lambda x, c: x + c.sum(1, True, dtype=x.dtype), "mean": lambda x, c: x + c.mean(1, True, dtype=x.dtype),
    "cumsum": lambda x, c: x + c.cumsum(1, dtype=x.dtype),
}  # fmt: skip


@pytest.mark.parametrize("name", JOINED)
def test_a_mask_among_numbers_is_a_number(name: str) -> None:
    join, x = JOINED[name], 3 * noise(2, 5)
    start = noise(*join(x, x).shape, seed=9)
    ours, written = (
        explain(of(lambda x, mask=mask: join(x, mask(x)))(), x, start, "volume")
        for mask in (lambda x: x > 0, lambda x: (x > 0).double())
    )
    assert difference(ours.relevance, written.relevance) <= TOLERANCE
    assert ours.ledger.absorbed == pytest.approx(written.ledger.absorbed)
    assert abs(ours.ledger.gap) <= TOLERANCE


@pytest.mark.parametrize("name", [name for name in JOINED if name not in ("sum", "mean", "cumsum")])
def test_whole_numbers_that_are_given_are_numbers_among_numbers(name: str) -> None:
    model, x, labels = of(JOINED[name])(), 3 * noise(2, 5), torch.tensor([[0, 1, 2, 3, 1], [2, 0, 1, 1, 3]])
    start = noise(*model(x, x).shape, seed=9)
    ours, written = (explain(model, [x, given], start, "volume") for given in (labels, labels.double()))
    assert difference(parts_of(ours), parts_of(written)) <= TOLERANCE
    assert ours.relevance[1].any()


INTEGERS = {
    "divided": lambda x: x / 3, "shifted": lambda x: x - 0.5, "split": lambda x: x.split(1, 1)[1] * 0.5,
    "moved": lambda x: torch.cat([x, x.flip(1)], 1).transpose(1, 2)[:, 1:].double(),
    "chosen": lambda x: x[:, x.argmax(1)[0]] * 2.0, "summed": lambda x: x.sum(1, dtype=torch.float64),
    "averaged": lambda x: x.mean(1, dtype=torch.float64), "so far": lambda x: x.cumsum(1, dtype=torch.float64),
}  # fmt: skip


@pytest.mark.parametrize("name", INTEGERS)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16])
def test_an_input_of_integers_is_a_signal(name: str, dtype: torch.dtype) -> None:
    """As images are read; what the network counts or compares is none."""
    model, x = of(INTEGERS[name])(), torch.arange(1, 25).reshape(2, 3, 4)
    start = noise(*model(x).shape, seed=9)
    found = explain(model, x.to(dtype), start.to(model(x.to(dtype)).dtype), "epsilon")
    expected = explain(model, x.double(), start, "epsilon")
    assert difference(found.relevance.double(), expected.relevance) <= 1e-5
    assert found.relevance.any()


@pytest.mark.parametrize("dim", [1, (1, 2)])
def test_logsumexp_is_shared_as_its_softmax_says(dim: int | tuple[int, ...]) -> None:
    """As by exp, sum and log in steps; without their overflow."""
    x, start = noise(2, 3, 4), noise(2, 1, 1, seed=9).expand(2, 1, 4 if dim == 1 else 1).contiguous()
    steps = explain(of(lambda x: x.exp().sum(dim, True).log())(), x, start, "epsilon-plus").relevance
    for shift in (0.0, 1000.0):
        model = of(lambda x, shift=shift: torch.logsumexp(x + shift, dim, True))()
        found = explain(model, x, start, composite(bias=rules.flat()))
        assert difference(found.relevance, steps) <= 1e-5  # the stabiliser's share of the sum
        assert difference(found.relevance, start * x.exp() / x.exp().sum(dim, True)) <= TOLERANCE
        assert abs(found.ledger.gap) <= TOLERANCE


def composite(**choices: rules.Rule) -> object:
    return COMPOSITES["epsilon-plus"].override(choices)


@pytest.mark.parametrize("gated_first", [True, False])
@pytest.mark.parametrize(
    ("gate", "shape"),
    [
        (torch.sigmoid, (2, 3, 4)),
        (lambda x: F.softmax(x, 1), (2, 3, 4)),
        (F.hardsigmoid, (2, 3, 1)),  # squeeze and excitation
        (lambda x: torch.sigmoid(x).expand(2, 3, 4), (2, 1, 4)),  # attention gate
        (lambda x: F.interpolate(torch.sigmoid(x), scale_factor=2, mode="linear"), (2, 3, 2)),
    ],
    ids=["sigmoid", "softmax", "per channel", "expanded", "upsampled"],
)
def test_a_gates_signal_gets_all_relevance(gate: object, shape: tuple[int, ...], gated_first: bool) -> None:
    model = of(lambda g, x: x * gate(g) if gated_first else gate(g) * x)()
    start = noise(2, 3, 4, seed=9)
    to_gate, to_signal = explain(model, [noise(*shape), noise(2, 3, 4, seed=2)], start, "epsilon-plus").relevance
    assert torch.equal(to_signal, start)
    assert not to_gate.any()


def test_a_gate_can_get_half() -> None:
    model = of(lambda g, x: torch.sigmoid(g) * x)()
    start = noise(2, 3, 4, seed=9)
    found = explain(model, [noise(2, 3, 1), noise(2, 3, 4, seed=2)], start, composite(gate=rules.UNIFORM))
    assert difference(found.relevance[0], start.sum(2, keepdim=True) / 2) <= TOLERANCE
    assert torch.equal(found.relevance[1], start / 2)


def test_a_swish_spelled_out_is_one_signal() -> None:
    start = noise(2, 3, seed=9)
    assert torch.equal(explain(of(lambda x: x * torch.sigmoid(x))(), noise(2, 3), start, "gamma").relevance, start)


def test_a_product_of_two_signals_is_shared_in_halves() -> None:
    start = noise(2, 3, 4, seed=9)
    first, second = explain(of(torch.mul)(), [noise(2, 3, 4), noise(3, 1, seed=2)], start, "epsilon-plus").relevance
    assert torch.equal(first, start / 2)
    assert difference(second, (start / 2).sum((0, 2)).reshape(3, 1)) <= TOLERANCE


def test_a_divisor_is_held_fixed() -> None:
    """x / norm(x), as in cosine attention: the direction of x gets all."""
    start = noise(2, 3, seed=9)
    model = of(lambda x: x / (x.square().sum(1, keepdim=True)).sqrt())()
    found = explain(model, noise(2, 3), start, "epsilon-plus")
    assert torch.equal(found.relevance, start)


@pytest.mark.parametrize("axis", [1, -1])
def test_softmax_by_taylor(axis: int) -> None:
    """Achtibat 2024, prop. 3.1: R_i = x_i (R_i - p_i sum_j R_j)."""
    x, start = noise(2, 3, 4), noise(2, 3, 4, seed=9)
    found = explain(of(lambda v: F.softmax(v, axis))(), x, start, composite(softmax=rules.TAYLOR))
    expected = x * (start - F.softmax(x, axis) * start.sum(axis, keepdim=True))
    assert difference(found.relevance, expected) <= TOLERANCE
    assert found.ledger.changed == pytest.approx(float((start - expected).sum()), abs=TOLERANCE)
    assert abs(found.ledger.gap) <= TOLERANCE


def test_softmax_of_masked_scores_stays_finite() -> None:
    """Where a score is -inf there is neither probability nor relevance, and nothing turns to NaN."""
    x, start = noise(2, 3), noise(2, 3, seed=9).masked_fill(MASK, 0.0)
    model = of(lambda v: F.softmax(v.masked_fill(MASK, -math.inf), 1))()
    found = explain(model, x, start, composite(softmax=rules.TAYLOR))
    p = model(x)
    expected = (x * (start - p * start.sum(1, keepdim=True))).masked_fill(MASK, 0.0)
    assert difference(found.relevance, expected) <= TOLERANCE


def test_softmax_passed() -> None:
    start = noise(2, 3, seed=9)
    assert torch.equal(explain(nn.Softmax(1), noise(2, 3), start, composite(softmax=rules.PASS)).relevance, start)


def test_matmul_is_shared_in_halves() -> None:
    """Achtibat 2024, prop. 3.3: each factor's term a_ij b_jk gets half of its share of o_ik, written out in full."""
    a, b, start = noise(2, 3, 4), noise(2, 4, 5, seed=2), noise(2, 3, 5, seed=9)
    found = explain(of(torch.matmul)(), [a, b], start, composite(matmul=rules.UNIFORM))
    o = a @ b
    scale = 1e-6 * o.square().mean((1, 2), keepdim=True).sqrt()
    terms = torch.einsum("nij,njk,nik->nijk", a, b, start / (o + torch.where(o >= 0, scale, -scale))) / 2
    assert difference(found.relevance[0], terms.sum(3)) <= TOLERANCE
    assert difference(found.relevance[1], terms.sum(1)) <= TOLERANCE
    assert abs(found.ledger.gap) <= TOLERANCE


ATTENTION: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "spelled out": lambda q, k, v: F.softmax(q @ k.mT / 2.0, -1) @ v,
    "from the right": lambda q, k, v: (v.mT @ F.softmax(q @ k.mT / 2.0, -1).mT).mT,  # as channels of images attend
    "fused": lambda q, k, v: F.scaled_dot_product_attention(q, k, v),
}


@pytest.mark.parametrize("attention", ATTENTION)
def test_attention_with_its_weights_held_fixed(attention: str) -> None:
    """Ali 2022: the values get all, in proportion to p_ij v_jk; queries and keys nothing."""
    q, k, v = (noise(1, 2, 3, 4, seed=s) for s in (1, 2, 3))
    start = noise(1, 2, 3, 4, seed=9)
    p = F.softmax(q @ k.mT / 2.0, -1)
    found = explain(of(ATTENTION[attention])(), [q, k, v], start, composite(matmul=rules.SIGNAL))
    terms = torch.einsum("nhij,nhjk,nhik->nhijk", p, v, start / (p @ v))
    assert difference(found.relevance[2], terms.sum(2)) <= 1e-4  # the stabiliser's share
    assert not found.relevance[0].any()
    assert not found.relevance[1].any()
    shared = explain(of(ATTENTION[attention])(), [q, k, v], start, composite(matmul=rules.UNIFORM))
    assert difference(shared.relevance[2], terms.sum(2) / 2) <= 1e-4  # Achtibat 2024: the weights get the other half


@pytest.mark.parametrize("from_left", [True, False])
@pytest.mark.parametrize("rule", [rules.SIGNAL, rules.UNIFORM], ids=str)
def test_what_decisions_pick_by_a_product_gets_all(rule: rules.Rule, from_left: bool) -> None:
    """Tokens that are chosen by a threshold: the decision has no half of what it picks."""
    g, v, start = noise(2, 3, 4), noise(2, 4, 5, seed=2), noise(2, 3, 5, seed=9)
    picked = of(lambda g, v: (g > 0).double() @ v if from_left else (v.mT @ (g > 0).double().mT).mT)()
    to_gate, to_signal = explain(picked, [g, v], start, composite(matmul=rule)).relevance
    chosen = (g > 0).double()
    terms = torch.einsum("nij,njk,nik->njk", chosen, v, (start / (chosen @ v)).nan_to_num(posinf=0, neginf=0))
    assert not to_gate.any()
    assert difference(to_signal, terms) <= 1e-4  # the stabiliser's share


@pytest.mark.parametrize("choice", ["epsilon-plus", "attn-lrp", "epsilon", "gamma"])
def test_attention_behind_an_additive_mask_stays_finite(choice: str) -> None:
    """Causal masks add -inf to the scores: what is hidden gets nothing, and no sum turns to NaN."""
    hidden = torch.full((3, 3), -math.inf).double().triu(1)
    model = of(lambda q, k, v: F.softmax(q @ k.mT / 2.0 + hidden, -1) @ v)()
    inputs = [noise(2, 3, 4, seed=s) for s in (1, 2, 3)]
    start = noise(2, 3, 4, seed=9)
    start[:, 1:] = 0.0  # the first token sees itself alone
    found = explain(model, inputs, start, choice)
    for part in found.relevance:
        assert torch.isfinite(part).all()
        assert not part[:, 1:].any()
    assert all(math.isfinite(figure) for figure in (found.ledger.absorbed, found.ledger.relevance, found.ledger.gap))
    assert abs(found.ledger.gap) <= TOLERANCE


@pytest.mark.parametrize(
    ("select", "share"),
    [
        (lambda x, i: x.gather(1, i), 1.0),
        (lambda x, i: x[0][i], 1.0),
        (lambda x, i: x.gather(1, i.flip(1)), 1.0),
        (lambda x, i: torch.zeros_like(x).scatter_add(1, i, x[:, :3]), 1.0),
        (lambda x, i: F.embedding(i, torch.ones(5, 2, dtype=x.dtype)).sum(-1) + 0 * x[:, :3], 0.0),
    ],
    ids=["gather", "index", "turned", "scatter", "table"],
)
def test_an_input_that_is_an_index_is_held_fixed(select: Callable[..., Tensor], share: float) -> None:
    x, index = noise(2, 5).abs(), torch.tensor([[0, 4, 2], [3, 3, 1]])
    y = select(x, index)
    found = explain(of(select)(), [x, index], y, "epsilon-plus")
    assert float(found.relevance[0].sum()) == pytest.approx(share * float(y.sum()), abs=1e-4)
    assert not found.relevance[1].any()
    assert found.ledger.gap == pytest.approx(0, abs=1e-6)
