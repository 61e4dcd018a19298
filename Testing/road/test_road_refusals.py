"""A network that refuses its input: one sentence about the volumes, before anything is computed."""

import json
from pathlib import Path

import pytest
import SimpleITK as sitk
import torch
from helpers.networks import save_model, segmenter
from helpers.programs import need_programs
from helpers.volumes import make_volume
from LRPExplainLib import cli
from LRPExplainLib.errors import UserError
from LRPExplainLib.explain import explain, plan
from LRPExplainLib.imaging import Everywhere
from LRPExplainLib.lrp import LRPError
from LRPExplainLib.models import draft_card, load_model, read_card
from torch import nn


def exported(folder: Path, network: nn.Module, *shape: int) -> Path:
    need_programs()
    path = folder / "net.pt2"
    torch.export.save(torch.export.export(network.eval(), (torch.zeros(shape),)), path)
    return path


class Grouped(nn.Module):
    """Each of two volumes by itself, then together: the first convolutions have one input channel each."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Conv3d(2, 4, 3, padding=1, groups=2), nn.Conv3d(4, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.first(x).relu())


KINDS = {
    "TorchScript": lambda folder: save_model(folder, segmenter(channels=2), "net"),
    "torch.export": lambda folder: exported(folder, segmenter(channels=2), 1, 2, 16, 16, 16),
    "grouped": lambda folder: save_model(folder, Grouped(), "net"),
}


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_another_number_of_volumes_without_a_card(tmp_path, kind, count):
    path = KINDS[kind](tmp_path)
    volumes = [make_volume(size=(16, 16, 16), seed=n) for n in range(count)]
    given = "1 volume was given" if count == 1 else "3 volumes were given"
    for ask in (explain, plan):
        with pytest.raises(UserError, match=f"takes 2 input channels, but {given}: give one volume for each") as caught:
            ask(path, volumes, device="cpu")
        assert "\n" not in str(caught.value)
        assert ('"channels": 2' in str(caught.value)) == (count == 1)  # a grey image for a network of colour
    assert explain(
        path, [make_volume(size=(16, 16, 16), seed=n) for n in range(2)], 1, device="cpu", region=Everywhere()
    )


class Halving(nn.Module):
    """As a U-Net, it refuses what cannot be halved."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Conv3d(1, 4, 3, padding=1), nn.Conv3d(8, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x).relu()
        coarse = nn.functional.interpolate(nn.functional.max_pool3d(x, 2), scale_factor=2.0)
        return self.last(torch.cat([x, coarse], dim=1))


@pytest.mark.parametrize("ending", ["png", "mha"])
@pytest.mark.parametrize("side", [32, 33])
def test_a_photograph_is_no_volume(tmp_path, ending, side, capsys):
    """Also of a size that a network of volumes would not take either."""
    photograph = tmp_path / f"x-ray.{ending}"
    sitk.WriteImage(sitk.Cast(make_volume(size=(side, 32, 3))[:, :, 1], sitk.sitkUInt8), str(photograph))
    path = save_model(tmp_path, Halving(), "net")
    for verb in (["explain", "--model", str(path), "--out", str(tmp_path / "out")], ["inspect", str(path)]):
        assert cli.main([*verb, "--volume", str(photograph)]) == 2
        error = capsys.readouterr().err
        assert "wants a 3D volume, but what is given is a single slice, as an X-ray" in error
        assert len(error.splitlines()) == 1


def test_a_volume_that_cannot_be_halved_is_called_no_photograph(tmp_path):
    with pytest.raises((UserError, LRPError), match="refuses an input") as caught:
        explain(save_model(tmp_path, Halving(), "net"), [make_volume(size=(33, 32, 32))], device="cpu")
    assert "3D volume" not in str(caught.value)


@pytest.mark.parametrize("resized", [{}, {"resize": {"size": [24, 32]}}])
def test_a_card_without_slices_for_a_network_of_images(tmp_path, resized):
    """What PyTorch says of the axes, and other windows or sizes, would lead nowhere."""
    path = save_model(tmp_path, nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()), "net")
    content = {"schema": 1, "name": "X-rays", "task": "classification", "weights": path.name}
    content |= {"inputs": [{"name": "X-ray"}], "preprocessing": resized}
    (tmp_path / "net.card.json").write_text(json.dumps(content))
    for ask in (explain, plan):
        with pytest.raises(UserError, match=r'takes images of two dimensions, .* add "slices": \{\}') as caught:
            ask(path, [make_volume(size=(40, 30, 1))], device="cpu")
        assert "windows" not in str(caught.value)
    (tmp_path / "net.card.json").write_text(json.dumps(content | {"preprocessing": {**resized, "slices": {}}}))
    assert explain(path, [make_volume(size=(40, 30, 1))], device="cpu").ledger["relative_gap"] < 1e-3


