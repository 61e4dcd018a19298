"""Capture: the graph says what the model says, and what cannot be explained is refused in one clear sentence."""

import io
import logging
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lrp_helpers import of
from LRPExplainLib.lrp import (
    COMPOSITES,
    Graph,
    LRPError,
    Schedule,
    Target,
    attribute,
    capture,
    count_operators,
    estimates,
    evaluate,
    inner_layer,
    inner_layers,
    only,
    products,
)
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

try:
    from torch.nn.attention.flex_attention import flex_attention
except ImportError:  # before PyTorch 2.5
    flex_attention = None


class Everything(nn.Module):
    """A small network with most of what networks have, and with modules used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv3d(2, 4, 3, padding=1), nn.BatchNorm3d(4), nn.PReLU())
        self.block = nn.Sequential(
            nn.Conv3d(4, 4, 3, padding=1, padding_mode="circular"), nn.InstanceNorm3d(4, affine=True)
        )
        self.down = nn.Conv3d(4, 6, 2, stride=2)
        self.group = nn.GroupNorm(3, 6)
        self.up = nn.Sequential(nn.ConvTranspose3d(6, 4, 2, 2), nn.BatchNorm3d(4), nn.ReLU(inplace=True))
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        self.norm = nn.LayerNorm(6)
        self.gate = nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Conv3d(6, 6, 1), nn.Sigmoid())
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Conv3d(8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = F.relu(x + self.block(x))
        x = F.leaky_relu(x + self.block(x))
        y = F.relu(self.group(self.down(x)))
        tokens = self.norm(y.flatten(2).transpose(1, 2))
        y = y + self.attention(tokens, tokens, tokens, need_weights=False)[0].transpose(1, 2).reshape(y.shape)
        y = self.dropout(y * self.gate(y))
        return self.head(torch.cat([x, self.up(y)], 1))


def with_statistics(model: nn.Module) -> nn.Module:
    """Running statistics and factors that are not the identity."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase) and module.affine:
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
        if isinstance(module, nn.modules.batchnorm._NormBase) and module.running_mean is not None:
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return model.eval()


def reloaded(model: nn.Module) -> torch.jit.ScriptModule:
    """As TorchScript through a file's bytes."""
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(model), buffer)
    buffer.seek(0)
    return torch.jit.load(buffer)


def traced(model: nn.Module) -> torch.jit.ScriptModule:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # shapes become constants, which is what is wanted here
        return torch.jit.trace(model, torch.randn(2, 2, 4, 6, 4), check_trace=False)


@pytest.fixture(scope="module")
def everything() -> nn.Module:
    torch.manual_seed(0)
    return with_statistics(Everything())


