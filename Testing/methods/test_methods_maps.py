"""Other attribution methods against closed forms: on linear networks, planted dependences, and captum's own modules."""

import captum.attr
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from LRPExplainLib import lrp
from LRPExplainLib.errors import UserError
from LRPExplainLib.imaging import Windows
from LRPExplainLib.inference import Inference
from LRPExplainLib.lrp import LRPError
from LRPExplainLib.methods import (
    METHODS,
    GradCam,
    Gradient,
    GradientXInput,
    GuidedBackprop,
    IntegratedGradients,
    Method,
    Occlusion,
    Rise,
    SmoothGrad,
    method_named,
)
from LRPExplainLib.progress import nobody
from torch import Tensor, nn

CPU = torch.device("cpu")
SHAPE = (9, 8, 10)


def noise(*shape: int, seed: int = 4) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def linear(kernel: int = 3, channels: int = 1, bias: bool = False, dimensions: int = 3) -> nn.Module:
    torch.manual_seed(0)
    layer = nn.Conv3d if dimensions == 3 else nn.Conv2d
    layers = [layer(a, b, kernel, padding=kernel // 2, bias=bias) for a, b in ((channels, 4), (4, 2))]
    return nn.Sequential(*layers).eval()


def rectified() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv3d(1, 6, 3, padding=1), nn.ReLU(), nn.Conv3d(6, 8, 3, stride=2, padding=1), nn.InstanceNorm3d(8),
        nn.ReLU(), nn.Upsample(scale_factor=2), nn.Conv3d(8, 2, 3, padding=1),
    ).eval()  # fmt: skip


class Pooled(nn.Module):
    """A classifier that looks at one corner of its input, through a layer that copies it."""

    def __init__(self) -> None:
        super().__init__()
        self.copy = nn.Conv3d(1, 1, 1, bias=False)
        self.head = nn.Linear(1, 2, bias=False)
        nn.init.constant_(self.copy.weight, 1.0)
        with torch.no_grad():
            self.head.weight[:, 0] = torch.tensor([0.0, 3.0])

    def forward(self, x: Tensor) -> Tensor:
        corner = torch.zeros_like(x)
        corner[:, :, :4, :4, :4] = 1
        return self.head((torch.relu(self.copy(x)) * corner).sum((2, 3, 4)))


def run(method: Method, module: nn.Module, x: Tensor, c: Tensor, window=None, slices=None, memory=None):
    windows = Windows(x.shape[2:], window, slices)
    inference = Inference(module, x, windows, None, CPU, memory)
    output = inference.predict(nobody)
    found = method.settled(inference).attribute(inference, c, output, nobody)
    return found.relevance, found.ledger, output


def gradient_of(module: nn.Module, x: Tensor, c: Tensor) -> Tensor:
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad((module(leaf) * c).sum(), leaf)
    return gradient


# on a linear network y = w x each method has a closed form
LINEAR = {
    Gradient(): lambda g, x: g,
    GradientXInput(): lambda g, x: g * x,
    IntegratedGradients(steps=3): lambda g, x: g * x,
    IntegratedGradients(steps=2, baseline="mean"): lambda g, x: g * (x - x.mean((2, 3, 4), keepdim=True)),
    IntegratedGradients(steps=2, baseline="minimum"): lambda g, x: g * (x - x.amin((2, 3, 4), keepdim=True)),
    SmoothGrad(samples=3): lambda g, x: g,
    Occlusion(edge=1): lambda g, x: g * x,
    Occlusion(edge=1, baseline="mean"): lambda g, x: g * (x - x.mean((2, 3, 4), keepdim=True)),
}


@pytest.mark.parametrize("method", LINEAR, ids=str)
def test_on_a_linear_network_the_map_has_its_closed_form(method):
    x, c = noise(1, 2, 4, 3, 5), noise(1, 2, 4, 3, 5, seed=5)
    module = linear(channels=2)
    found, ledger, output = run(method, module, x, c)
    torch.testing.assert_close(found, LINEAR[method](gradient_of(module, x, c), x), atol=1e-5, rtol=1e-4)
    assert ledger.target_value == pytest.approx(float((c * output).sum()), rel=1e-5)
    assert ledger.relevance == pytest.approx(float(found.double().sum()), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("method", LINEAR, ids=str)
def test_through_windows_the_map_is_that_of_the_blended_answer(method):
    """Each window's coefficients are its share, so that the views' maps add up to the whole volume's."""
    x, c = noise(1, 1, 6, 5, 4), noise(1, 2, 6, 5, 4, seed=5)
    module, window = linear(1), {"size": [3, 4, 4], "mirror": ["i"]}
    found, ledger, output = run(method, module, x, c, window)
    whole, same, expected = run(method, module, x, c)
    torch.testing.assert_close(output, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found, whole, atol=1e-5, rtol=1e-4)
    assert ledger.target_value == pytest.approx(same.target_value, rel=1e-5)


@pytest.mark.parametrize("method", [GradientXInput(), IntegratedGradients(steps=2), Occlusion(edge=1)], ids=str)
def test_slices_with_neighbours_are_put_back_where_they_came_from(method):
    x, c = noise(1, 1, 4, 5, 4), noise(1, 2, 4, 5, 4, seed=5)
    module, slices = linear(1, channels=3, dimensions=2), {"neighbours": 1}
    windows, leaf = Windows(x.shape[2:], None, slices), x.clone().requires_grad_()
    output = torch.zeros_like(c)
    for view in windows.views:
        windows.blend(module(windows.cut(leaf, view)), view, output)
    (gradient,) = torch.autograd.grad((output * c).sum(), leaf)
    found, _, _ = run(method, module, x, c, slices=slices)
    torch.testing.assert_close(found, gradient.detach() * x, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("method", [Gradient(), GradientXInput(), SmoothGrad(samples=4, noise=0.0)], ids=str)
@pytest.mark.parametrize("memory", [None, 1e-4], ids=["kept", "recomputed"])
def test_the_gradient_is_autograds_own_also_where_activations_are_computed_again(method, memory):
    x, c = noise(1, 1, 8, 8, 8), noise(1, 2, 8, 8, 8, seed=5)
    module = rectified()
    found, _, _ = run(method, module, x, c, memory=memory)
    gradient = gradient_of(module, x, c)
    expected = gradient * x if method.name == "gradient-x-input" else gradient
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-3)


def test_segments_are_recomputed_where_the_memory_is_tight():
    x = noise(1, 1, 8, 8, 8)
    tight = Inference(rectified(), x, Windows(x.shape[2:]), None, CPU, 1e-4)
    assert len(tight.setting.estimate.schedule.starts) > 1


def test_integrated_gradients_are_complete():
    """The sum is the target value less that of the baseline, which has its place in the ledger."""
    x, c = noise(1, 1, *SHAPE) + 0.5, torch.zeros(1, 2, *SHAPE)
    c[0, 1] = 1
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.Sigmoid(), nn.Conv3d(4, 2, 1)).eval()
    found, ledger, output = run(IntegratedGradients(steps=40), module, x, c)
    at_baseline = float((module(torch.zeros_like(x)) * c).sum())
    assert abs(at_baseline) > 1
    assert ledger.absorbed == pytest.approx(at_baseline, rel=1e-5)
    assert float(found.sum()) == pytest.approx(float((output * c).sum()) - at_baseline, rel=1e-4)
    assert abs(ledger.gap) < 1e-4 * abs(ledger.target_value)


def test_too_few_steps_leave_a_gap_that_is_told():
    x, c = 30 * noise(1, 1, *SHAPE), torch.ones(1, 2, *SHAPE)
    module = nn.Sequential(linear(), nn.Tanh()).eval()
    at_baseline = float((module(torch.zeros_like(x)) * c).sum())
    found, coarse, output = run(IntegratedGradients(steps=1), module, x, c)
    missing = float((output * c).sum()) - at_baseline - float(found.sum())
    assert abs(missing) > 1e-3 * abs(coarse.target_value)
    assert coarse.gap == pytest.approx(missing, rel=1e-3)


def test_windows_of_integrated_gradients_are_complete_together():
    x, c = noise(1, 1, 12, 8, 8), torch.ones(1, 2, 12, 8, 8)
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.Sigmoid(), nn.Conv3d(4, 2, 1)).eval()
    _, ledger, _ = run(IntegratedGradients(steps=20), module, x, c, {"size": [8, 4, 6]})
    assert abs(ledger.gap) < 1e-4 * abs(ledger.target_value)


