"""Composites: rules by role and by name, changed by the user, and refused where they make no sense."""

import re

import pytest
import torch
import torch.nn.functional as F
from lrp_helpers import CONV, Function, difference, explain, noise, seeded
from LRPExplainLib.lrp import (
    COMPOSITES,
    DEFAULT_COMPOSITE,
    Composite,
    Ledger,
    LRPError,
    Row,
    Target,
    attribute,
    capture,
    composite_named,
    rules,
)
from torch import Tensor, nn


class Net(nn.Module):
    """An encoder of two convolutions, a residual sum, a gate and a dense layer."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1))
        self.decoder = nn.ModuleDict({"conv": nn.Conv2d(4, 4, 1)})
        self.dense = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.encoder(x)
        x = F.relu(x + self.decoder["conv"](x)) * torch.sigmoid(x)
        return self.dense(x.mean((2, 3)))


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return seeded(Net)


X = noise(2, 2, 5, 5)
PLUS = COMPOSITES["epsilon-plus"]


def rules_of(ledger: Ledger) -> dict[str, str]:
    """Layer -> rule, as the ledger tells."""
    return {row.layer: row.rule for row in ledger.by_layer}


def ledger_of(net: nn.Module, composite: Composite | str) -> Ledger:
    return explain(net, X, Target(1), composite).ledger


def test_every_preset_can_be_told_apart_and_named() -> None:
    assert DEFAULT_COMPOSITE in COMPOSITES
    assert len({c.description for c in COMPOSITES.values()}) == len(COMPOSITES)
    for name, composite in COMPOSITES.items():
        assert composite.name == name
        assert composite.description.endswith(".")
        assert composite_named(name) is composite is composite_named(composite)


def test_the_ledger_tells_which_rule_ran_where(net: nn.Module) -> None:
    told = rules_of(ledger_of(net, "epsilon-plus-flat"))
    assert told["encoder.0"] == "flat"  # the first layer alone
    assert told["encoder.2"] == told["decoder.conv"] == "z+"
    assert told["dense"] == "epsilon(1e-06)"
    assert told["add"] == told["mean"] == "magnitude"


def test_override_by_role(net: nn.Module) -> None:
    told = rules_of(ledger_of(net, PLUS.override({"conv": rules.gamma(0.5), "sum": "epsilon(0.1)"})))
    assert told["encoder.0"] == told["encoder.2"] == told["decoder.conv"] == "gamma(0.5)"
    assert told["add"] == "epsilon(0.1)"
    assert told["dense"] == "epsilon(1e-06)"


@pytest.mark.parametrize(
    ("pattern", "changed"),
    [
        ("encoder.*", {"encoder.0", "encoder.2"}),
        ("encoder.2", {"encoder.2"}),
        ("*.conv", {"decoder.conv"}),
        ("?ense", {"dense"}),
        ("encoder.[!2]", {"encoder.0"}),
        ("add", {"add"}),
    ],
)
def test_override_by_name_pattern(net: nn.Module, pattern: str, changed: set[str]) -> None:
    before = rules_of(ledger_of(net, PLUS))
    after = rules_of(ledger_of(net, PLUS.override({pattern: "w-square"})))
    assert {layer for layer, rule in after.items() if rule == "w-square"} == changed
    assert {layer: rule for layer, rule in after.items() if layer not in changed} == {
        layer: rule for layer, rule in before.items() if layer not in changed
    }


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (Row("conv", rules.gamma(0.5)), "a dict from a role or a layer's name to a rule, but got Row"),
        ([("conv", "gamma")], "a dict from a role"),
        ({"conv": 0.5}, "one of lrp.rules or its name, but got 0.5"),
        ({"conv": "gama"}, "There is no rule 'gama'"),
    ],
    ids=["row", "list", "number", "misspelt"],
)
def test_what_is_no_table_of_rules_is_refused(table: object, said: str) -> None:
    with pytest.raises(LRPError, match=said):
        PLUS.override(table)  # type: ignore[arg-type]


def test_an_override_changes_the_explanation_as_if_the_table_had_said_so(net: nn.Module) -> None:
    overridden = PLUS.override({"input": "flat"})
    assert (
        difference(
            explain(net, X, Target(1), overridden).relevance, explain(net, X, Target(1), "epsilon-plus-flat").relevance
        )
        <= 1e-12
    )
    assert (
        difference(explain(net, X, Target(1), overridden).relevance, explain(net, X, Target(1), PLUS).relevance) > 1e-3
    )


def test_the_first_row_that_matches_decides(net: nn.Module) -> None:
    """The last override is asked first; a name before a role or behind it, as they are written."""
    twice = PLUS.override({"conv": "flat"}).override({"encoder.2": "w-square"})
    assert rules_of(ledger_of(net, twice))["encoder.2"] == "w-square"
    other_way = PLUS.override({"encoder.2": "w-square"}).override({"conv": "flat"})
    assert rules_of(ledger_of(net, other_way))["encoder.2"] == "flat"
    assert PLUS.rows == COMPOSITES["epsilon-plus"].rows  # an override is a new composite


def test_overriding_says_so_in_its_name_and_rows() -> None:
    changed = PLUS.override({"encoder.*": "alpha-beta(2, 1)"})
    assert changed.name != PLUS.name
    assert changed.name.startswith(PLUS.name)
    assert changed.as_rows()[0] == ("encoder.*", "alpha-beta(2,1)")
    assert changed.as_rows()[1:] == PLUS.as_rows()
    assert dict(PLUS.as_rows()) == {row.match: str(row.rule) for row in PLUS.rows}


@pytest.mark.parametrize("name", COMPOSITES)
def test_a_composite_can_be_written_down_and_read_again(net: nn.Module, name: str) -> None:
    """`as_rows` is text that `override` understands: what an explanation records can be run again."""
    preset = COMPOSITES[name]
    written = preset.as_rows()
    read = Composite("read", "", (), preset.normalization, preset.biases).override(dict(written))
    assert read.as_rows() == written
    again, original = (explain(net, X, Target(1), c).relevance for c in (read, name))
    assert difference(again, original) <= 1e-9


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"conv": rules.SIGNAL}, ["signal", "encoder.0|encoder.2|decoder.conv", "aten.convolution", "linear, pass"]),
        ({"activation": rules.flat()}, ["flat", "aten.relu", "knows pass"]),
        ({"gate": rules.gamma()}, ["gamma", "aten.mul", "signal, uniform"]),
        ({"dense": rules.TAYLOR}, ["taylor", "dense", "aten.addmm"]),
        ({"encoder.0": rules.PASS}, ["pass", "encoder.0", "shape"]),
    ],
)
def test_a_rule_that_does_not_apply_is_refused(net: nn.Module, table: dict[str, rules.Rule], words: list[str]) -> None:
    with pytest.raises(LRPError) as caught:
        ledger_of(net, PLUS.override(table))
    text = str(caught.value)
    assert "\n" not in text
    for word in words:
        assert any(w in text for w in word.split("|")), text


def test_a_composite_without_a_row_for_a_layer_is_refused(net: nn.Module) -> None:
    with pytest.raises(LRPError, match=r"short has no rule for relu \(activation\); add a row for that role"):
        ledger_of(net, Composite("short", "", (Row("conv", rules.flat()), Row("linear", rules.flat()))))


@pytest.mark.parametrize(
    "text", ["nonsense", "gamma(high)", "alpha-beta(2)", "flat(1,2,3,4)", "z+(1)", "epsilon(1,0)", "z-box(0,1,2)", ""]
)
def test_a_rule_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(LRPError, match="rule"):
        PLUS.override({"conv": text})


@pytest.mark.parametrize(
    ("make", "numbers", "sentence"),
    [
        ("epsilon", "-1", "An epsilon is 0 or more and finite, but got -1; write"),
        ("epsilon", "nan", "An epsilon is 0 or more"),
        ("epsilon", "inf", "An epsilon is 0 or more"),
        ("gamma", "-1", "A gamma is 0 or more and finite, but got -1; write"),
        ("gamma", "nan", "A gamma is 0 or more"),
        ("gamma", "inf", "A gamma is 0 or more"),
        ("gamma", "1e39", "A gamma is 0 or more and finite"),
        ("z-box", "1,0", "A z-box has finite bounds, the lower one first, but got 1,0; write"),
        ("z-box", "0,nan", "A z-box has finite bounds"),
        ("z-box", "-inf,0", "A z-box has finite bounds"),
    ],
)
def test_numbers_that_make_no_rule_are_refused(make: str, numbers: str, sentence: str) -> None:
    function = {"epsilon": rules.epsilon, "gamma": rules.gamma, "z-box": rules.z_box}[make]
    for ask in (lambda: rules.rule_named(f"{make}({numbers})"), lambda: function(*map(float, numbers.split(",")))):
        with pytest.raises(LRPError, match=re.escape(sentence)) as caught:
            ask()
        assert "\n" not in str(caught.value)


def test_numbers_at_the_end_of_their_range_are_taken() -> None:
    assert str(rules.rule_named("epsilon(0)")) == "epsilon(0)"
    assert str(rules.rule_named("gamma(0)")) == "gamma(0)"
    assert rules.rule_named("z-box(0)") == rules.z_box(0.0)
    assert rules.rule_named("z-box(1,1)") == rules.z_box(1.0, 1.0)


@pytest.mark.parametrize(("alpha", "beta"), [(2, 2), (0.5, -0.5), (1, 1), (float("nan"),) * 2, (float("inf"),) * 2])
def test_alpha_beta_that_would_not_conserve_is_refused(alpha: float, beta: float) -> None:
    with pytest.raises(LRPError, match="alpha - beta = 1"):
        rules.alpha_beta(alpha, beta)
    with pytest.raises(LRPError, match="alpha - beta = 1"):
        rules.rule_named(f"alpha-beta({alpha}, {beta})")


def test_a_pattern_that_names_no_layer_is_refused(net: nn.Module) -> None:
    """Names are as they are written: a slip of the pen must not silently leave everything as it was."""
    with pytest.raises(LRPError, match=re.escape("No layer of the model is named 'Encoder.*'")):
        ledger_of(net, PLUS.override({"Encoder.*": rules.flat()}))


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("z+", rules.z_plus()),
        ("z+(no bias)", rules.z_plus(absorb_bias=False)),
        (" gamma( 0.5 ) ", rules.gamma(0.5)),
        ("gamma", rules.gamma()),
        ("epsilon(1e-3)", rules.epsilon(1e-3)),
        ("alpha-beta(2, 1)", rules.alpha_beta(2, 1)),
        ("z-box(-1, 3)", rules.z_box(-1.0, 3.0)),
        ("z-box", rules.z_box()),
        ("pass", rules.PASS),
    ],
)
def test_rules_are_read_as_they_are_written(text: str, rule: rules.Rule) -> None:
    assert rules.rule_named(text) == rule


@pytest.mark.parametrize("rule", [rules.z_box(), rules.z_box(0.0), rules.z_box(-1.0, 3.5), rules.gamma(0.5)], ids=str)
def test_a_rule_is_read_back_from_its_name(rule: rules.Rule) -> None:
    """As records and explanations hold it, so that it can be computed again."""
    assert rules.rule_named(str(rule)) == rule


def test_a_pattern_is_for_the_operators_that_can_have_its_rule() -> None:
    """`0.*` names the convolution and the PReLU with a parameter of its own; only one of them can have z+."""
    block = nn.Sequential(nn.Conv2d(2, 4, 3), nn.PReLU(4))
    net = seeded(lambda: nn.Sequential(block, nn.Flatten(), nn.Linear(36, 3)))
    ledger = ledger_of(net, PLUS.override({"0.*": rules.gamma(0.5)}))
    assert rules_of(ledger)["0.0"] == "gamma(0.5)"
    assert rules_of(ledger)["0.1"] == "pass"


class Pooled(nn.Module):
    """The same scores twice: the mean of a map of scores, and the score of a mean of features."""

    def __init__(self, pooled_first: bool, bias: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1), nn.ReLU()
        )
        dense = nn.Linear(6, 1)
        with torch.no_grad():
            dense.bias.fill_(bias)
        self.pooled_first, self.dense, self.head = pooled_first, dense, nn.Conv2d(6, 1, 1)
        self.head.weight.data, self.head.bias.data = dense.weight.data[..., None, None], dense.bias.data

    def forward(self, x: Tensor) -> Tensor:
        z = self.features(x)
        return self.dense(z.mean((2, 3))) if self.pooled_first else self.head(z).mean((2, 3))


@pytest.mark.parametrize("composite", ["epsilon-plus", "volume"])
@pytest.mark.parametrize("bias", [-1.0, 0.0, 1.0])
def test_a_map_of_scores_that_is_pooled_is_explained_as_the_score_of_what_is_pooled(
    composite: str, bias: float
) -> None:
    """z+ and sharing by magnitude would give all of a map of scores the sign of their mean: of a mean below 0 what
    speaks for the class would count against it."""
    x = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(3))
    chosen = composite_named(composite).with_biases("absorb")
    found = []
    for pooled_first in (True, False):
        network = Pooled(pooled_first, bias).eval()
        found.append(attribute(capture(network, x), x, Target(0), composite=chosen))
    assert float(found[0].output) == pytest.approx(float(found[1].output), rel=1e-5)
    assert float(found[0].output) * bias >= 0
    torch.testing.assert_close(found[1].relevance, found[0].relevance, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("composite", ["epsilon-plus", "gamma", "volume"])
def test_of_the_mean_of_two_networks_scores_each_keeps_its_own_sign(composite: str) -> None:
    """(3 + -1) / 2 = 1.5 - 0.5; by size the second would get (3 + -1) / 2 * 1 / 4 = 0.25."""

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
            self.one.weight.data[:], self.other.weight.data[:] = 1.0, -1.0

        def forward(self, x: Tensor) -> Tensor:
            return (self.one(x[:, :1]) + self.other(x[:, 1:])) / 2

    x = torch.tensor([[3.0, 1.0]])
    found = attribute(capture(Two(), x), x, Target(0), composite=composite)
    torch.testing.assert_close(found.relevance, torch.tensor([[1.5, -0.5]]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("composite", ["epsilon", "epsilon-plus", "gamma", "volume"])
def test_the_bias_that_an_answer_starts_from_absorbs_where_others_share(composite: str) -> None:
    """Scores [3 - 10, 1 - 10] of a feature of 1: shared, a bias of -10 would leave -7 and -9 on what speaks for both
    of them."""
    chosen = composite_named(composite).with_biases("share")
    head, x = nn.Linear(1, 2), torch.ones(1, 1)
    head.weight.data, head.bias.data = torch.tensor([[3.0], [1.0]]), torch.tensor([-10.0, -10.0])
    added = nn.Linear(1, 2, bias=False)
    added.weight.data = head.weight.data

    class Apart(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return added(x) - 10

    class Mean(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([head(x), Apart()(x)]).mean(0)

    for network in (head, nn.Sequential(nn.Identity(), head), Apart(), Mean()):
        chosen = chosen.override({"input": "epsilon"})  # a network of one layer begins with its last
        for channel, wanted in enumerate((3.0, 1.0)):
            found = attribute(capture(network, x), x, Target(channel), composite=chosen)
            torch.testing.assert_close(found.relevance, torch.tensor([[wanted]]), rtol=0.02, atol=0)
            assert found.ledger.absorbed == pytest.approx(-10.0, rel=0.02)


def test_biases_within_a_classifier_are_shared_all_the_same() -> None:
    """relu(2 + 2) = 4 and 3 * 4 - 1: of the 12 that reach the feature its bias gets nothing."""
    network = nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1))
    for layer, weight, bias in ((network[0], 2.0, 2.0), (network[2], 3.0, -1.0)):
        layer.weight.data.fill_(weight)
        layer.bias.data.fill_(bias)
    x = torch.ones(1, 1)
    found = attribute(capture(network, x), x, Target(0), COMPOSITES["epsilon"].with_biases("share"))
    torch.testing.assert_close(found.relevance, torch.tensor([[12.0]]), rtol=0.03, atol=0)
    assert found.ledger.absorbed_bias == pytest.approx(-1.0, rel=0.03)


@pytest.mark.parametrize("dims", CONV)
def test_the_scores_of_a_segmentation_are_shared_as_before(dims: int) -> None:
    """They are read voxel by voxel."""
    conv = CONV[dims]
    network = nn.Sequential(conv(1, 2, 3, padding=1), nn.ReLU(), conv(2, 2, 1), nn.Upsample(scale_factor=2))
    x = torch.rand(1, 1, *[4] * dims)
    found = attribute(capture(network, x), x, Target(0), composite="volume")
    told = {row.layer: row.rule for row in found.ledger.by_layer}
    assert "z+" in told["2"]


def test_the_rules_of_input_and_head_are_for_the_first_and_the_last_layer_of_whatever_kind() -> None:
    """`flat` shares relevance out among all inputs alike; the layers behind the first have another rule."""
    x = noise(1, 4)
    model = seeded(lambda: nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 2)))
    found = explain(model, x, Target(0), COMPOSITES["epsilon"].override({"input": "flat"}))
    assert [row.rule.split("(")[0] for row in found.ledger.by_layer] == ["epsilon", "pass", "epsilon", "pass", "flat"]
    assert difference(found.relevance, found.relevance.mean().expand(1, 4)) < 1e-12
    last = explain(model, x, Target(0), COMPOSITES["epsilon"].override({"head": "z+"})).ledger.by_layer
    assert [row.rule.split("(")[0] for row in last] == ["z+", "pass", "epsilon", "pass", "epsilon"]


def test_a_norm_is_no_part_of_a_layer_that_others_read_too() -> None:
    layer, norm, x = seeded(lambda: nn.Conv2d(2, 4, 3)), seeded(lambda: nn.GroupNorm(2, 4)), noise(1, 2, 6, 6)

    def roles(network: Function) -> list[str]:
        return [row.role for row in explain(network, x, noise(*network(x).shape), "epsilon").ledger.by_layer]

    assert "norm" not in roles(Function(lambda x: norm(layer(x))))

    def twice(x: Tensor) -> Tensor:
        y = layer(x)
        return torch.cat([norm(y), y], 1)

    assert "norm" in roles(Function(twice))


def test_an_average_of_the_input_itself_can_have_a_rule_of_its_own() -> None:
    """Also behind what moves it; averages of signals keep theirs."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 2, 3, padding=1)
            self.register_buffer("places", F.affine_grid(0.8 * torch.eye(2, 3)[None], [1, 1, 8, 12], False))

        def forward(self, x: Tensor) -> Tensor:
            x = F.interpolate(F.pad(x.transpose(2, 3), (1, 1)), size=(8, 12), mode="bilinear")
            x = F.grid_sample(x, self.places, align_corners=False)
            return F.avg_pool2d(self.conv(F.avg_pool2d(x, 2)).relu(), 2)

    model, x = seeded(Net), noise(1, 1, 6, 10).abs()
    own = COMPOSITES["epsilon-plus"].override({"resampled": "flat"})
    for composite, expected in ((own, ["magnitude", "flat", "flat", "flat"]), ("epsilon-plus", ["magnitude"] * 4)):
        rows = explain(model, x, noise(*model(x).shape, seed=9), composite).ledger.by_layer
        assert [row.rule for row in rows if row.role == "average"] == expected
