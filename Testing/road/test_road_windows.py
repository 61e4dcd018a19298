"""explain() through windows, slices and mirrored views: one exact account over the whole volume."""

import json
import math
import re
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import SimpleITK as sitk
import torch
from helpers.networks import RANGE, classes, classifier, save_model, segmenter
from helpers.volumes import make_volume
from LRPExplainLib import inference, lrp, memory
from LRPExplainLib.cli import main
from LRPExplainLib.errors import UserError
from LRPExplainLib.explain import explain, plan
from LRPExplainLib.findings.caution import warnings_of
from LRPExplainLib.imaging import Grid, Points, Windows, read_segment
from LRPExplainLib.inference import Inference
from LRPExplainLib.models import load_model
from LRPExplainLib.models.architectures import UNet3d
from LRPExplainLib.progress import nobody
from LRPExplainLib.question import Asked, Question
from LRPExplainLib.stages import STAGES
from monai.inferers import sliding_window_inference
from torch import Tensor, nn

CPU = torch.device("cpu")
EPSILON = lrp.composite_named("epsilon").override({"conv": "epsilon(1e-9)", "sum": "epsilon(1e-9)"})


def array(image: sitk.Image) -> np.ndarray:
    return sitk.GetArrayFromImage(image)


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(4))


def linear(kernel: int = 3, channels: int = 1, dimensions: int = 3) -> nn.Module:
    torch.manual_seed(0)
    convolution = nn.Conv3d if dimensions == 3 else nn.Conv2d
    layers = [convolution(a, b, kernel, padding=kernel // 2, bias=False) for a, b in ((channels, 4), (4, 2))]
    return nn.Sequential(*layers).eval()


def unet() -> nn.Module:
    torch.manual_seed(3)
    network = UNet3d(1, 2, (4, 6, 8), "instance").eval()
    for module in network.modules():
        if isinstance(module, nn.InstanceNorm3d):
            nn.init.normal_(module.bias, std=0.3)
    return network


def run(module: nn.Module, x: Tensor, windows: Windows, c: Tensor | None, composite=EPSILON, memory=None):
    ready = Inference(module, x, windows, lrp.composite_named(composite), CPU, memory)
    output = ready.predict(nobody)
    return output, ready.attribute(torch.ones_like(output) if c is None else c, nobody), ready


def test_on_a_linear_network_the_windowed_map_is_that_of_the_whole_volume():
    """Voxel by voxel linear, so that a window's border is no border to it."""
    x, c = noise(1, 1, 17, 13, 11), noise(1, 2, 17, 13, 11)
    windows = Windows(x.shape[2:], {"size": [5, 6, 8], "mirror": ["i", "k"]})
    assert len(windows.starts) >= 18
    whole, expected, _ = run(linear(1), x, Windows(x.shape[2:]), c)
    output, found, _ = run(linear(1), x, windows, c)
    torch.testing.assert_close(output, whole, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.relevance, expected.relevance, atol=1e-5, rtol=1e-5)
    assert found.ledger.target_value == pytest.approx(expected.ledger.target_value, rel=1e-5)


def test_on_a_linear_network_relevance_is_input_times_gradient_of_monais_own_inference():
    x, c = noise(1, 2, 17, 13, 11), noise(1, 2, 17, 13, 11)
    leaf = x.clone().requires_grad_()
    module = linear(channels=2)
    output = sliding_window_inference(leaf, (8, 6, 5), 4, module, overlap=0.5, mode="gaussian")
    (gradient,) = torch.autograd.grad((output * c).sum(), leaf)
    blended, found, _ = run(module, x, Windows(x.shape[2:], {"size": [5, 6, 8]}), c)
    torch.testing.assert_close(blended, output.detach(), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.relevance, x * gradient, atol=1e-5, rtol=1e-4)
    assert found.ledger.target_value == pytest.approx(float((c * output).sum()), rel=1e-4)


@pytest.mark.parametrize("neighbours", [0, 1])
def test_on_a_linear_network_of_slices_relevance_is_input_times_gradient(neighbours):
    x, c = noise(1, 2, 5, 9, 7), noise(1, 2, 5, 9, 7)
    module = linear(channels=2 * (2 * neighbours + 1), dimensions=2)
    windows = Windows(x.shape[2:], {"size": [4, 6, 1], "mirror": ["j"]}, {"neighbours": neighbours})
    leaf, output = x.clone().requires_grad_(), torch.zeros_like(c)
    for view in windows.views:
        windows.blend(module(windows.cut(leaf, view)), view, output)
    (gradient,) = torch.autograd.grad((output * c).sum(), leaf)
    _, found, _ = run(module, x, windows, c)
    torch.testing.assert_close(found.relevance, x * gradient, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("mirror", [[], ["i", "j"]])
@pytest.mark.parametrize("composite", ["epsilon", "epsilon-plus", "volume"])
def test_the_account_of_a_unet_closes_over_overlapping_windows(composite, mirror):
    x = noise(1, 1, 32, 20, 20)
    windows = Windows(x.shape[2:], {"size": [12, 12, 16], "overlap": 0.5, "mirror": mirror})
    assert len(windows.starts) >= 18
    c = torch.zeros(1, 2, 32, 20, 20)
    c[0, 1, 8:28, 3:18, 5:] = 1
    output, found, _ = run(unet(), x, windows, c, composite)
    target = float((c * output).sum(dtype=torch.float64))
    ledger = found.ledger
    assert abs(target) > 1
    assert ledger.target_value == pytest.approx(target, rel=1e-5)
    at_input = float(found.relevance.sum(dtype=torch.float64))
    assert abs(target - at_input - ledger.absorbed) < 1e-3 * abs(target)
    for row in ledger.by_layer:
        assert abs(row.gap) < 1e-3 * max(abs(target), abs(row.relevance_out))


def test_windows_that_the_target_does_not_touch_are_not_run_and_would_add_nothing(monkeypatch):
    x, windows = noise(1, 1, 32, 20, 20), Windows((32, 20, 20), {"size": [12, 12, 16]})
    c = torch.zeros(1, 2, 32, 20, 20)
    c[0, 1, 2, 2, 2] = 1
    ran = []
    evaluate = lrp.evaluate
    monkeypatch.setattr(
        lrp, "evaluate", lambda graph, x, *more, **k: ran.append(len(x)) or evaluate(graph, x, *more, **k)
    )
    output, found, ready = run(unet(), x, windows, c, "epsilon-plus")
    assert len(ready.explained(c)) == 1
    assert ran == [1]
    assert float(found.relevance[..., 12:].abs().sum()) == 0
    monkeypatch.setattr(Windows, "touching", lambda windows, c: windows.views)
    _, all_of_them, _ = run(unet(), x, windows, c, "epsilon-plus")
    assert sum(ran) >= 1 + len(windows.views)
    torch.testing.assert_close(all_of_them.relevance, found.relevance, atol=1e-6, rtol=1e-5)
    assert found.ledger.target_value == pytest.approx(float(output[0, 1, 2, 2, 2]), rel=1e-5)


def test_batches_make_no_difference(monkeypatch):
    x, windows = noise(1, 1, 24, 16, 20), Windows((24, 16, 20), {"size": [12, 8, 8]})
    output, found, ready = run(unet(), x, windows, None, "volume")
    assert ready.setting.batch > 1
    monkeypatch.setattr(inference, "_MOST_AT_ONCE", 1)
    one, expected, ready = run(unet(), x, windows, None, "volume")
    assert ready.setting.batch == 1
    torch.testing.assert_close(output, one, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.relevance, expected.relevance, atol=1e-4, rtol=1e-4)
    assert found.ledger.absorbed == pytest.approx(expected.ledger.absorbed, rel=1e-4, abs=1e-3)


class OneAtATime(nn.Module):
    """Was exported for a batch of one."""

    def __init__(self) -> None:
        super().__init__()
        self.network = linear()

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x.reshape(1, 1, 8, 8, 8))


def test_a_network_for_a_batch_of_one_gets_one_window_at_a_time():
    x = noise(1, 1, 12, 12, 8)
    output, found, ready = run(OneAtATime(), x, Windows(x.shape[2:], {"size": [8, 8, 8]}), None)
    assert ready.setting.batch == 1
    assert found.ledger.target_value == pytest.approx(float(output.sum()), rel=1e-4)


def test_little_memory_makes_small_batches_then_segments_with_the_same_result():
    x, windows = noise(1, 1, 24, 16, 16), Windows((24, 16, 16), {"size": [16, 16, 16]})
    _, expected, plenty = run(unet(), x, windows, None, "volume")
    assert (plenty.setting.batch, plenty.setting.estimate.schedule.starts) == (2, (0,))
    single = plenty.setting.single.peak
    _, halved, less = run(unet(), x, windows, None, "volume", 1.2 * single / memory.GIB)
    assert (less.setting.batch, less.setting.estimate.schedule.starts) == (1, (0,))
    _, found, least = run(unet(), x, windows, None, "volume", 0.7 * single / memory.GIB)
    assert least.setting.batch == 1
    assert len(least.setting.estimate.schedule.starts) > 1
    assert least.setting.estimate.peak < less.setting.estimate.peak < plenty.setting.estimate.peak
    for other in (halved, found):
        torch.testing.assert_close(other.relevance, expected.relevance, atol=1e-4, rtol=1e-4)
        assert other.ledger.absorbed == pytest.approx(expected.ledger.absorbed, rel=1e-4, abs=1e-3)


@pytest.mark.parametrize("size", [[16, 16, 16], [16, 16, 24]])
def test_when_memory_runs_out_all_the_same_the_next_thriftier_way_is_taken(monkeypatch, size):
    """In several windows, and with the whole volume at once."""
    x, windows = noise(1, 1, 24, 16, 16), Windows((24, 16, 16), {"size": size})
    _, expected, _ = run(unet(), x, windows, None, "volume")
    evaluate, refused = lrp.evaluate, []

    def strained(graph, x, composite, *, schedule, progress):
        if len(schedule.starts) < 2 or len(x) > 1:
            refused.append(schedule)
            raise torch.OutOfMemoryError("CUDA out of memory")
        return evaluate(graph, x, composite, schedule=schedule, progress=progress)

    monkeypatch.setattr(lrp, "evaluate", strained)
    _, found, ready = run(unet(), x, windows, None, "volume")
    assert refused
    assert len(ready.setting.estimate.schedule.starts) >= 2
    torch.testing.assert_close(found.relevance, expected.relevance, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("error", "short"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB."), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:66] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("GET was unable to find an engine to execute this computation"), True),
        (RuntimeError("CUDA error: device-side assert triggered"), False),
        (ValueError("out of memory"), False),
    ],
    ids=str,
)
def test_a_lack_of_memory_is_told_from_other_errors(error, short):
    assert memory.short_of_memory(error) == short


def test_a_cpu_that_has_far_too_little_is_not_asked(monkeypatch):
    x, windows = noise(1, 1, 24, 16, 16), Windows((24, 16, 16), {"size": [16, 16, 16]})
    monkeypatch.setattr(memory, "free_memory", lambda device: 1 << 17)
    monkeypatch.setattr(memory.psutil, "swap_memory", lambda: SimpleNamespace(free=1 << 17))
    with pytest.raises(UserError, match=r"about \d+\.\d GiB of memory for one window, but 0.0 GiB"):
        run(unet(), x, windows, None, "volume")
    monkeypatch.setattr(memory.psutil, "swap_memory", lambda: SimpleNamespace(free=1 << 30))
    _, found, ready = run(unet(), x, windows, None, "volume")
    assert len(ready.setting.estimate.schedule.starts) > 1
    assert float(found.relevance.abs().sum()) > 0


def test_the_answer_of_all_windows_is_reckoned_with(monkeypatch):
    """Of a hundred classes it is far larger than what a window needs."""
    x, windows = noise(1, 1, 64, 64, 64), Windows((64, 64, 64), {"size": [16, 16, 16]})
    many, epsilon = nn.Conv3d(1, 100, 1), lrp.composite_named("epsilon")
    plenty = Inference(many, x, windows, epsilon, CPU)
    assert plenty.answer == plenty.predict(nobody).nbytes == 100 * 64**3 * 4
    room = plenty.answer + 2 * plenty.setting.single.peak
    monkeypatch.setattr(inference, "usable_memory", lambda device: room)
    monkeypatch.setattr(memory, "free_memory", lambda device: room)
    monkeypatch.setattr(memory.psutil, "swap_memory", lambda: SimpleNamespace(free=0))
    assert Inference(many, x, windows, epsilon, CPU).setting.batch <= 2 < plenty.setting.batch
    monkeypatch.setattr(memory, "free_memory", lambda device: plenty.answer - 1)
    for stated in (None, 1.0):  # what a user allows the network is not for its answer
        with pytest.raises(UserError, match=r"about 0\.1 GiB of the CPU's memory for the answer of all windows"):
            Inference(many, x, windows, epsilon, CPU, stated)


def test_a_question_about_one_of_many_classes_takes_no_memory_for_the_others():
    output = noise(1, 100, 64, 64, 64)
    process, before = psutil.Process(), psutil.Process().memory_info().rss
    asked = Asked.of(output, {3: torch.ones(64, 64, 64)}, "none", {})
    views = Windows((64, 64, 64), {"size": [16, 16, 16]}).touching(asked.coefficients)
    assert views
    assert process.memory_info().rss - before < output.nbytes / 2


def test_a_containers_own_limit_counts(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    plenty = memory.free_memory(CPU)
    assert plenty > 1 << 16
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("1000\n")
    assert memory.free_memory(CPU) > 1 << 16
    (tmp_path / "memory.max").write_text("5000\n")
    assert memory.free_memory(CPU) == 4000
    (tmp_path / "memory.stat").write_text("anon 100\nfile 800\ninactive_file 700\nactive_file 100\n")
    assert memory.free_memory(CPU) == 4700  # what was read from files makes room at once


@pytest.mark.parametrize("composite", ["epsilon", "epsilon-plus"])
def test_the_time_of_a_run_is_reckoned_from_that_of_one_pass(composite):
    """A forward pass more where only some windows are explained, and one where activations are computed again."""
    x, chosen = noise(1, 1, 24, 16, 16), lrp.composite_named(composite)
    windows = Windows((24, 16, 16), {"size": [8, 8, 8]})
    ready = Inference(unet(), x, windows, chosen, CPU)
    products, batches = lrp.products(ready.graph, chosen), math.ceil(len(windows.views) / ready.setting.batch)
    assert batches > 1
    assert ready.seconds(2.0, 1) == pytest.approx((2 * batches, 2 * (1 + products)))
    assert ready.seconds(2.0, len(windows.views)) == pytest.approx((2 * batches, 2 * batches * (1 + products)))
    whole = Inference(unet(), x, Windows((24, 16, 16)), chosen, CPU)
    assert whole.seconds(2.0, 1) == pytest.approx((2, 2 * products))
    again = Inference(unet(), x, Windows((24, 16, 16)), chosen, CPU, 0.7 * whole.setting.single.peak / memory.GIB)
    assert len(again.setting.estimate.schedule.starts) > 1
    assert again.seconds(2.0, 1) == pytest.approx((2, 2 * (1 + products)))


@pytest.mark.parametrize("size", [[8, 8, 8], [16, 16, 24]])
def test_progress_rises_from_window_to_window(size):
    x, windows = noise(1, 1, 24, 16, 16), Windows((24, 16, 16), {"size": size})
    ready, views = Inference(unet(), x, windows, lrp.composite_named("epsilon"), CPU), len(windows.views)

    def told_by(run):
        told = []
        run(lambda share, detail: told.append((share, detail)))
        assert [share for share, _ in told] == sorted(share for share, _ in told)
        assert told[0][0] == 0
        assert told[-1][1] == (f"{views}/{views}" if views > 1 else "")
        return [share for share, _ in told]

    assert len(told_by(ready.predict)) > 1
    for _ in range(2):  # of a volume that is run at once, the forward pass of the first question is there
        assert told_by(lambda progress: ready.attribute(torch.ones(1, 2, 24, 16, 16), progress))[-1] == 1


@pytest.mark.parametrize("keep", [False, True])
def test_activations_are_kept_for_further_questions_where_these_will_come(monkeypatch, keep):
    x, windows = noise(1, 1, 24, 16, 16), Windows((24, 16, 16))
    ran, evaluate = [], lrp.evaluate
    monkeypatch.setattr(lrp, "evaluate", lambda *given, **more: ran.append(given) or evaluate(*given, **more))
    ready = Inference(unet(), x, windows, lrp.composite_named("volume"), CPU, keep=keep)
    ones = torch.ones_like(ready.predict(nobody))
    first, second = ready.attribute(ones, nobody), ready.attribute(ones, nobody)
    assert len(ran) == (1 if keep else 2)
    torch.testing.assert_close(second.relevance, first.relevance)
    assert second.ledger == first.ledger


def test_nothing_asked_is_said():
    x = noise(1, 1, 8, 8, 8)
    with pytest.raises(UserError, match="Nothing in the model's output is asked about"):
        run(linear(), x, Windows(x.shape[2:], {"size": [4, 4, 4]}), torch.zeros(1, 2, 8, 8, 8))


# --- the whole road ------------------------------------------------------------------------------------------------

WINDOW = {"size": [12, 12, 8], "overlap": 0.5}


def windowed(tmp_path, network=None, **wishes):
    wishes = {"intensity": RANGE, "window": WINDOW, **wishes}
    return save_model(tmp_path, network or segmenter(outputs=2), preprocessing=wishes, output=classes("a", "b"))


def assert_closed(explanation) -> None:
    ledger = explanation.ledger
    parts = sum(float(array(image).sum(dtype=np.float64)) for image in explanation.relevance)
    assert abs(ledger["target_value"] - parts - ledger["absorbed"] - ledger["outside"]) < 1e-3 * abs(
        ledger["target_value"]
    )


def test_explain_goes_through_the_windows_of_the_card(tmp_path, oblique_volume):
    told = []
    explanation = explain(
        windowed(tmp_path), [oblique_volume], "b", device="cpu", progress=lambda *step: told.append(step)
    )
    assert_closed(explanation)
    facts = explanation.provenance["run"]
    assert facts["windows"] == 4 * 4 * 3
    assert facts["window_size"] == [12, 12, 8]
    assert 0 < facts["explained"] <= 48
    x = (torch.from_numpy(array(oblique_volume)) / 100).clamp(0, 1)[None, None]
    module = load_model(tmp_path / "net.ts").module
    with torch.no_grad():
        labels = sliding_window_inference(x, (8, 12, 12), 4, module, overlap=0.5, mode="gaussian").argmax(1)[0]
    assert (array(explanation.prediction.segmentation) != labels.numpy()).mean() < 1e-3
    assert [name.split()[0] for name in dict.fromkeys(name.split()[0] for name, _ in told)] == [*STAGES, "done"]
    assert any(name == "predicting 48/48" for name, _ in told)
    assert any(name.startswith("propagating ") and name.endswith(f"/{facts['explained']}") for name, _ in told)
    shares = [share for _, share in told]
    assert shares == sorted(shares)


def test_a_window_larger_than_the_volume_is_padded_and_the_padding_is_outside(tmp_path, oblique_volume):
    torch.manual_seed(3)
    network = nn.Conv3d(1, 2, 7, padding=3, bias=False)
    network.weight.data.abs_()
    model = windowed(tmp_path, network, window={"size": [40, 20, 20]})
    explanation = explain(model, [oblique_volume], 1, "epsilon-plus-flat", "cpu")
    assert explanation.ledger["outside"] > 0.01 * explanation.ledger["target_value"]
    assert explanation.relevance[0].GetSize() == oblique_volume.GetSize()
    assert_closed(explanation)


def test_the_callers_window_replaces_the_cards(tmp_path, oblique_volume):
    model = windowed(tmp_path)
    whole = explain(model, [oblique_volume], "b", window={"size": None}, device="cpu")
    assert whole.provenance["run"]["windows"] == 1
    assert whole.model["card"]["preprocessing"]["window"] is None
    fewer = explain(model, [oblique_volume], "b", window={"overlap": 0.0}, device="cpu")
    assert fewer.provenance["run"]["windows"] == 3 * 3 * 2
    assert fewer.model["card"]["preprocessing"]["window"] == {"size": [12, 12, 8], "overlap": 0.0}
    with pytest.raises(UserError, match="give the size of a window as well"):
        explain(save_model(tmp_path, segmenter(), "bare"), [oblique_volume], window={"overlap": 0.0})


class Flat(nn.Module):
    """A small segmentation network of two dimensions."""

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 2, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


@pytest.mark.parametrize(("axis", "count"), [("i", 30), ("j", 26), ("k", 14)])
@pytest.mark.parametrize("neighbours", [0, 2])
def test_a_network_of_slices_explains_a_volume(tmp_path, oblique_volume, axis, count, neighbours):
    slices = {"axis": axis, "neighbours": neighbours}
    model = windowed(tmp_path, Flat(2 * neighbours + 1), window=None, slices=slices)
    explanation = explain(model, [oblique_volume], device="cpu")
    assert explanation.provenance["run"]["windows"] == count
    assert_closed(explanation)
    others = tuple(dim for dim in range(3) if dim != "kji".index(axis))
    asked = (array(explanation.prediction.segmentation) == explanation.target["index"]).any(axis=others)
    reached = array(explanation.relevance[0]).any(axis=others)
    within = np.convolve(asked, np.ones(2 * neighbours + 1), "same") > 0
    np.testing.assert_array_equal(reached, within)
    assert reached.any()


def test_a_flat_network_without_a_card_is_recognised(tmp_path, oblique_volume):
    path = tmp_path / "x-ray.mha"
    sitk.WriteImage(oblique_volume[:, :, 7], str(path))
    explanation = explain(save_model(tmp_path, Flat(), "bare"), [path], device="cpu")
    assert explanation.relevance[0].GetSize() == (30, 26, 1)
    assert explanation.provenance["run"]["windows"] == 1
    assert_closed(explanation)


def test_an_x_ray_is_asked_about_a_flat_label_map(tmp_path):
    volume = make_volume(angles=(0.0, 0.0, 0.0))
    labels = sitk.Cast(volume[:, :, 7] > 60, sitk.sitkUInt8)
    sitk.WriteImage(volume[:, :, 7], str(tmp_path / "x-ray.mha"))
    sitk.WriteImage(labels, str(tmp_path / "labels.nrrd"))
    model = save_model(tmp_path, Flat(), "bare")
    explanation = explain(
        model, [tmp_path / "x-ray.mha"], 1, region=read_segment(tmp_path / "labels.nrrd"), device="cpu"
    )
    assert explanation.target["voxels"] == int(array(labels).sum()) > 10
    assert_closed(explanation)


class FlatClassifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.convolution, self.head = nn.Conv2d(1, 4, 3, padding=1), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.convolution(x)).mean((2, 3)))


def test_answers_to_slices_without_a_place_are_averaged_over_the_volume(tmp_path, oblique_volume):
    model = save_model(
        tmp_path, FlatClassifier(), task="classification", preprocessing={"intensity": RANGE, "slices": {}}
    )
    explanation = explain(model, [oblique_volume], 1, "epsilon", "cpu")
    x = (torch.from_numpy(array(oblique_volume)) / 100).clamp(0, 1)
    with torch.no_grad():
        logits = load_model(tmp_path / "net.ts").module(x[:, None]).mean(0)
    assert explanation.ledger["target_value"] == pytest.approx(float(logits[1]), rel=1e-4)
    assert list(explanation.prediction.probabilities.values()) == pytest.approx(logits.softmax(0).tolist(), rel=1e-4)
    assert_closed(explanation)


def test_a_classification_of_windows_is_their_mean(tmp_path, oblique_volume):
    model = save_model(tmp_path, classifier(), task="classification", preprocessing={"intensity": RANGE})
    explanation = explain(model, [oblique_volume], 1, window={"size": [16, 16, 8]}, device="cpu")
    assert explanation.provenance["run"]["explained"] == explanation.provenance["run"]["windows"] > 4
    assert_closed(explanation)


def test_a_plan_is_made_without_a_run(tmp_path, oblique_volume, monkeypatch):
    monkeypatch.setattr(lrp, "evaluate", None)
    monkeypatch.setattr(Inference, "predict", None)
    facts = plan(windowed(tmp_path), [oblique_volume], device="cpu", memory=2.0)
    assert json.loads(json.dumps(facts)) == facts
    assert facts["grid"]["size"] == [30, 26, 14]
    assert (facts["windows"], facts["explained"], facts["segments"]) == (48, 48, 1)
    assert 1 < facts["batch"] <= 16
    assert facts["memory"] < facts["memory_budget"] == 2 << 30
    assert 0 < facts["seconds"]["predicting"] < facts["seconds"]["explaining"]


def test_a_plan_of_a_question_that_makes_no_sense_is_refused_as_a_run_is(tmp_path, oblique_volume):
    for run in (plan, explain):
        with pytest.raises(UserError, match="no class 'nonsense': choose one of 0 a"):
            run(windowed(tmp_path), [oblique_volume], Question("nonsense"), device="cpu")
        with pytest.raises(UserError, match="outside"):
            run(windowed(tmp_path), [oblique_volume], Question("b", region=Points([(1e4, 0, 0)])), device="cpu")


def test_a_question_about_a_point_costs_the_windows_that_hold_it(tmp_path, oblique_volume):
    corner, middle = (Grid.of(oblique_volume).point(index) for index in ((2, 2, 1), (15, 13, 7)))
    model = windowed(tmp_path)
    for (x, y, z), count in ((corner, 1), (middle, 2 * 2 * 3)):
        point = (-x, -y, z)  # RAS
        facts = plan(model, [oblique_volume], Question("b", region=Points([point])), device="cpu")
        assert facts["explained"] == count
        explanation = explain(model, [oblique_volume], "b", region=Points([point]), device="cpu")
        assert explanation.provenance["run"]["explained"] == count
        assert explanation.target["voxels"] == 1
        assert_closed(explanation)


@pytest.mark.parametrize("more", [{"value": "probability"}, {"start": "one"}, {"rather_than": "a"}])
def test_every_kind_of_question_goes_through_windows(tmp_path, oblique_volume, more):
    explanation = explain(windowed(tmp_path), [oblique_volume], "b", "epsilon", "cpu", **more)
    assert_closed(explanation)
    if "start" in more:
        asked = explanation.target["voxels"] - explanation.target.get("left_out", 0)
        assert explanation.ledger["target_value"] == pytest.approx(asked, rel=1e-5)


@pytest.fixture
def paths(tmp_path, oblique_volume):
    sitk.WriteImage(oblique_volume, str(tmp_path / "t1.nrrd"))
    return ["--model", str(windowed(tmp_path)), "--volume", str(tmp_path / "t1.nrrd"), "--device", "cpu"]


def test_the_command_prints_the_plan_and_leaves_nothing(tmp_path, paths, capsys):
    before = sorted(tmp_path.rglob("*"))
    assert main(["explain", *paths, "--dry-run", "--memory", "0.5", "--window", "16x16x8", "--overlap", "0.25"]) == 0
    text = capsys.readouterr().out
    assert "30 x 26 x 14 voxels of 0.9 x 1.1 x 2.7 mm" in text
    assert "12 of 16 x 16 x 8;" in text
    assert "of 0.50 GiB" in text
    assert "the answer of all windows" not in text  # of so few classes it is not worth a word
    assert "to predict" in text
    assert sorted(tmp_path.rglob("*")) == before


def test_the_command_explains_in_windows(tmp_path, paths, capsys):
    arguments = ["--out", str(tmp_path / "out"), "--target", "b", "--window", "none", "--memory", "4"]
    assert main(["explain", *paths, *arguments]) == 0
    assert json.loads((tmp_path / "out" / "explanation.json").read_text())["provenance"]["run"]["windows"] == 1


@pytest.mark.parametrize(
    "wrong",
    [["--window", "12x12"], ["--window", "a"], ["--overlap", "1"], ["--dry-run", "--out", "x"], ["--memory", "?"]],
)
def test_commands_that_make_no_sense_end_with_code_2(paths, wrong, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["explain", *paths, *(["--out", "x"] if "--out" not in wrong else []), *wrong])
    assert stop.value.code == 2


@pytest.mark.parametrize("wrong", ["0", "-1", "nan", "inf"])
def test_no_memory_is_no_number_of_gib(paths, wrong, capsys):
    assert main(["explain", *paths, "--dry-run", "--memory", wrong]) == 2
    assert "give a number above 0" in capsys.readouterr().err


def test_without_a_card_a_dry_run_knows_classes_and_regions_from_the_network(tmp_path, oblique_volume, capsys):
    sitk.WriteImage(oblique_volume, str(tmp_path / "t1.nrrd"))
    torch.jit.script(segmenter(outputs=2)).save(str(tmp_path / "bare.ts"))
    given = ["explain", "--model", str(tmp_path / "bare.ts"), "--volume", str(tmp_path / "t1.nrrd"), "--device", "cpu"]
    assert main([*given, "--dry-run", "--target", "9"]) == 2
    refused = capsys.readouterr().err
    assert "choose one of 0 class 0, 1 class 1" in refused
    assert main([*given, "--out", str(tmp_path / "out"), "--target", "9"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == refused.splitlines()[-1]
    assert main([*given, "--dry-run", "--point", "9999,0,0"]) == 2
    assert "outside" in capsys.readouterr().err
    assert main([*given, "--dry-run", "--target", "1", "--everywhere"]) == 0


def test_a_run_that_cannot_keep_to_the_memory_is_refused_before_it_begins(tmp_path, paths, monkeypatch, capsys):
    question = ["--target", "b", "--everywhere"]
    with monkeypatch.context() as patched:
        patched.setattr(Inference, "predict", lambda *_: pytest.fail("it was computed"))
        assert main(["explain", *paths, *question, "--out", str(tmp_path / "out"), "--memory", "1e-5"]) == 2
    said = capsys.readouterr().err
    assert re.search(r"needs about \S+ GiB of memory .* but may use 1e-05: allow so much \(--memory\)", said)
    assert main(["explain", *paths, *question, "--dry-run", "--memory", "1e-5"]) == 0
    assert "that may be used (the forward pass alone" in (told := capsys.readouterr().out)
    assert "A run is refused." in told
    enough = re.search(r"about (\S+) GiB", said)[1]
    assert main(["explain", *paths, *question, "--out", str(tmp_path / "out"), "--memory", enough]) == 0


def test_each_volumes_share_is_printed(tmp_path, oblique_volume, capsys):
    inputs = [{"name": "T1"}, {"name": "FLAIR"}]
    model = save_model(tmp_path, segmenter(channels=2), preprocessing={"intensity": RANGE}, inputs=inputs)
    files = []
    for n, volume in enumerate((oblique_volume, make_volume(seed=5))):
        files.append(str(tmp_path / f"{n}.nrrd"))
        sitk.WriteImage(volume, files[-1])
    arguments = ["--model", str(model), "--volume", *files, "--device", "cpu", "--out", str(tmp_path / "out")]
    assert main(["explain", *arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    ledger = json.loads((tmp_path / "out" / "explanation.json").read_text())["ledger"]
    for name, part in zip(("T1", "FLAIR"), ledger["in_volume_by_input"], strict=True):
        (line,) = [line for line in lines if line.split()[:1] == [name]]
        assert f"{part:.6g}" in line
        assert f"{part / ledger['target_value']:.2%}" in line
        share = ledger["share_by_input"][("T1", "FLAIR").index(name)]
        assert share == pytest.approx(part / ledger["in_volume"])
        assert f"({share:.1%} of the relevance" in line
    arrays = [sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out" / f"relevance{n}.nrrd"))) for n in ("", "_2")]
    sizes = [float(abs(array).sum(dtype="float64")) for array in arrays]
    assert ledger["absolute_share_by_input"] == pytest.approx([size / sum(sizes) for size in sizes], rel=1e-5)
    assert sum(ledger["share_by_input"]) == pytest.approx(1)


def test_shares_that_the_flat_rule_makes_alike_are_said_to_tell_nothing(tmp_path, oblique_volume, capsys):
    """`volume` spreads the first layer evenly, over the channels as well, and so is no default for several volumes."""
    model = save_model(tmp_path, segmenter(channels=2), inputs=[{"name": "T1"}, {"name": "FLAIR"}])
    files = []
    for n, volume in enumerate((oblique_volume, make_volume(seed=5))):
        files.append(str(tmp_path / f"{n}.nrrd"))
        sitk.WriteImage(volume, files[-1])
    for composite, alike in (("volume", True), ("", False)):
        out = tmp_path / f"{composite}-out"
        chosen = ["--composite", composite] if composite else []
        assert main(["explain", "--model", str(model), "--volume", *files, *chosen,
                     "--device", "cpu", "--out", str(out)]) == 0  # fmt: skip
        said = capsys.readouterr().out
        assert ("alike, as the rule 'flat' gives them" in said) == alike
        assert "-0.00%" not in said
        facts = json.loads((out / "explanation.json").read_text())
        ledger = facts["ledger"]
        assert facts["composite"]["name"] == (composite or "epsilon-plus")
        warnings = warnings_of([], [], [], ledger, {})
        assert any("All volumes have the same share" in warning for warning in warnings) == alike


@pytest.mark.parametrize(
    ("window", "said"),
    [
        ({"overlap": -1}, "window/overlap"),
        ({"overlap": float("nan")}, "window/overlap"),
        ({"overlap": 1.0}, "window/overlap"),
        ({"overlap": "half"}, "window/overlap"),
        ({"size": [8, 8]}, "window/size"),
        ({"size": [8, 8, 0]}, "window/size/2"),
        ({"size": 8}, "window/size"),
        ({"blending": "hard"}, "window/blending"),
        ({"overlapp": 0.5}, "window"),
    ],
    ids=str,
)
def test_a_wrong_window_is_refused_by_the_schema_of_cards(tmp_path, oblique_volume, window, said):
    model = windowed(tmp_path)
    with pytest.raises(UserError, match=rf"The window is wrong \(at {said}: "):
        explain(model, [oblique_volume], "b", device="cpu", window=window)


def test_a_window_may_be_in_numbers_of_numpy(tmp_path, oblique_volume):
    model = windowed(tmp_path)
    window = {"size": (*np.array([16, 16]), 8.0), "overlap": np.float32(0.5)}
    made = explain(model, [oblique_volume], "b", device="cpu", window=window)
    assert made.model["card"]["preprocessing"]["window"] == WINDOW | {"size": [16, 16, 8], "overlap": 0.5}
    with pytest.raises(TypeError, match="a window is a mapping"):
        explain(model, [oblique_volume], "b", device="cpu", window=16)