def test_smoothgrad_is_the_mean_gradient_of_noisy_volumes_and_repeats_itself():
    x, c = noise(1, 1, 6, 6, 6), torch.ones(1, 2, 6, 6, 6)
    module = rectified()
    found, _, _ = run(SmoothGrad(samples=3, noise=0.2, seed=7), module, x, c)
    torch.manual_seed(7)
    deviation = 0.2 * float(x.max() - x.min())
    copies = [x + torch.normal(0, torch.full_like(x, deviation)) for _ in range(3)]
    expected = torch.stack([gradient_of(module, copy, c) for copy in copies]).mean(0)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-3)
    again, _, _ = run(SmoothGrad(samples=3, noise=0.2, seed=7), module, x, c)
    assert torch.equal(found, again)
    other, _, _ = run(SmoothGrad(samples=3, noise=0.2, seed=8), module, x, c)
    assert not torch.allclose(found, other)


@pytest.mark.parametrize("method", [SmoothGrad(samples=2, noise=0.5), Rise(masks=4, cell=1)], ids=str)
def test_windows_of_the_same_content_draw_numbers_of_their_own(method):
    x, c = noise(1, 1, 3, 3, 3).repeat(1, 1, 2, 1, 1), torch.ones(1, 2, 6, 3, 3)
    module = nn.Sequential(linear(1), nn.Tanh()).eval()
    found, _, _ = run(method, module, x, c, {"size": [3, 3, 3], "overlap": 0})
    first, second = found.split(3, 2)
    assert not torch.allclose(first, second)