def test_from_the_shell(tmp_path, capsys):
    path = KINDS["TorchScript"](tmp_path)
    sitk.WriteImage(make_volume(), str(tmp_path / "x.nrrd"))
    for verb in (["explain", "--dry-run", "--model", str(path)], ["inspect", str(path)]):
        assert cli.main([*verb, "--volume", str(tmp_path / "x.nrrd")]) == 2
        said = capsys.readouterr().err
        assert "takes 2 input channels, but 1 volume was given" in said
        assert len(said.splitlines()) == 1


def test_a_program_of_one_size_looks_through_windows_of_it(tmp_path):
    path = exported(tmp_path, segmenter(), 1, 1, 12, 16, 20)
    model = load_model(path)
    assert model.card.preprocessing.window == {"size": [20, 16, 12]}
    assert "20 x 16 x 12 voxels alone" in model.card.notes[0]
    assert '"resize"' in model.card.notes[0]
    explanation = explain(path, [make_volume(size=(30, 26, 14))], 1, device="cpu", region=Everywhere())
    assert explanation.provenance["run"]["window_size"] == [20, 16, 12]
    assert explanation.provenance["run"]["windows"] > 1
    assert explanation.ledger["relative_gap"] < 1e-3
    content, _ = draft_card(path)
    assert content["preprocessing"]["window"] == {"size": [20, 16, 12]}
    (tmp_path / "net.card.json").write_text(json.dumps(content))
    assert read_card(tmp_path / "net.card.json").preprocessing.window == {"size": [20, 16, 12]}


def test_a_program_of_one_size_with_a_card_without_windows_says_which_to_use(tmp_path):
    path = exported(tmp_path, segmenter(), 1, 1, 12, 16, 20)
    content, _ = draft_card(path)
    del content["preprocessing"]["window"]
    (tmp_path / "net.card.json").write_text(json.dumps(content))
    volume = make_volume(size=(30, 26, 14))
    with pytest.raises(UserError, match=r"exported for inputs of 20 x 16 x 12 voxels alone.*--window 20x16x12"):
        explain(path, [volume], 1, device="cpu")
    assert explain(path, [volume], 1, device="cpu", window={"size": [20, 16, 12]}).ledger["relative_gap"] < 1e-3


class SkipConnection(nn.Module):
    """A U-Net in small: it takes even sizes alone."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.down, self.up = nn.Conv3d(1, 2, 3, stride=2, padding=1), nn.Upsample(scale_factor=2.0)
        self.last = nn.Conv3d(3, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.cat([x, self.up(self.down(x))], 1))


@pytest.mark.parametrize("traced", [False, True], ids=["scripted", "traced"])
def test_torchscript_says_why_it_refuses_a_size_and_what_to_do(tmp_path, traced, capsys):
    network = SkipConnection().eval()
    if traced:
        path = tmp_path / "net.ts"
        torch.jit.trace(network, torch.zeros(1, 1, 8, 8, 8)).save(path)
    else:
        path = save_model(tmp_path, network)
    sitk.WriteImage(make_volume(size=(13, 16, 12)), str(tmp_path / "x.nrrd"))
    words = ["--model", str(path), "--volume", str(tmp_path / "x.nrrd"), "--out", str(tmp_path / "out")]
    assert cli.main(["explain", *words, "--everywhere"]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert "refuses an input of 13 x 16 x 12 voxels (Sizes of tensors must match" in said
    assert "--window IxJxK" in said
    assert "size_multiple" in said
    assert cli.main(["explain", *words, "--everywhere", "--window", "8x8x8", "--target", "1"]) == 0
    assert cli.main(["inspect", str(path), "--shape", "12", "16", "13"]) == 2  # which has no windows to use
    said = capsys.readouterr().err
    assert "refuses an input of 13 x 16 x 12 voxels" in said
    assert "give a size that it takes (--shape D H W)" in said
    assert "--window" not in said


def test_a_program_of_slices_of_one_size(tmp_path):
    torch.manual_seed(0)
    flat = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 2, 1))
    path = exported(tmp_path, flat, 1, 1, 12, 16)
    explanation = explain(path, [make_volume(size=(30, 26, 4))], 1, device="cpu", region=Everywhere())
    assert explanation.provenance["run"]["window_size"] == [16, 12, 1]
    assert explanation.ledger["relative_gap"] < 1e-3
