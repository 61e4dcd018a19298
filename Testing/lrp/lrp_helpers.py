"""What the engine's suites share: tables of small networks, composites of one rule, and measures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
import torch
from LRPExplainLib.lrp import COMPOSITES, Attribution, Composite, Graph, Target, attribute, capture
from LRPExplainLib.lrp.rules import LinearRule, Rule
from torch import Tensor, nn

from benchmarks.networks import NETWORKS, first_tensor, start_relevance

Map = Callable[..., Tensor]
LINEAR_ROLES = ("conv", "linear", "norm", "sum", "bias", "average")
CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
CONV_TRANSPOSE = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
AVERAGE_POOL = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}
MAX_POOL = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
INSTANCE_NORM = {1: nn.InstanceNorm1d, 2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}


class Function(nn.Module):
    """A module around a function of tensors, for one-line networks in tables."""

    def __init__(self, function: Callable[..., object]) -> None:
        super().__init__()
        self._function = function

    def forward(self, *inputs: Tensor) -> object:
        return self._function(*inputs)


def difference(ours: Tensor, theirs: Tensor) -> float:
    """Greatest absolute difference, relative to the greatest absolute value."""
    assert ours.shape == theirs.shape
    assert torch.isfinite(ours).all()
    return float((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1e-30))


def correlation(a: Tensor, b: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])


def one_rule(rule: Rule, base: str = "epsilon", **others: Rule) -> Composite:
    """A composite with one rule for every linear role and the base's choices elsewhere."""
    roles: dict[str, Rule] = dict.fromkeys(LINEAR_ROLES, rule) if isinstance(rule, LinearRule) else {}
    return COMPOSITES[base].override(others | roles)


def explain(
    model: nn.Module,
    inputs: Tensor | list[Tensor],
    target: Target | Tensor,
    composite: str | Composite,
    **options: object,
) -> Attribution:
    """Capture and attribute in one go."""
    given = [inputs] if isinstance(inputs, Tensor) else inputs
    return attribute(capture(model.eval(), *given), given, target, composite, **options)


def small_network() -> tuple[nn.Module, Tensor]:
    """A network with either kind of norm, signed and unsigned signals, a stride and a way back up; and its input."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv3d(1, 8, 3, padding=1), nn.InstanceNorm3d(8, affine=True), nn.LeakyReLU(0.1),
        nn.Conv3d(8, 12, 3, stride=2, padding=1), nn.BatchNorm3d(12), nn.ReLU(),
        nn.ConvTranspose3d(12, 6, 2, stride=2), nn.ReLU(), nn.Conv3d(6, 3, 1),
    )  # fmt: skip
    return model.eval(), torch.randn(1, 1, 12, 14, 16)


def built(name: str) -> tuple[nn.Module, Tensor, Graph, Tensor]:
    """A network of the benchmarks, its input, its graph and a start relevance; skips where it cannot be built."""
    network = NETWORKS[name]
    if network.missing():
        pytest.skip(network.missing())
    model, x = network.build(), network.input()
    graph = capture(model, x)
    return model, x, graph, start_relevance(first_tensor(graph(x)))


def seeded(build: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """A network in float64 and eval mode with reproducible weights, norms' parameters and statistics included."""
    torch.manual_seed(seed)
    model = build().double().eval()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase | nn.GroupNorm | nn.LayerNorm):
            for parameter in module.parameters():
                nn.init.normal_(parameter)
            if getattr(module, "running_var", None) is not None:
                nn.init.normal_(module.running_mean)
                nn.init.uniform_(module.running_var, 0.5, 2.0)
    return model


def noise(*shape: int, seed: int = 1) -> Tensor:
    """Reproducible standard normal float64 values."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def jacobian(function: Map, inputs: Sequence[Tensor]) -> Tensor:
    """[output elements, elements of all inputs]."""
    blocks = torch.autograd.functional.jacobian(lambda *xs: function(*xs).flatten(), tuple(inputs))
    return torch.cat([block.flatten(1) for block in blocks], 1)


@dataclass(frozen=True)
class Case:
    """A row of a table: what it is, the module, its inputs' shapes."""

    name: str
    build: Callable[[], nn.Module]
    shapes: tuple[tuple[int, ...], ...]

    def inputs(self) -> list[Tensor]:
        return [noise(*shape, seed=3 + i) for i, shape in enumerate(self.shapes)]


def table(*rows: tuple[str, Callable[[], nn.Module] | Map, *tuple[tuple[int, ...], ...]]) -> pytest.MarkDecorator:
    """Parametrise by rows of (name, module or function of tensors, shape of each input)."""
    return pytest.mark.parametrize("case", [pytest.param(Case(n, b, s), id=n) for n, b, *s in rows])


class Recurrent(nn.Module):
    """The states of recurrent cells, of either direction, at the end of each sequence of [N, steps, 3]."""

    def __init__(self, build: Callable[..., nn.Module]) -> None:
        super().__init__()
        self.cells = build(3, 4, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor) -> Tensor:
        states: Tensor = self.cells(x)[0]
        return states[:, -1]


def of(function: Map) -> Callable[[], nn.Module]:
    return lambda: Function(function)


def shaped(*shape: int) -> Tensor:
    """A constant in a network."""
    return noise(*shape, seed=77)