def test_guided_backprop_is_captums_for_relu_modules():
    x, c = noise(1, 1, 8, 8, 8), torch.zeros(1, 2, 8, 8, 8)
    c[0, 1, 2:5, 3:6, 1:7] = 1
    module = rectified()
    found, _, _ = run(GuidedBackprop(), module, x, c)
    wrapped = nn.Sequential(module, Weighted(c))
    torch.testing.assert_close(found, captum.attr.GuidedBackprop(wrapped).attribute(x), atol=1e-5, rtol=1e-3)
    assert not torch.allclose(found, gradient_of(module, x, c))


def test_guided_backprop_reaches_functional_activations_of_torchscript():
    """One hidden unit with a negative outgoing weight gets nothing, one with a positive weight its own."""

    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Conv3d(1, 2, 1, bias=False), nn.Conv3d(2, 1, 1, bias=False)
            with torch.no_grad():
                self.first.weight[:, 0, 0, 0, 0] = torch.tensor([2.0, 5.0])
                self.last.weight[0, :, 0, 0, 0] = torch.tensor([3.0, -1.0])

        def forward(self, x: Tensor) -> Tensor:
            return self.last(F.leaky_relu(self.first(x), 0.5))

    x = noise(1, 1, 3, 3, 3)
    found, _, _ = run(GuidedBackprop(), torch.jit.script(Functional().eval()), x, torch.ones_like(x))
    torch.testing.assert_close(found, torch.where(x > 0, 6.0, 3.0))


def test_guided_backprop_of_a_network_without_rectifiers_is_refused():
    with pytest.raises(UserError, match="no rectifier"):
        run(GuidedBackprop(), linear(), noise(1, 1, 4, 4, 4), torch.ones(1, 2, 4, 4, 4))


class Weighted(nn.Module):
    def __init__(self, c: Tensor) -> None:
        super().__init__()
        self.c = c

    def forward(self, y: Tensor) -> Tensor:
        return (y * self.c).flatten(1).sum(1)


@pytest.mark.parametrize("layer", ["0", "2", "relu_1", ""])
def test_grad_cam_is_captums_at_the_chosen_layer(layer):
    x, c = noise(1, 1, 8, 8, 8), torch.zeros(1, 2, 8, 8, 8)
    c[0, 1, 2:5, 3:6, 1:7] = 1
    module = rectified()
    found, _, _ = run(GradCam(layer), module, x, c)
    theirs = captum.attr.LayerGradCam(
        nn.Sequential(module, Weighted(c)), module[int(layer) if layer.isdecimal() else 4]
    )
    cam = theirs.attribute(x, relu_attributions=True)
    expected = F.interpolate(cam, size=(8, 8, 8), mode="trilinear", align_corners=False)
    assert float(expected.max()) > 0
    torch.testing.assert_close(found, expected.detach(), atol=1e-6, rtol=1e-3)


def test_grad_cam_shows_the_corner_that_a_classifier_looks_at():
    x = noise(1, 1, 8, 8, 8).abs()
    c = torch.tensor([[0.0, 1.0]])
    found, _, _ = run(GradCam("copy"), Pooled().eval(), x, c)
    expected = x * (3 * 64 / 512)  # the mean gradient times the activation
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-4)


