"""Zennit as an oracle: on plain stacks, where both can do the same, both say the same.

Everything is in float64. In float32 both are right to their own rounding only, and a denominator that happens to lie
near zero (epsilon, gamma, alpha-beta on signed inputs) magnifies that rounding beyond 1e-5.
"""

import functools
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from lrp_helpers import AVERAGE_POOL, CONV, CONV_TRANSPOSE, MAX_POOL, difference, noise, one_rule, seeded
from LRPExplainLib.lrp import COMPOSITES, Composite, Graph, attribute, capture, rules
from torch import Tensor, nn

from benchmarks.vision import torchvision

TOLERANCE = 1e-5
SMALL = rules.Stabilizer(1e-6, relative=False)

# name -> (ours, theirs)
RULES: dict[str, tuple[rules.LinearRule, Callable[[Any], Any]]] = {
    "epsilon(1e-6)": (rules.epsilon(1e-6, relative=False), lambda z: z.Epsilon(1e-6)),
    "epsilon(0.01)": (rules.epsilon(1e-2, relative=False), lambda z: z.Epsilon(1e-2)),
    "epsilon(0.5)": (rules.epsilon(0.5, relative=False), lambda z: z.Epsilon(0.5)),
    "relative epsilon": (rules.epsilon(0.1), lambda z: z.Epsilon(z.Stabilizer(0.1, norm_scale=True))),
    "norm": (rules.norm(SMALL), lambda z: z.Norm()),
    "gamma(0.25)": (rules.gamma(0.25, SMALL), lambda z: z.Gamma(0.25)),
    "gamma(2)": (rules.gamma(2.0, SMALL), lambda z: z.Gamma(2.0)),
    "alpha-beta(1,0)": (rules.alpha_beta(1, 0, SMALL), lambda z: z.AlphaBeta(1.0, 0.0)),
    "alpha-beta(2,1)": (rules.alpha_beta(2, 1, SMALL), lambda z: z.AlphaBeta(2.0, 1.0)),
    "z+": (rules.z_plus(SMALL), lambda z: z.ZPlus()),
    "z-box": (rules.z_box(-4.0, 5.0, SMALL), lambda z: z.ZBox(-4.0, 5.0)),
    "flat": (rules.flat(SMALL), lambda z: z.Flat()),
    # in w-square no input speaks for the bias, so ours has none; Zennit's has unless it is told
    "w-square": (rules.w_square(SMALL), lambda z: z.WSquare(zero_params="bias")),
}

# name -> layers for the number of dimensions; 2 channels of size SIZE come in. Each ends in ReLU as networks do: behind
# it nothing reaches an output for which nothing speaks, the one case in which z+ differs (see below).
SIZE = {1: 16, 2: 9, 3: 7}
STACKS: dict[str, Callable[[int], list[nn.Module]]] = {
    "plain": lambda d: [CONV[d](2, 4, 3), nn.ReLU(), CONV[d](4, 3, 3), nn.ReLU()],
    "padded": lambda d: [CONV[d](2, 3, 3, padding=1), nn.ReLU(), CONV[d](3, 2, 3, padding=2), nn.ReLU()],
    "strided": lambda d: [CONV[d](2, 3, 3, stride=2, padding=1), nn.ReLU(), CONV[d](3, 4, 2, stride=2), nn.ReLU()],
    "dilated": lambda d: [CONV[d](2, 3, 3, dilation=2), nn.ReLU(), CONV[d](3, 3, 2, dilation=2, bias=False), nn.ReLU()],
    "grouped": lambda d: [CONV[d](2, 4, 3, groups=2), nn.ReLU(), CONV[d](4, 4, 3, groups=4, padding=1), nn.ReLU()],
    "transposed": lambda d: [
        CONV[d](2, 4, 3, stride=2),
        nn.ReLU(),
        CONV_TRANSPOSE[d](4, 4, 3, stride=2, padding=1, output_padding=1, groups=2),
        nn.ReLU(),
        CONV_TRANSPOSE[d](4, 2, 2, dilation=2),
        nn.ReLU(),
    ],
    "max-pooled": lambda d: [CONV[d](2, 4, 3), nn.ReLU(), MAX_POOL[d](2, 2), CONV[d](4, 3, 2), nn.ReLU()],
    "average-pooled": lambda d: [CONV[d](2, 4, 2), nn.ReLU(), AVERAGE_POOL[d](2), CONV[d](4, 3, 2), nn.ReLU()],
}


@pytest.fixture(scope="module")
def zennit() -> Iterator[SimpleNamespace]:
    """Zennit's names. It imports torchvision for two classes that play no part here: placeholders stand in for them."""
    with pytest.MonkeyPatch.context() as patch:
        if torchvision() is None:
            names = ("torchvision", "torchvision.models", "torchvision.models.resnet")
            for name in names:
                patch.setitem(sys.modules, name, ModuleType(name))
            for block in ("Bottleneck", "BasicBlock"):
                setattr(sys.modules[names[-1]], block, type(block, (nn.Module,), {}))
        modules = [
            importlib.import_module(f"zennit.{n}") for n in ("types", "rules", "core", "composites", "attribution")
        ]
        yield SimpleNamespace(**{name: value for module in modules for name, value in vars(module).items()})