X = torch.randn(2, 2, 4, 6, 4, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("form", [lambda m: m, reloaded, traced], ids=["module", "scripted", "traced"])
def test_the_graph_says_what_the_model_says(everything: nn.Module, form: Callable[[nn.Module], nn.Module]) -> None:
    model = form(everything)
    graph = capture(model, X)
    for x in (X, torch.randn_like(X), 10 * X):  # not only where it was captured
        torch.testing.assert_close(graph(x), model(x), rtol=1e-5, atol=1e-5)
    for composite in COMPOSITES:
        found = attribute(graph, X, Target(1), composite)
        assert torch.isfinite(found.relevance).all()
        torch.testing.assert_close(found.output, everything(X), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("form", [reloaded, traced], ids=["scripted", "traced"])
def test_torchscript_is_explained_as_the_module_is(
    everything: nn.Module, form: Callable[[nn.Module], nn.Module]
) -> None:
    ours = attribute(capture(everything, X), X, Target(1), "epsilon-plus")
    theirs = attribute(capture(form(everything), X), X, Target(1), "epsilon-plus")
    torch.testing.assert_close(ours.relevance, theirs.relevance, rtol=1e-4, atol=1e-6)
    weighted = [[r.layer for r in a.ledger.by_layer if r.role in ("conv", "linear")] for a in (ours, theirs)]
    assert weighted[0] == weighted[1]
    assert {"stem.0", "block.0", "down", "up.0", "attention", "attention.out_proj", "head"} <= set(weighted[0])


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("masked", [None, "tokens", "pairs"])
def test_scripted_transformers_do_not_hide_in_fused_kernels(masked: str | None, norm_first: bool) -> None:
    """TorchScript takes PyTorch's fast path in eval mode: one opaque operator for a whole encoder layer."""

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            activation = "gelu" if norm_first else "relu"
            self.layer = nn.TransformerEncoderLayer(
                6, 2, 8, norm_first=norm_first, batch_first=True, activation=activation
            )
            self.attention = nn.MultiheadAttention(6, 3, batch_first=True)
            self.tokens: torch.Tensor | None = TOKENS if masked == "tokens" else None
            self.pairs: torch.Tensor | None = PAIRS if masked == "pairs" else None

        def forward(self, x: Tensor) -> Tensor:
            x = self.layer(x, src_key_padding_mask=self.tokens, src_mask=self.pairs)
            x, weights = self.attention(x, x, x, key_padding_mask=self.tokens, attn_mask=self.pairs)
            assert weights is not None
            return torch.cat([x, weights], 2)

    torch.manual_seed(0)
    # in float64: relevance reaches 670 here, where float32 rounds by more than 1e-3 on some processors
    model, x = Encoder().double().eval(), torch.randn(2, 4, 6).double()
    ours, theirs = capture(model, x), capture(reloaded(model), x)
    torch.testing.assert_close(theirs(x), model(x), rtol=1e-5, atol=1e-5)
    start = torch.randn(2, 4, 10).double()
    # relevance through the scores crosses the mask: PyTorch adds it here and fills it in there, a layer more or less
    for composite in ("epsilon-plus",) if masked else ("epsilon-plus", "attn-lrp"):
        expected = attribute(ours, x, start, composite).relevance
        torch.testing.assert_close(attribute(theirs, x, start, composite).relevance, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("averaged", [True, False])
def test_scripted_attention_has_its_weights_too(averaged: bool) -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(6, 2, batch_first=True)  # odd numbers of heads have no fast path
            self.averaged = averaged

        def forward(self, x: Tensor) -> Tensor:
            x, weights = self.attention(x, x, x, average_attn_weights=self.averaged)
            assert weights is not None
            return torch.cat([x, weights if self.averaged else weights[:, 1]], 2)

    torch.manual_seed(0)
    model, x, start = Attention().double().eval(), torch.randn(2, 4, 6).double(), torch.randn(2, 4, 10).double()
    ours, theirs = capture(model, x), capture(reloaded(model), x)
    torch.testing.assert_close(theirs(x), model(x))
    found, expected = (attribute(graph, x, start, "attn-lrp").relevance for graph in (theirs, ours))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


TOKENS = torch.tensor([[False, False, True, False], [False, True, False, True]])
PAIRS = torch.ones(4, 4, dtype=torch.bool).triu(1)


def test_capturing_leaves_the_model_alone(everything: nn.Module) -> None:
    before = {name: value.clone() for name, value in everything.state_dict().items()}
    capture(everything, X)
    assert all(torch.equal(before[name], value) for name, value in everything.state_dict().items())
    assert all(p.requires_grad for p in everything.parameters())


def test_capturing_says_nothing(everything: nn.Module, recwarn: pytest.WarningsRecorder) -> None:
    warnings.simplefilter("always")
    capture(everything, X)
    assert not [str(warning.message) for warning in recwarn]


def test_outputs_keep_their_structure() -> None:
    model = of(lambda x: {"a": x + 1, "b": (x * 2, [x - 1, 7, None, "word"])})()
    x = torch.randn(2, 3)
    out = capture(model, x)(x)
    assert list(out) == ["a", "b"]
    assert isinstance(out["b"], tuple)
    assert out["b"][1][1:] == [7, None, "word"]
    for ours, theirs in zip([out["a"], out["b"][0], out["b"][1][0]], [x + 1, x * 2, x - 1], strict=True):
        torch.testing.assert_close(ours, theirs)


@dataclass(frozen=True)
class Answer:
    logits: Tensor
    name: str
    inner: tuple[Tensor, ...]
    best: "Answer | None" = None


def test_outputs_in_dataclasses_keep_their_structure() -> None:
    model = of(lambda x: [Answer(x * 2, "outer", (x - 1,), Answer(x + 3, "inner", ()))])()
    x = torch.randn(2, 3)
    graph = capture(model, x)
    (out,) = graph(x)
    assert (out.name, out.best.name, out.best.inner, out.best.best) == ("outer", "inner", (), None)
    for ours, theirs in zip([out.logits, out.inner[0], out.best.logits], [x * 2, x - 1, x + 3], strict=True):
        torch.testing.assert_close(ours, theirs)
    assert torch.equal(attribute(graph, x, Target(1), "epsilon", output=0).relevance[:, 1], 2 * x[:, 1])


def test_an_input_that_is_handed_out_again() -> None:
    x = torch.randn(2, 3)
    found = attribute(capture(of(lambda x: (x, x.relu()))(), x), x, Target(0), "epsilon")
    assert torch.equal(found.relevance[:, 0], x[:, 0])
    assert not found.relevance[:, 1:].any()


# --- refusals: name -> (model, input, words that the sentence must have) -------------------------------------------


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if x.sum() > 0 else x - 1


class Looping(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        for _ in range(int(x.abs().max().item())):
            x = x + 1
        return x


class EightAlone(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[2] == 8, "size must be 8"
        return x * 2


class Packing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.LSTM(4, 3, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(x.flatten(1, 2), torch.tensor([12]), batch_first=True)
        return nn.utils.rnn.pad_packed_sequence(self.cells(packed)[0], batch_first=True)[0]


def flexible(x: Tensor) -> Tensor:
    return flex_attention(x, x, x)


def picky(x: Tensor, complaint: str = "shapes alone will not do") -> Tensor:
    if isinstance(torch._from_functional_tensor(x) if torch._is_functional_tensor(x) else x, FakeTensor):
        raise RuntimeError(complaint)
    return x * 2


ASSERTION = 'false INTERNAL ASSERT FAILED at "/build/a.cpp":56, please report a bug to PyTorch. shapes will not do'


def quantized() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch has another way by now, and networks of this kind are still about
        dense = nn.Sequential(nn.Flatten(), nn.Linear(48, 2)).eval()
        return torch.ao.quantization.quantize_dynamic(dense, {nn.Linear}, dtype=torch.qint8)


def optimised() -> nn.Module:
    return torch.jit.optimize_for_inference(torch.jit.script(nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU()).eval()))


class Wrapped:
    """What holds tensors, and nobody but its author knows where."""

    def __init__(self, x: Tensor) -> None:
        self.x = x


class SparseWeights(nn.Module):
    """A matrix of which only some entries are kept."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.eye(4).to_sparse())

    def forward(self, x: Tensor) -> Tensor:
        return torch.sparse.mm(self.weight, x[0, 0])


SQUARE = torch.randn(1, 3, 4, 4)
REFUSED_AT_CAPTURE: dict[str, tuple[nn.Module, Tensor, list[str]]] = {
    "dropout in training mode": (nn.Sequential(nn.Conv2d(3, 3, 1), nn.Dropout()), SQUARE, ["random", "model.eval()"]),
    "dropout3d in training mode": (nn.Dropout3d(), torch.randn(1, 3, 2, 2, 2), ["random", "model.eval()"]),
    "rrelu in training mode": (nn.RReLU(), SQUARE, ["random", "model.eval()"]),
    "batch norm in training mode": (nn.BatchNorm2d(3), SQUARE, ["batch norm", "training mode", "model.eval()"]),
    "batch norm behind a convolution": (nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)), SQUARE, ["model.eval()"]),
    "batch norm of what it is given": (
        nn.BatchNorm2d(3, track_running_stats=False).eval(),
        SQUARE.repeat(2, 1, 1, 1),
        ["no running statistics", "one sample at a time"],
    ),
    "statistics from data": (
        of(lambda x: F.batch_norm(x, x.mean((0, 2, 3)), x.var((0, 2, 3))))().eval(),
        SQUARE,
        ["statistics that are computed from the input", "differences and quotients"],
    ),
    "torch.rand": (of(lambda x: x + torch.rand_like(x))().eval(), SQUARE, ["random"]),
    "torch.randn": (of(lambda x: x + torch.randn(4))().eval(), SQUARE, ["random"]),
    "bernoulli": (of(lambda x: x * torch.bernoulli(torch.full((4,), 0.5)))().eval(), SQUARE, ["random"]),
    "dropout left on by hand": (of(lambda x: F.dropout(x, 0.5, training=True))().eval(), SQUARE, ["random"]),
    "branch": (Branching().eval(), SQUARE, ["data", "branch or loop"]),
    "scripted branch": (torch.jit.script(Branching().eval()), SQUARE, ["data", "branch or loop"]),
    "loop": (Looping().eval(), SQUARE, ["data", "branch or loop"]),
    "shape from data": (of(lambda x: x[x > 0])().eval(), SQUARE, ["data", "captured"]),
    "number from data": (of(lambda x: x * x.mean().item())().eval(), SQUARE, ["number", "captured"]),
    "through NumPy": (of(lambda x: torch.from_numpy(x.detach().numpy() * 2))().eval(), SQUARE, ["NumPy", "relevance"]),
    "through DLPack": (of(lambda x: torch.from_dlpack(x) + 1)().eval(), SQUARE, ["NumPy, say", "relevance"]),
    "partly through NumPy": (of(lambda x: x + torch.as_tensor(np.sqrt(np.asarray(x))))().eval(), SQUARE, ["NumPy"]),
    "wrong channels": (nn.Conv2d(2, 3, 1).eval(), SQUARE, [r"\[1, 3, 4, 4\]", "channels"]),
    "wrong size": (nn.Sequential(nn.Flatten(), nn.Linear(7, 2)).eval(), SQUARE, [r"\[1, 3, 4, 4\]"]),
    "wrong size, scripted": (
        torch.jit.script(nn.Sequential(nn.Flatten(), nn.Linear(7, 2)).eval()),
        SQUARE,
        [r"\[1, 3, 4, 4\] \(mat1 and mat2 shapes cannot be multiplied \(1x48 and 7x2\)\)", "size that it takes"],
    ),
    "an assertion, scripted": (
        torch.jit.script(EightAlone().eval()),
        SQUARE,
        [r"\(size must be 8\): give one of a size that it takes"],
    ),
    "a mistake in its code": (
        of(lambda x: x.no_such_attribute)().eval(),
        SQUARE,
        ["own code fails", "AttributeError: .*no_such_attribute", "mend it there"],
    ),
    "too few inputs": (of(lambda x, y: x + y)().eval(), SQUARE, ["TypeError: .*missing 1 required"]),
    "no tensor": (of(lambda x: "nothing")().eval(), SQUARE, ["returns str", "no tensor"]),
    "an object of its own": (of(Wrapped)().eval(), SQUARE, ["returns Wrapped", "no tensor", "dataclass"]),
    "compiled": (torch.compile(nn.Conv2d(3, 2, 1).eval(), backend="eager"), SQUARE, ["without torch.compile"]),
    "compiled within": (
        nn.Sequential(torch.compile(nn.Conv2d(3, 2, 1).eval(), backend="eager")),
        SQUARE,
        ["without torch.compile"],
    ),
    "exported": (torch.export.export(nn.Conv2d(3, 2, 1), (SQUARE,)), SQUARE, [r"give exported\.module\(\)"]),
    "flexible attention": (of(flexible)().eval(), SQUARE, ["flex_attention", "scaled_dot_product_attention"]),
    "packed sequences": (Packing().eval(), SQUARE, ["packs sequences", "unpacked"]),
    "quantized": (quantized(), SQUARE, ["quantized", "before quantization"]),
    "quantized and scripted": (torch.jit.script(quantized()), SQUARE, ["quantized", "before quantization"]),
    "untraceable and random": (of(lambda x: picky(x) + torch.rand(1))().eval(), SQUARE, ["random"]),
    "an assertion of PyTorch's": (of(partial(picky, complaint=ASSERTION))().eval(), SQUARE, [r"it \(shapes will not"]),
    "optimised for inference": (optimised(), SQUARE, ["torch.jit.optimize_for_inference", "as it was before"]),
    "another precision": (
        nn.Conv2d(3, 2, 1).eval(),
        SQUARE.double(),
        [
            r"weights are of torch\.float32",
            r"input is of torch\.float64",
            r"bring both to one \(\.to\(torch\.float32\)\)",
        ],
    ),
    "whole numbers": (nn.Conv2d(3, 2, 1).eval(), SQUARE.long(), [r"input is of torch\.int64", "bring both to one"]),
    "another device": (nn.Linear(4, 2).eval(), SQUARE.to("meta"), ["weights are on cpu", "input is on meta"]),
    "no values": (nn.Conv2d(3, 2, 1).to("meta").eval(), SQUARE, ["'weight' is on the meta device", "load its weights"]),
    "lazy": (
        nn.Sequential(nn.Flatten(), nn.LazyLinear(2)).eval(),
        SQUARE,
        [r"'1\.weight' has no size yet", "call the"],
    ),
    "sparse": (nn.Linear(4, 2), torch.eye(4).to_sparse(), ["dense tensors", r"torch\.sparse_coo", "to_dense"]),
    "sparse weights": (SparseWeights(), SQUARE, [r"'weight' is of torch\.sparse_coo", "to_dense"]),
    "nested": (nn.Linear(4, 2), torch.nested.nested_tensor([torch.ones(1, 4)]), ["got one nested", "to_dense"]),
    "no samples": (nn.Conv2d(3, 2, 1).eval(), SQUARE[:0], [r"\[0, 3, 4, 4\] is empty", "give samples"]),
    "untraceable": (of(picky)().eval(), SQUARE, [r"runs, but", r"\(shapes alone will not do\)", "tensor operations"]),
}


@pytest.mark.parametrize("case", REFUSED_AT_CAPTURE)
def test_refusals_at_capture(case: str, caplog: pytest.LogCaptureFixture) -> None:
    if case == "flexible attention" and not flex_attention:
        pytest.skip(f"PyTorch {torch.__version__} has no flex_attention")
    model, x, words = REFUSED_AT_CAPTURE[case]
    with pytest.raises(LRPError) as caught:
        capture(model, x)
    assert_one_sentence(caught.value, words)
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]  # the sentence is all that is said


def test_no_input_is_refused() -> None:
    with pytest.raises(LRPError, match="at least one input"):
        capture(nn.Identity())


def test_another_shape_is_refused_by_the_graph() -> None:
    graph = capture(nn.Conv2d(3, 2, 1).eval(), SQUARE)
    for call in (lambda x: graph(x), lambda x: attribute(graph, x, Target(0))):
        with pytest.raises(LRPError) as caught:
            call(torch.randn(1, 3, 5, 4))
        assert_one_sentence(caught.value, [r"\(1, 3, 4, 4\)", r"\(1, 3, 5, 4\)", "capture the model again"])
    with pytest.raises(LRPError):
        graph(SQUARE, SQUARE)


class Spectral(nn.Module):
    """An operator for which there is no answer, behind one for which there is."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 2, 1)
        self.computed = False

    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.fft(self.first(x)).real


ONES, TWO = torch.ones(3, 2), torch.zeros(2, 2)
PLACES = torch.tensor([[0, 1], [1, 1], [0, 0]])
grid_sample = partial(F.grid_sample, align_corners=False)
UNANSWERED: dict[str, tuple[nn.Module, list[Tensor], str]] = {
    "fft": (Spectral(), [SQUARE], "aten._fft_r2c"),
    "sums of exponentials so far": (of(lambda x: torch.logcumsumexp(x, 1))(), [SQUARE], "aten.logcumsumexp"),
    "scattered maxima": (of(lambda x, i=PLACES: TWO.scatter_reduce(0, i, x, "amax"))(), [ONES], "aten.scatter_reduce"),
    "weights of the signal": (of(F.conv2d)(), [SQUARE, torch.randn(2, 3, 1, 1)], "aten.convolution"),
    "bias of the signal": (of(lambda x, b: torch.addmm(b, x, ONES))(), [ONES.T, torch.ones(2)], "aten.addmm"),
    "product over an axis": (of(lambda x: x.prod(1))(), [SQUARE], "aten.prod"),
    "grid sampling": (of(grid_sample)(), [SQUARE, torch.randn(1, 2, 2, 2)], "aten.grid_sampler_2d"),
}  # fmt: skip


@pytest.mark.parametrize("case", UNANSWERED)
def test_an_operator_without_an_answer_is_named_before_anything_is_computed(case: str) -> None:
    model, inputs, operator = UNANSWERED[case]
    graph = capture(model.eval(), *inputs)
    listed = {(count.name, count.role) for count in count_operators(graph)}
    assert (operator, None) in listed
    graph.run = None  # type: ignore[assignment]  # whoever computes now fails otherwise
    with pytest.raises(LRPError) as caught:
        attribute(graph, inputs, Target(0), "epsilon-plus")
    shape = list(model.first(SQUARE).shape) if case == "fft" else list(inputs[0].shape)
    assert_one_sentence(caught.value, [re.escape(operator), re.escape(str(shape)), "inspect"])


def test_the_layer_without_an_answer_is_named() -> None:
    model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Sequential(nn.Conv2d(2, 2, 1)))
    model[1].forward = lambda x: torch.atan2(x, model[1][0].weight[0])
    with pytest.raises(LRPError, match=r"at 1\.0 \(inputs of shape"):
        attribute(capture(model.eval(), SQUARE), SQUARE, Target(0), "epsilon")


def test_operators_are_counted_with_their_roles() -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.Conv2d(3, 3, 1), nn.ReLU(), nn.Flatten(), nn.Linear(48, 2))
    counted = {count.name: (count.count, count.role) for count in count_operators(capture(model.eval(), SQUARE))}
    assert counted["aten.convolution"] == (2, "conv")
    assert counted["aten.relu"] == (2, "activation")
    assert counted["aten.addmm"] == (1, "linear")


def test_only_what_the_chosen_output_needs_must_have_answers() -> None:
    model = of(lambda x: (x * 2, x.prod(1)))()
    found = attribute(capture(model, SQUARE), SQUARE, torch.ones_like(SQUARE), "epsilon")
    assert torch.equal(found.relevance, torch.ones_like(SQUARE))


def test_relevance_beyond_the_range_of_its_precision_is_refused() -> None:
    """In float32 the stabiliser's scale squares what does not bear it; in float64 it does."""
    model, x = nn.Sequential(nn.Flatten(), nn.Linear(48, 2, bias=False)).eval(), SQUARE * 1e20
    with pytest.raises(LRPError) as caught:
        attribute(capture(model, x), x, 0, "epsilon")
    assert_one_sentence(caught.value, ["leaves the range of its precision", "scale the input", "float64"])
    found = attribute(capture(model.double(), x.double()), x.double(), 0, "epsilon")
    assert found.relevance.isfinite().all()
    assert found.ledger.relevance == pytest.approx(found.ledger.target_value - found.ledger.absorbed, rel=1e-9)


MASK = torch.ones(4, 4, dtype=torch.bool)
REFUSED_QUESTIONS: dict[str, tuple[object, str, list[str]]] = {
    "unknown composite": (Target(0), "nonsense", ["'nonsense'", *COMPOSITES]),
    "class too high": (Target(2), "epsilon", ["class 2", "0 to 1"]),
    "negative class": (Target(-1), "epsilon", ["class -1", "0 to 1"]),
    "rival too high": (Target(0, rather_than=5), "epsilon", ["class 5", "0 to 1"]),
    "too many classes": (Target((0, 1)), "epsilon", [r"target classes \(2\)", r"batch \(1\)"]),
    "empty mask": (Target(0, mask=~MASK), "epsilon", ["empty", "nothing to explain"]),
    "mask of another shape": (Target(0, mask=MASK[:3]), "epsilon", [r"\[3, 4\]", r"\[4, 4\]"]),
    "mask of other dimensions": (Target(0, mask=MASK.expand(2, 1, 4, 4)), "epsilon", [r"\[2, 1, 4, 4\]", r"\[4, 4\]"]),
    "mask that is no tensor": (Target(0, mask="lesion.nrrd"), "epsilon", ["mask is a tensor", "but got str"]),
    "mask that is an array": (Target(0, mask=np.ones((4, 4))), "epsilon", ["but got ndarray", "torch.from_numpy"]),
    "class by name": (
        Target("lesion"),
        "epsilon",
        ["'lesion', which is no class index", "number of an output channel"],
    ),
    "classes by name": (Target(["lesion"]), "epsilon", ["'lesion', which is no class index"]),
    "rival by name": (Target(0, rather_than="lesion"), "epsilon", ["'lesion', which is no class index"]),
    "a name": ("lesion", "epsilon", ["'lesion', which is no class index"]),
    "a fraction": (Target(0.5), "epsilon", ["0.5, which is no class index"]),
    "nothing": (None, "epsilon", ["None, which is no class index"]),
    "start of another shape": (torch.ones(1, 2, 4, 5), "epsilon", [r"\[1, 2, 4, 5\]", r"\[1, 2, 4, 4\]"]),
}


@pytest.mark.parametrize("case", REFUSED_QUESTIONS)
def test_refused_questions(case: str) -> None:
    target, composite, words = REFUSED_QUESTIONS[case]
    graph = capture(nn.Conv2d(3, 2, 1).eval(), SQUARE)
    with pytest.raises(LRPError) as caught:
        attribute(graph, SQUARE, target, composite)
    assert_one_sentence(caught.value, words)


def assert_one_sentence(error: LRPError, words: list[str]) -> None:
    """One line that a person can read, with what they need to know in it."""
    text = str(error)
    assert "\n" not in text
    assert "Traceback" not in text
    assert re.match(r"[A-Z1-9]", text)
    for word in words:
        assert re.search(word, text), text


@pytest.mark.parametrize("index", [np.int64(1), torch.tensor(1), torch.tensor([1]), (np.int32(1),), np.uint8(1)])
def test_class_indices_of_other_kinds_are_class_indices(index: Any) -> None:
    graph = capture(nn.Conv2d(3, 2, 1).eval(), SQUARE)
    expected = attribute(graph, SQUARE, 1).relevance
    assert torch.equal(attribute(graph, SQUARE, Target(index)).relevance, expected)


def through(graph: Graph, channels: Any) -> object:
    return attribute(graph, SQUARE, 0, channels=channels)


NOT_FINITE = torch.full_like(SQUARE, torch.nan), torch.full_like(SQUARE, torch.inf)
REFUSED_CALLS: dict[str, tuple[Callable[[nn.Module, Graph], object], list[str]]] = {
    "array at capture": (lambda m, g: capture(m, SQUARE.numpy()), ["inputs are tensors", "ndarray", "from_numpy"]),
    "path at capture": (lambda m, g: capture("net.ts", SQUARE), ["model is needed, but got str"]),
    "array": (lambda m, g: attribute(g, SQUARE.numpy(), 0), ["inputs are tensors", "ndarray", "from_numpy"]),
    "model": (lambda m, g: attribute(m, SQUARE, 0), ["captured graph is needed, but got Conv2d", "capture"]),
    "model evaluated": (lambda m, g: evaluate(m, SQUARE), ["captured graph is needed"]),
    "model estimated": (lambda m, g: next(estimates(m, "epsilon")), ["captured graph is needed"]),
    "model's products": (lambda m, g: products(m, "epsilon"), ["captured graph is needed"]),
    "model's layers": (lambda m, g: inner_layers(m), ["captured graph is needed"]),
    "model's layer": (lambda m, g: inner_layer(m), ["captured graph is needed"]),
    "double": (
        lambda m, g: attribute(g, SQUARE.double(), 0),
        ["float32 but got torch.float64", r"\.to\(torch.float32\)"],
    ),
    "whole numbers": (lambda m, g: g(SQUARE.long()), ["float32 but got torch.int64", r"\.to\(torch.float32\)"]),
    "channel too high": (
        lambda m, g: through(g, {"convolution": [2]}),
        ["no channel 2", "the 2 "],
    ),
    "channel below zero": (lambda m, g: only(SQUARE, [-1]), ["no channel -1", "the 3 "]),
    "channels by name": (
        lambda m, g: through(g, {"convolution": ["a"]}),
        ["list of numbers", r"\['a'\]"],
    ),
    "one channel": (lambda m, g: through(g, {"convolution": 1}), ["list of numbers", "got 1"]),
    "channels of no layer": (lambda m, g: through(g, [1]), ["dict", r"got \[1\]"]),
    "segments from the second step": (lambda m, g: Schedule((1,)), ["start at 0", r"\(1,\)"]),
    "segments backwards": (lambda m, g: Schedule((0, 2, 1)), ["in order", r"\(0, 2, 1\)"]),
    "no segments": (lambda m, g: Schedule(()), ["start at 0"]),
    "slab of nothing": (lambda m, g: Schedule(slab=0), ["at least 1"]),
    "NaN": (lambda m, g: attribute(g, NOT_FINITE[0], 0), ["NaN or infinite", "replace them"]),
    "infinite": (lambda m, g: evaluate(g, NOT_FINITE[1]), ["NaN or infinite", "replace them"]),
}


@pytest.mark.parametrize("case", REFUSED_CALLS)
def test_what_is_given_in_the_wrong_kind_is_refused(case: str) -> None:
    call, words = REFUSED_CALLS[case]
    model = nn.Conv2d(3, 2, 1).eval()
    graph = capture(model, SQUARE)
    with pytest.raises(LRPError) as caught:
        call(model, graph)
    assert_one_sentence(caught.value, words)


def in_inference_mode(make: Callable[[], Any]) -> Any:
    with torch.inference_mode():
        return make()


class Averaging(nn.Module):
    """Each kind of step whose adjoint PyTorch derives, the first of them at the input."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.floor = nn.BatchNorm2d(4), nn.Parameter(torch.zeros(4, 1, 1))
        self.conv, self.group, self.head = nn.Conv2d(2, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(F.avg_pool2d(x, 2)))
        x = F.interpolate(F.max_pool2d(torch.maximum(x, self.floor), 2), scale_factor=2, mode="bilinear")
        return self.head(self.group(x).roll(1, 2).mean((2, 3)))


@pytest.mark.parametrize("made_in_it", ["nothing", "model", "input", "both"])
@pytest.mark.parametrize("around", ["nothing", "capture", "attribute", "both"])
def test_inference_mode_changes_nothing(made_in_it: str, around: str) -> None:
    torch.manual_seed(0)
    model, x = Averaging().eval(), torch.randn(1, 2, 16, 16)
    expected = attribute(capture(model, x), x, 1, "gamma")
    if made_in_it in ("model", "both"):
        weights, model = model.state_dict(), in_inference_mode(lambda: Averaging().eval())
        in_inference_mode(lambda: model.load_state_dict(weights))
    given = in_inference_mode(x.clone) if made_in_it in ("input", "both") else x

    def called(step: str, make: Callable[[], Any]) -> Any:
        return in_inference_mode(make) if around in (step, "both") else make()

    graph = called("capture", lambda: capture(model, given))
    called("attribute", lambda: graph(given))
    evaluation = called("attribute", lambda: evaluate(graph, given, "gamma"))
    held = called("attribute", lambda: evaluation.held(1, "conv"))
    for found in (
        called("attribute", lambda: evaluation.attribute(1)),
        called("attribute", lambda: evaluation.attribute(held, layer="conv")),
    ):
        torch.testing.assert_close(found.relevance, expected.relevance)
        assert not found.relevance.is_inference()


class Counting(nn.Module):
    """Writes to one buffer and replaces another in its forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("seen", torch.zeros(2))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        y = self.conv(x)
        self.seen = self.seen * 0.9 + y.mean((0, 2, 3))
        return y


def test_buffers_that_a_network_writes_are_as_they_were() -> None:
    model, x = Counting().eval(), torch.randn(1, 1, 8, 8)
    buffers = dict(model.named_buffers())
    graph = capture(model, x)
    assert all(buffer is buffers[name] and not buffer.any() for name, buffer in model.named_buffers())
    torch.testing.assert_close(graph(x), model.conv(x))


def trained(model: nn.Module, x: Tensor) -> None:
    model(x).sum().backward()
    torch.optim.SGD(model.parameters(), 0.1).step()


def loaded(model: nn.Module, x: Tensor) -> None:
    model.load_state_dict({name: value + 1 for name, value in model.state_dict().items()})


def statistics_set(model: nn.Module, x: Tensor) -> None:
    model.norm.running_mean += 1


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("change", [trained, loaded, statistics_set])
@pytest.mark.parametrize(
    "made",
    [lambda model, x: model, lambda model, x: torch.jit.trace(model, x, check_trace=False)],
    ids=["module", "traced"],
)
def test_a_graph_of_weights_that_changed_is_refused(change: Callable[..., None], made: Callable[..., Any]) -> None:
    x = torch.randn(1, 2, 16, 16)
    model = made(Averaging().eval(), x)
    graph = capture(model, x)
    evaluation = evaluate(graph, x)
    attribute(graph, x, 1)
    change(model, x)
    for asked in (lambda: graph(x), lambda: attribute(graph, x, 1), lambda: evaluation.attribute(1)):
        with pytest.raises(LRPError, match=r"weights or buffers have been written to .* capture it again"):
            asked()


def test_weights_that_moved_are_the_same() -> None:
    x = torch.randn(1, 2, 16, 16)
    model = Averaging().eval()
    graph = capture(model, x)
    expected = graph(x)
    model.double().float()
    assert torch.equal(graph(x), expected)


def test_an_input_that_changed_since_is_refused() -> None:
    x = torch.randn(1, 2, 16, 16)
    evaluation = evaluate(capture(Averaging().eval(), x), x)
    evaluation.attribute(1)
    x += 1
    with pytest.raises(LRPError, match=r"input has been written to .* evaluate it again"):
        evaluation.attribute(1)


def test_buffers_that_no_answer_depends_on_may_change() -> None:
    model, x = Counting().eval(), torch.randn(1, 1, 8, 8)
    graph = capture(model, x)
    expected = graph(x)
    model(x)
    capture(model, x)
    torch.testing.assert_close(graph(x), expected)


def test_capturing_again_leaves_an_earlier_graph_valid() -> None:
    model, x = Averaging().eval(), torch.randn(1, 2, 16, 16)
    graph = capture(model, x)
    capture(model, torch.randn(2, 2, 16, 16))
    torch.testing.assert_close(graph(x), model(x))