def test_a_layer_that_is_not_there_or_has_no_places_is_named():
    x, c = noise(1, 1, 8, 8, 8), torch.tensor([[0.0, 1.0]])
    with pytest.raises(LRPError, match="no layer 'encoder'"):
        run(GradCam("encoder"), Pooled().eval(), x, c)
    with pytest.raises(UserError, match="has no places"):
        run(GradCam("head"), Pooled().eval(), x, c)


def test_occlusion_finds_a_planted_dependence_and_gives_each_block_its_drop():
    x, c = noise(1, 1, 8, 8, 8).abs(), torch.tensor([[0.0, 1.0]])
    module = Pooled().eval()
    found, ledger, output = run(Occlusion(edge=4), module, x, c)
    assert float(found[..., :4, :4, :4].sum()) == pytest.approx(float(output[0, 1]), rel=1e-5)
    assert float(found[..., :4, :4, :4].std()) == pytest.approx(0, abs=1e-6)
    rest = found.clone()
    rest[..., :4, :4, :4] = 0
    assert float(rest.abs().max()) < 1e-6
    assert abs(ledger.gap) < 1e-5 * ledger.target_value


def test_a_block_larger_than_the_volume_is_the_whole_volume():
    x, c = noise(1, 1, 4, 4, 4), noise(1, 2, 4, 4, 4, seed=5)
    found, ledger, _ = run(Occlusion(edge=10**30), linear(), x, c)
    torch.testing.assert_close(found, torch.full_like(x, ledger.target_value / 64), atol=1e-5, rtol=1e-4)


def test_occlusion_measures_blocks_of_a_nonlinear_network_one_by_one_and_in_each_window():
    x, c = noise(1, 1, 8, 6, 6), noise(1, 2, 8, 6, 6, seed=5)
    module, window = rectified(), {"size": [6, 6, 4]}
    windows = Windows(x.shape[2:], window)

    def value(volume: Tensor) -> float:
        output = torch.zeros_like(c)
        for view in windows.views:
            windows.blend(module(windows.cut(volume, view)).detach(), view, output)
        return float((output * c).sum(dtype=torch.float64))

    found, _, _ = run(Occlusion(edge=3), module, x, c, window)
    for start in ((0, 0, 0), (3, 3, 0), (6, 0, 3)):
        covered, block = x.clone(), tuple(slice(n, n + 3) for n in start)
        covered[(..., *block)] = 0
        assert float(found[(..., *block)].sum()) == pytest.approx(value(x) - value(covered), rel=1e-3, abs=1e-4)


def test_blocks_that_covering_would_not_change_are_not_run(monkeypatch):
    x, c = torch.zeros(1, 1, 8, 8, 8), torch.tensor([[0.0, 1.0]])
    x[..., :4, :4, :4] = 1
    ran = []
    forward = lrp.Graph.forward
    monkeypatch.setattr(lrp.Graph, "forward", lambda graph, *inputs: ran.append(1) or forward(graph, *inputs))
    found, _, _ = run(Occlusion(edge=4), Pooled().eval(), x, c)
    assert float(found.sum()) == pytest.approx(3 * 64)
    assert len(ran) <= 3  # as it is, the one block, and all the empty ones together


def test_rise_comes_near_the_closed_form_of_a_linear_network():
    x, c = noise(1, 1, 3, 3, 3) + 1, noise(1, 2, 3, 3, 3, seed=5)
    module = linear()
    found, _, _ = run(Rise(masks=1000, cell=1), module, x, c)
    expected = gradient_of(module, x, c) * x
    assert np.corrcoef(found.flatten(), expected.flatten())[0, 1] > 0.97


@pytest.mark.parametrize("cell", [2, 3])
def test_rise_keeps_the_amount_where_masks_move_several_voxels_together(cell):
    x, c = torch.ones(1, 1, 8, 8, 8), torch.zeros(1, 2, 8, 8, 8)
    c[0, 1, 2:6, 2:6, 2:6] = 1
    found, _, output = run(Rise(masks=1000, cell=cell), linear(1), x, c)
    target = float((c * output).sum())
    assert float(found.sum()) == pytest.approx(target, rel=0.2)
    assert float(found[..., 3:5, 3:5, 3:5].mean() / found[..., 2:6, 2:6, 2:6].mean()) > 1
    assert abs(float(found[..., 7, 7, 7])) < 0.3 * abs(float(found[..., 3:5, 3:5, 3:5].mean()))


