"""A network's relevance does not depend on the file it came in: TorchScript, torch.export or ONNX.

In float64, so that what differs is the graph and not the rounding (a trace may divide where Python multiplied).
"""

import io
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from LRPExplainLib import lrp
from torch import Tensor, nn

from benchmarks.networks import NETWORKS, first_tensor, start_relevance
from benchmarks.vision import torchvision

COMPOSITE = "epsilon-plus"
ALIKE = 1e-4
# Exporters take the same way in two dimensions and in three: the larger networks in two, to save time.
LARGE = ("swinunetr", "vnet", "flexibleunet", "unetr", "highresnet", "mednext", "seres")
CHOSEN = {name: network for name, network in NETWORKS.items() if name.endswith("-2d") == name.startswith(LARGE)}
Reloaded = Callable[[Tensor], Any]


pytestmark = pytest.mark.filterwarnings("ignore")  # tracers warn about every shape they fix


@dataclass(frozen=True)
class Case:
    """A network, and its answer and relevance as an `nn.Module`."""

    model: nn.Module
    x: Tensor
    output: Tensor
    start: Tensor
    relevance: Tensor


@pytest.fixture(scope="module", params=CHOSEN.values(), ids=CHOSEN)
def case(request: pytest.FixtureRequest) -> Case:
    missing = request.param.missing()
    if missing:
        pytest.skip(missing)
    model, x = request.param.build().double(), request.param.input().double()
    with torch.no_grad():
        output = first_tensor(model(x))
    start = start_relevance(output)
    relevance = lrp.attribute(lrp.capture(model, x), x, start, COMPOSITE).relevance
    return Case(model, x, output, start, relevance)


def torchscript(model: nn.Module, x: Tensor, folder: Path) -> Reloaded:
    """Traced, or scripted where tracing does not take the network's outputs."""
    try:
        module = torch.jit.trace(model, x, check_trace=False)
    except RuntimeError:
        module = torch.jit.script(model)
    file = io.BytesIO()
    torch.jit.save(module, file)
    file.seek(0)
    return torch.jit.load(file)


def exported(model: nn.Module, x: Tensor, folder: Path) -> Reloaded:
    """A `torch.export` program, .pt2."""
    torch.export.save(torch.export.export(model, (x,), strict=False), folder / "network.pt2")
    return torch.export.load(folder / "network.pt2").module()


def onnx(model: nn.Module, x: Tensor, folder: Path) -> Reloaded:
    """ONNX, read by onnx2torch, which knows opset 17 of the older exporter better than the newer one's."""
    pytest.importorskip("onnx")
    torchvision()
    onnx2torch = pytest.importorskip("onnx2torch")
    path = folder / "network.onnx"
    torch.onnx.export(model, (x,), path, dynamo=False, opset_version=17)
    module = onnx2torch.convert(path).eval()
    with torch.no_grad():
        module(x)  # some conversions are made and do not run
    return module


FORMATS = {"torchscript": torchscript, "export": exported, "onnx": onnx}


@pytest.mark.parametrize("file_format", FORMATS.values(), ids=FORMATS)
def test_same_relevance_from_every_format(
    case: Case, file_format: Callable[[nn.Module, Tensor, Path], Reloaded], tmp_path: Path
) -> None:
    logging.disable(logging.WARNING)
    try:
        reloaded = file_format(case.model, case.x, tmp_path)
    except Exception as error:  # whatever the exporter raises is its reason
        pytest.skip(f"{type(error).__name__}: {(str(error).strip() or 'no reason').splitlines()[0]}")
    finally:
        logging.disable(logging.NOTSET)
    if file_format is exported and type(case.model).__name__ == "VisionTransformer" and torch.__version__ < "2.5":
        pytest.skip("PyTorch 2.4 exports views of what its fused attention alone lays out so")
    graph = lrp.capture(reloaded, case.x)
    output = first_tensor(graph(case.x))
    assert (output - case.output).abs().max() <= ALIKE * case.output.abs().max()
    attribution = lrp.attribute(graph, case.x, case.start, COMPOSITE)
    assert (attribution.relevance - case.relevance).abs().max() <= ALIKE * case.relevance.abs().max()
    assert abs(attribution.ledger.gap) <= ALIKE * attribution.ledger.target_value
