"""Rules for single layers, from the command line, the model card and Python; the ledger as a table."""

import pytest
import SimpleITK as sitk
from helpers.networks import RANGE, classes, save_model, segmenter
from helpers.volumes import make_volume
from LRPExplainLib import lrp
from LRPExplainLib.cli import main
from LRPExplainLib.explain import explain
from LRPExplainLib.explanation import Explanation

CARD = {"preprocessing": {"orientation": "RAS", "intensity": RANGE}, "output": classes("background", "grey", "white")}


@pytest.fixture
def volume(tmp_path):
    path = tmp_path / "t1.nrrd"
    sitk.WriteImage(make_volume(), str(path))
    return path


def rules_by_layer(explanation: Explanation) -> dict[str, str]:
    return {row["layer"]: row["rule"] for row in explanation.ledger["by_layer"] if row["role"] == "conv"}


def test_the_command_line_overrides_layers_by_name_and_role(tmp_path, volume):
    model = save_model(tmp_path, segmenter(), **CARD)
    out = tmp_path / "out"
    given = ["--composite", "epsilon-plus", "--rule", "input=flat", "--rule", "5=gamma(0.5)"]
    assert (
        main(["explain", "--model", str(model), "--volume", str(volume), "--target", "1", "--out", str(out), *given])
        == 0
    )
    assert rules_by_layer(Explanation.load(out)) == {"5": "gamma(0.5)", "2": "z+", "0": "flat"}


def test_the_cards_rules_hold_unless_a_composite_is_asked_for_and_the_callers_go_first(tmp_path, volume):
    wishes = {"composite": "epsilon-plus", "rules": {"input": "w-square", "5": "epsilon(0.1)"}}
    model = save_model(tmp_path, segmenter(), explanation=wishes, **CARD)
    as_card = explain(model, [volume], target=1, device="cpu")
    assert rules_by_layer(as_card) == {"5": "epsilon(0.1)", "2": "z+", "0": "w-square"}
    assert as_card.model["card"]["explanation"] == wishes
    first = explain(model, [volume], target=1, device="cpu", rules={"5": lrp.rules.z_plus()})
    assert rules_by_layer(first) == {"5": "z+", "2": "z+", "0": "w-square"}
    asked = explain(model, [volume], target=1, composite="epsilon-plus-flat", device="cpu")
    assert rules_by_layer(asked) == {"5": "z+", "2": "z+", "0": "flat"}


def test_biases_share_unless_the_card_the_caller_or_a_composite_of_its_own_says_otherwise(tmp_path, volume, capsys):
    model = save_model(tmp_path, segmenter(), **CARD)
    usual = explain(model, [volume], 1, "epsilon-plus", "cpu")
    assert usual.composite["biases"] == "share"
    assert usual.ledger["absorbed_bias"] == 0
    kept = explain(model, [volume], 1, "epsilon-plus", "cpu", biases="absorb")
    assert kept.ledger["absorbed_bias"] != 0
    own = explain(model, [volume], 1, lrp.COMPOSITES["epsilon-plus"], "cpu")
    assert own.composite["biases"] == "absorb"
    assert own.ledger["absorbed_bias"] == kept.ledger["absorbed_bias"]
    with_card = save_model(tmp_path, segmenter(), explanation={"biases": "absorb"}, **CARD)
    assert explain(with_card, [volume], 1, device="cpu").composite["biases"] == "absorb"
    out, given = tmp_path / "out", ["--volume", str(volume), "--target", "1", "--biases", "share"]
    assert main(["explain", "--model", str(with_card), "--out", str(out), *given]) == 0
    assert Explanation.load(out).composite["biases"] == "share"
    assert "biases share" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        ("input", "write LAYER=RULE"),
        ("input=flatt", "There is no rule 'flatt'"),
        ("input=gamma(much)", "wrong numbers"),
        ("encodr.*=flat", "No layer of the model is named 'encodr.*'"),
        ("conv=taylor", "does not apply"),
        ("conv=epsilon(inf)", "An epsilon is 0 or more and finite"),
        ("conv=gamma(-1)", "A gamma is 0 or more"),
        ("input=z-box(1,0)", "A z-box has finite bounds"),
    ],
)
def test_a_wrong_rule_is_one_sentence_and_no_folder(tmp_path, volume, capsys, rule, sentence):
    model = save_model(tmp_path, segmenter(), **CARD)
    out = tmp_path / "out"
    given = ["explain", "--model", str(model), "--volume", str(volume), "--target", "1", "--out", str(out)]
    assert main([*given, "--rule", rule]) == 2
    assert sentence in capsys.readouterr().err
    assert not out.exists()


def test_inspect_prints_the_ledger_as_a_table(tmp_path, volume, capsys):
    model = save_model(tmp_path, segmenter(), **CARD)
    assert main(["inspect", str(model), "--volume", str(volume), "--ledger", "--target", "grey"]) == 0
    printed = capsys.readouterr().out
    assert "Layers     0, 2, 5" in printed
    (heading,) = [line for line in printed.splitlines() if line.startswith("layer ")]
    assert heading.split() == [
        "layer", "operator", "role", "rule", "out", "in", "bias", "stabiliser", "changed", "gap",
    ]  # fmt: skip
    table = printed[printed.index(heading) :].splitlines()[1:]
    assert [line.split()[0] for line in table if " conv " in line] == ["5", "2", "0"]


def test_the_ledger_needs_volumes(tmp_path, capsys):
    assert main(["inspect", str(save_model(tmp_path, segmenter(), **CARD)), "--ledger"]) == 2
    assert "--volume" in capsys.readouterr().err