def test_rise_through_windows_finds_what_is_looked_at_and_repeats_itself():
    x, c = torch.ones(1, 1, 6, 4, 4), torch.zeros(1, 2, 6, 4, 4)
    c[0, 1, 2:4, 1:3, 1:3] = 1
    method, module = Rise(masks=300, cell=1), linear(1)
    found, _, _ = run(method, module, x, c, {"size": [4, 4, 4]})
    expected = gradient_of(module, x, c) * x
    assert np.corrcoef(found.flatten(), expected.flatten())[0, 1] > 0.9
    again, _, _ = run(method, module, x, c, {"size": [4, 4, 4]})
    assert torch.equal(found, again)


@pytest.mark.parametrize(
    ("method", "passes", "steps"),
    [
        (IntegratedGradients(steps=4), 13, 5),
        (SmoothGrad(samples=4), 12, 4),
        (Occlusion(edge=2), 10, 9),
        (Rise(masks=4, cell=1), 5, 5),
    ],
    ids=str,
)
def test_a_method_says_how_many_passes_it_takes_and_tells_of_each(method, passes, steps):
    """A window's share, evenly by its forward passes, until all is done."""
    x, c, told = noise(1, 1, 4, 4, 4), noise(1, 2, 4, 4, 4, seed=5), []
    inference = Inference(linear(1), x, Windows(x.shape[2:]), None, CPU)
    assert method.passes(inference) == passes
    method.relevance(inference, c, lambda share, _view: told.append(share))
    assert told == pytest.approx([0, *(n / steps for n in range(1, steps + 1))])


def test_methods_and_their_parameters_have_names():
    assert set(METHODS) == {
        "gradient", "gradient-x-input", "integrated-gradients", "smoothgrad", "grad-cam", "guided-backprop",
        "occlusion", "rise",
    }  # fmt: skip
    assert method_named("lrp") is None
    assert method_named("integrated-gradients", {"steps": "7", "baseline": "mean"}) == IntegratedGradients(7, "mean")
    assert method_named(Rise(masks=2, cell=1)) == Rise(masks=2, cell=1)
    assert method_named("occlusion", {"edge": 4}).facts()["parameters"] == {"edge": 4, "baseline": "zero"}


@pytest.mark.parametrize(
    ("name", "parameters", "sentence"),
    [
        ("saliency", {}, "no method 'saliency': choose lrp, gradient"),
        ("lrp", {"steps": 3}, "lrp has no parameter 'steps'"),
        ("gradient", {"steps": 3}, "gradient has no parameter 'steps': it has none"),
        ("rise", {"steps": 3}, "rise has no parameter 'steps': choose masks, cell"),
        ("rise", {"masks": "many"}, "'many' is not a whole number, as masks of rise is"),
        ("rise", {"masks": 7.5}, "'7.5' is not a whole number, as masks of rise is"),
        ("rise", {"masks": float("inf")}, "'inf' is not a whole number, as masks of rise is"),
        ("rise", {"masks": None}, "'None' is not a whole number, as masks of rise is"),
        ("rise", {"masks": 1}, "at least 2 masks"),
        ("rise", {"share": 1}, "between 0 and 1"),
        ("rise", {"share": 0}, "between 0 and 1"),
        ("rise", {"cell": 0}, "at least 1 voxel"),
        ("occlusion", {"edge": 0}, "at least 1 voxel"),
        ("occlusion", {"baseline": "noise"}, "no baseline 'noise': choose zero, mean, minimum"),
        ("integrated-gradients", {"steps": 0}, "at least 1 step"),
        ("smoothgrad", {"noise": -1}, "0 or more"),
        ("smoothgrad", {"noise": "inf"}, "0 or more"),
        ("smoothgrad", {"seed": -1}, "-1 is no seed: give a whole number from 0 to 4294967295"),
        ("rise", {"seed": str(10**30)}, "is no seed"),
    ],
)
def test_a_wrong_method_or_parameter_is_said_in_a_sentence(name, parameters, sentence):
    with pytest.raises(UserError, match=sentence):
        method_named(name, parameters)


@pytest.mark.parametrize("name", METHODS)
def test_without_captum_a_sentence_says_what_to_install(name, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "captum.attr", None)
    if METHODS[name].needs_captum:
        with pytest.raises(UserError, match=r"needs the package captum: install it with 'pip install captum'"):
            method_named(name)
    else:
        assert method_named(name).name == name
