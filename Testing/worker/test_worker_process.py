"""The worker process: it answers, keeps what it knows, gives way, and never leaves anything behind."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from pipes import Loop
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from helpers.slowness import slowness
from LRPExplainLib.explain import explain
from LRPExplainLib.explanation import Explanation
from LRPExplainLib.imaging import Everywhere, Points
from LRPExplainLib.worker.client import Client
from torch import nn


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv3d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv3d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv3d(8, 3, 1)
    ).eval()
    path = tmp_path_factory.mktemp("model") / "network.ts"
    torch.jit.script(network).save(str(path))
    return path


@pytest.fixture(scope="module")
def slow_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some seconds of work in many small steps."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Conv3d(1, 16, 3, padding=1), nn.ReLU()]
    for _ in range(40):
        layers += [nn.Conv3d(16, 16, 3, padding=1), nn.ReLU()]
    path = tmp_path_factory.mktemp("slow") / "network.ts"
    torch.jit.script(nn.Sequential(*layers, nn.Conv3d(16, 3, 1)).eval()).save(str(path))
    return path


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    image = sitk.GetImageFromArray(np.random.default_rng(0).random((48, 48, 48)).astype(np.float32))
    path = tmp_path_factory.mktemp("volume") / "volume.nrrd"
    sitk.WriteImage(image, str(path))
    return path


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Loop]:
    loop = Loop(tmp_path / "temporary")
    yield loop
    loop.client.close()
    assert loop.worker is None or loop.worker.child.poll() is not None


def asked(model: Path, volume: Path, out: Path, **more: Any) -> dict[str, Any]:
    return {"model": str(model), "volumes": [str(volume)], "out": str(out), "where": {"kind": "everywhere"}, **more}


def test_an_explanation_of_the_worker_is_that_of_the_library(
    loop: Loop, model: Path, volume: Path, tmp_path: Path
) -> None:
    out = loop._folder / "out"
    _, told = loop.ask("explain", asked(model, volume, out, target=1))
    loop.until(lambda: told["done"] or told["failed"])
    assert told["failed"] == []
    assert told["progress"][0][0] == "starting"
    shares = [share for _, share, _ in told["progress"]]
    assert shares == sorted(shares)
    assert list(told["prediction"][0]) == ["volumes_ml"]
    found = Explanation.load(out)
    expected = explain(model, [volume], target=1, region=Everywhere())
    mine, theirs = (sitk.GetArrayFromImage(e.relevance[0]) for e in (found, expected))
    np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-6 * np.abs(theirs).max())
    assert found.ledger["relative_gap"] < 1e-3


def test_a_further_question_runs_no_forward_pass_and_equals_a_fresh_explanation(
    loop: Loop, model: Path, volume: Path
) -> None:
    stages, found = [], []
    for n, point in enumerate(((-10.0, -12.0, 14.0), (-20.0, -24.0, 28.0))):
        place = {"kind": "points", "points": [point]}
        out = loop._folder / f"out{n}"
        _, told = loop.ask("explain", asked(model, volume, out, target=1, where=place), lane="crosshair")
        loop.until(lambda told=told: told["done"] or told["failed"])
        assert told["failed"] == []
        stages.append({stage for stage, _, _ in told["progress"]})
        found.append(Explanation.load(out))
    assert "capturing" in stages[0]
    assert not stages[1] & {"loading", "reading", "capturing", "predicting"}
    expected = explain(model, [volume], target=1, region=Points(((-20.0, -24.0, 28.0),)))
    mine, theirs = (sitk.GetArrayFromImage(e.relevance[0]) for e in (found[1], expected))
    np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-6 * np.abs(theirs).max())
    assert loop.started == 1


def test_a_changed_volume_is_read_again(loop: Loop, model: Path, tmp_path: Path) -> None:
    file, sums = tmp_path / "changing.nrrd", []
    for seed in range(2):
        array = np.random.default_rng(seed).random((8, 9, 10)).astype(np.float32)
        sitk.WriteImage(sitk.GetImageFromArray(array), str(file))
        _, told = loop.ask("explain", asked(model, file, loop._folder / f"out{seed}", target=1))
        loop.until(lambda told=told: told["done"] or told["failed"])
        sums.append(Explanation.load(loop._folder / f"out{seed}").ledger["target_value"])
    assert sums[0] != sums[1]


def test_a_card_that_was_edited_is_read_again(loop: Loop, root: Path, tmp_path: Path) -> None:
    demo = root / "LRPExplain" / "Resources" / "Models" / "lesion-unet"
    for file in demo.iterdir():
        shutil.copy(file, tmp_path)
    card, names = tmp_path / "lesion_unet.card.json", []
    for _ in range(2):
        _, told = loop.ask("describe", {"model": str(tmp_path / "lesion_unet.safetensors")})
        loop.until(lambda told=told: told["done"] or told["failed"])
        names.append(told["done"][0]["facts"]["classes"][1])
        card.write_text(card.read_text(encoding="utf-8").replace('"lesion"', '"blister"'), encoding="utf-8")
    assert names == ["lesion", "blister"]
    assert loop.started == 1


def test_cancel_is_done_within_a_second_and_the_next_request_is_served(
    loop: Loop, model: Path, slow_model: Path, volume: Path
) -> None:
    request, told = loop.ask("explain", asked(slow_model, volume, loop._folder / "slow", target=1))
    loop.until(lambda: any(stage == "propagating" for stage, _, _ in told["progress"]))
    begin = time.monotonic()
    request.cancel()
    loop.until(lambda: loop.client.idle, 5)
    assert time.monotonic() - begin < 1.0 * slowness()
    assert told["done"] == told["failed"] == []
    assert not (loop._folder / "slow").exists()
    _, after = loop.ask("explain", asked(model, volume, loop._folder / "after", target=1))
    loop.until(lambda: after["done"] or after["failed"])
    assert after["failed"] == []


def test_killed_in_any_stage_the_client_says_so_and_goes_on(
    loop: Loop, model: Path, slow_model: Path, volume: Path
) -> None:
    stages = (None, "starting", "loading", "reading", "capturing", "predicting", "propagating")  # None: before any
    for n, stage in enumerate(stages):
        _, told = loop.ask("explain", asked(slow_model, volume, loop._folder / f"out{n}", target=1))
        loop.turn()
        if stage is not None:
            loop.until(lambda told=told, stage=stage: any(found == stage for found, _, _ in told["progress"]))
        assert loop.worker is not None
        loop.worker.child.kill()
        loop.until(lambda told=told: told["failed"] or told["done"])
        assert told["done"] == []
        assert told["failed"][0]["kind"] == "crash"
        assert told["failed"][0]["sentence"].count(". ") <= 1
        loop.until(lambda: loop.client.idle)
    _, told = loop.ask("describe", {"model": str(model)})
    loop.until(lambda: told["done"] or told["failed"])
    assert told["done"][0]["facts"]["parameters"] > 0
    assert loop.started == len(stages) + 1


def test_of_several_waiting_questions_of_the_crosshair_only_the_newest_is_asked(
    loop: Loop, model: Path, volume: Path
) -> None:
    all_told = []
    for n in range(6):
        place = {"kind": "points", "points": [(-10.0 - n, -12.0, 14.0)]}
        arguments = asked(model, volume, loop._folder / f"out{n}", target=1, where=place)
        all_told.append(loop.ask("explain", arguments, lane="crosshair")[1])
    loop.until(lambda: all_told[-1]["done"] or all_told[-1]["failed"])
    answered = [n for n, told in enumerate(all_told) if told["done"]]
    assert answered == [0, 5]
    assert all(told["failed"] == [] for told in all_told)


def test_a_request_of_the_main_lane_takes_the_place_of_the_one_that_runs(
    loop: Loop, model: Path, slow_model: Path, volume: Path
) -> None:
    _, first = loop.ask("explain", asked(slow_model, volume, loop._folder / "first", target=1))
    loop.until(lambda: len(first["progress"]) > 2)
    _, second = loop.ask("explain", asked(model, volume, loop._folder / "second", target=1))
    loop.until(lambda: second["done"] or second["failed"])
    assert first["done"] == []
    assert [event["kind"] for event in first["failed"]] == ["replaced"]
    assert second["failed"] == []


def test_whoever_waits_for_a_request_is_told_when_the_client_is_closed(
    loop: Loop, slow_model: Path, volume: Path
) -> None:
    _, first = loop.ask("explain", asked(slow_model, volume, loop._folder / "first", target=1))
    loop.until(lambda: len(first["progress"]) > 2)
    loop.client.close()
    assert [event["kind"] for event in first["failed"]] == ["replaced"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"target": "kidney"}, "kidney"),
        ({"model": "/no/such/model.ts"}, "model.ts"),
        ({"volumes": ["/no/such/volume.nrrd"]}, "volume.nrrd"),
        ({"composite": "magic"}, "magic"),
    ],
)
def test_what_is_wrong_comes_back_as_one_sentence(
    loop: Loop, model: Path, volume: Path, change: dict[str, Any], sentence: str
) -> None:
    _, told = loop.ask("explain", asked(model, volume, loop._folder / "out") | change)
    loop.until(lambda: told["done"] or told["failed"])
    (event,) = told["failed"]
    assert event["kind"] == "user"
    assert sentence in event["sentence"]
    assert "Traceback" not in event["sentence"]
    assert not (loop._folder / "out").exists()


def test_the_worker_ends_with_its_client_and_takes_its_folder_along(tmp_path: Path) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    command = [sys.executable, "-m", "LRPExplainLib.worker", "--folder", str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(b'not a request\n{"id": 1, "verb": "describe", "model": "/nowhere"}\n')
        child.stdin.flush()
        assert b'"starting"' in child.stdout.readline()
        child.stdin.close()  # as when Slicer has crashed
        assert child.wait(10) == 0
    assert not folder.exists()


def test_what_a_model_is_can_be_asked(loop: Loop, root: Path) -> None:
    demo = root / "LRPExplain" / "Resources" / "Models" / "lesion-unet" / "lesion_unet.safetensors"
    _, told = loop.ask("describe", {"model": str(demo)})
    loop.until(lambda: told["done"] or told["failed"])
    facts = told["done"][0]["facts"]
    assert facts["task"] == "segmentation"
    assert facts["classes"] == ["background", "lesion"]
    assert facts["device"] == ("cuda" if torch.cuda.is_available() else "cpu")


def test_a_bundle_that_wants_to_run_code_asks_for_trust(loop: Loop, tmp_path: Path, volume: Path) -> None:
    bundles = pytest.importorskip("helpers.bundles", reason="needs MONAI")
    content = bundles.config([], {**bundles.UNET, "_target_": "no_such_scripts.make"})
    bundle = bundles.write_bundle(tmp_path, content, network=bundles.make_network(bundles.config([])))
    _, told = loop.ask("explain", asked(bundle, volume, loop._folder / "out"))
    loop.until(lambda: told["done"] or told["failed"])
    (event,) = told["failed"]
    assert event["kind"] == "trust"
    assert any("no_such_scripts.make" in sentence for sentence in event["what"]["sentences"])
    agreed = event["what"]["sha256"]
    assert len(agreed) == 64

    _, told = loop.ask("explain", asked(bundle, volume, loop._folder / "out", trust=agreed))
    loop.until(lambda: told["done"] or told["failed"])
    assert told["failed"][0]["kind"] == "user"  # the code was run, and there is none

    config = bundle / "configs" / "inference.json"  # what was agreed to is no longer what would be run
    config.write_text(config.read_text(encoding="utf-8").replace("no_such_scripts", "other_scripts"), encoding="utf-8")
    _, told = loop.ask("explain", asked(bundle, volume, loop._folder / "out", trust=agreed))
    loop.until(lambda: told["done"] or told["failed"])
    assert told["failed"][0]["kind"] == "trust"
    assert any("other_scripts.make" in sentence for sentence in told["failed"][0]["what"]["sentences"])
    assert told["failed"][0]["what"]["sha256"] != agreed


def test_a_worker_that_does_not_start_is_told_and_what_waits_is_tried() -> None:
    def spawn(client: Client) -> Any:
        raise OSError("There is no Python.")

    client = Client(spawn, lambda seconds, function: None)
    told: list[str] = []

    def failed(event: dict[str, Any]) -> None:
        told.append(event["sentence"])
        if len(told) == 1:
            client.request("describe", {}, on_failed=failed)

    client.request("describe", {}, on_failed=failed)
    assert told == ["There is no Python."] * 2
    assert client.idle


def test_what_goes_wrong_in_a_callback_does_not_hold_up_what_waits(loop: Loop, model: Path) -> None:
    def failed(event: dict[str, Any]) -> None:
        raise ValueError("the panel is at fault")

    loop.client.request("describe", {"model": str(model)}, lane="first", on_failed=failed)
    _, told = loop.ask("describe", {"model": str(model)}, lane="second")
    assert loop.worker is not None
    loop.worker.child.kill()
    with pytest.raises(ValueError, match="at fault"):
        loop.until(lambda: False)
    loop.until(lambda: told["done"] or told["failed"])
    assert told["done"][0]["facts"]["parameters"] > 0


def test_slicer_is_left_while_results_are_written(tmp_path: Path, model: Path, volume: Path) -> None:
    """At many moments around the end of a request: nothing comes back after the folder went."""
    for pause in (0.0, 0.002, 0.01, 0.03):
        folder = tmp_path / "temporary"
        folder.mkdir()
        command = [sys.executable, "-m", "LRPExplainLib.worker", "--folder", str(folder)]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as child:
            assert child.stdin is not None
            assert child.stdout is not None
            request = {"id": 1, "verb": "explain", **asked(model, volume, folder / "out", target=1)}
            child.stdin.write(json.dumps(request).encode() + b"\n")
            child.stdin.flush()
            while b'"returning"' not in child.stdout.readline():
                assert child.poll() is None
            time.sleep(pause)
            child.stdout.close()  # as when Slicer has crashed
            child.stdin.close()
            assert child.wait(10 * slowness()) == 0
        assert not folder.exists()