@functools.cache
def network(stack: str, dims: int) -> tuple[nn.Module, Graph, Tensor, Tensor]:
    """Module, graph, input and start relevance; a dense layer closes the stack."""
    body = seeded(lambda: nn.Sequential(*STACKS[stack](dims)))
    x = noise(2, 2, *(SIZE[dims],) * dims)
    features = body(x).flatten(1).shape[1]
    dense = seeded(lambda: nn.Linear(features, 5))
    nn.init.constant_(dense.bias, 0.1)  # something speaks for each class
    model = nn.Sequential(*body, nn.Flatten(), dense)
    return model, capture(model, x), x, noise(2, 5, seed=2)


def theirs(zennit: SimpleNamespace, model: nn.Module, x: Tensor, start: Tensor, composite: Any) -> Tensor:
    with zennit.Gradient(model=model, composite=composite) as attributor:
        return attributor(x, start)[1]


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("rule", RULES)
def test_every_rule_agrees_with_zennit(zennit: SimpleNamespace, rule: str, stack: str, dims: int) -> None:
    model, graph, x, start = network(stack, dims)
    our_rule, their_rule = RULES[rule]
    composite = COMPOSITES["epsilon"].override(
        {"conv": our_rule, "linear": our_rule, "average": rules.epsilon(1e-6, relative=False)}
    )
    layers = [(zennit.Activation, zennit.Pass()), (zennit.AvgPool, zennit.Norm()), (zennit.Linear, their_rule(zennit))]
    expected = theirs(zennit, model, x, start, zennit.LayerMapComposite(layers))
    assert difference(attribute(graph, x, start, composite).relevance, expected) <= TOLERANCE


def absolute(composite: str) -> Composite:
    """The preset with Zennit's absolute stabiliser in place of our relative one."""
    own = {"epsilon": rules.epsilon(1e-6, relative=False), "z+": rules.z_plus(SMALL), "flat": rules.flat(SMALL)}
    own |= {"alpha-beta(2,1)": rules.alpha_beta(2, 1, SMALL), "magnitude": rules.magnitude(SMALL)}
    rows = COMPOSITES[composite].rows
    table = {row.match: own.get(str(row.rule).replace("epsilon(1e-06)", "epsilon"), row.rule) for row in rows}
    return COMPOSITES[composite].override(table)


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize(
    ("ours", "name"),
    [
        ("epsilon-plus", "EpsilonPlus"),
        ("epsilon-plus-flat", "EpsilonPlusFlat"),
        ("epsilon-alpha2-beta1", "EpsilonAlpha2Beta1"),
        ("epsilon-alpha2-beta1-flat", "EpsilonAlpha2Beta1Flat"),
    ],
)
def test_whole_composites_agree_with_zennit(
    zennit: SimpleNamespace, ours: str, name: str, stack: str, dims: int
) -> None:
    model, graph, x, start = network(stack, dims)
    expected = theirs(zennit, model, x, start, getattr(zennit, name)())
    assert difference(attribute(graph, x, start, absolute(ours)).relevance, expected) <= TOLERANCE


def test_relative_stabilisers_agree_with_zennit_as_they_come(zennit: SimpleNamespace) -> None:
    """Our presets untouched equal Zennit's composites with stabilisers relative to the layer's scale."""
    model, graph, x, start = network("average-pooled", 2)
    stabilizer = zennit.Stabilizer(1e-6, norm_scale=True)
    expected = theirs(zennit, model, x, start, zennit.EpsilonPlus(epsilon=stabilizer, stabilizer=stabilizer))
    assert difference(attribute(graph, x, start, "epsilon-plus").relevance, expected) <= TOLERANCE


def test_batch_norm_agrees_with_zennit_canonised(zennit: SimpleNamespace) -> None:
    """Zennit merges batch norm into the convolution when asked to; ours always does."""
    canonizers = importlib.import_module("zennit.canonizers")
    model = seeded(lambda: nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 3, 3), nn.BatchNorm2d(3), nn.ReLU(),
        nn.Flatten(), nn.Linear(75, 5),
    ))  # fmt: skip
    x, start = noise(2, 2, 9, 9), noise(2, 5, seed=2)
    merged = zennit.EpsilonPlus(canonizers=[canonizers.SequentialMergeBatchNorm()])
    expected = theirs(zennit, model, x, start, merged)
    ours = attribute(capture(model, x), x, start, absolute("epsilon-plus")).relevance
    assert difference(ours, expected) <= TOLERANCE


def test_z_plus_hands_on_what_zennit_loses(zennit: SimpleNamespace) -> None:
    """An output for which nothing speaks: Zennit's stabiliser takes its relevance, ours goes to what speaks against."""
    model = nn.Sequential(nn.Linear(2, 1, bias=False)).double().eval()
    nn.init.constant_(model[0].weight, -1.0)
    x, start = torch.tensor([[1.0, 3.0]], dtype=torch.float64), torch.tensor([[2.0]], dtype=torch.float64)
    composite = zennit.LayerMapComposite([(zennit.Linear, zennit.ZPlus())])
    zennits = rules.LinearRule("z+", (rules.Part(rules.POSITIVE, "+"),), SMALL)
    lost = attribute(capture(model, x), x, start, one_rule(zennits))
    assert torch.equal(lost.relevance, theirs(zennit, model, x, start, composite))
    assert lost.ledger.absorbed_stabiliser == pytest.approx(2.0)
    kept = attribute(capture(model, x), x, start, one_rule(rules.z_plus(SMALL)))
    assert kept.relevance == pytest.approx(torch.tensor([[0.5, 1.5]]), rel=1e-5)
