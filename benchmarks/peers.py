"""Time and memory of one explanation, beside PyTorch, Zennit and Captum.

    python -m benchmarks.peers [--device cpu cuda] [--networks dynunet ...] [--composites epsilon-plus ...] [--large]

Prints a markdown table, which goals of `goals.py` are met (misses in bold), and how near bfloat16 comes. Times are
medians of `--repeat` runs after two to warm up; capture and other preparation (told: the first one) is not in them.
Memory is the peak of the second preparation and run together, by PyTorch's allocators (see `memory.py`): on CUDA with
the model, on the CPU without it. The floor is that of `floor.py`. On the CPU the networks are smaller unless `--large`
is given, so that all is done in some minutes; not smaller than that, because below N * C * D * H = 20480 PyTorch leaves
oneDNN for a kernel that is some twenty times slower.
"""

from __future__ import annotations

import argparse
import gc
import platform
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from LRPExplainLib import lrp
from LRPExplainLib.lrp.optimizations import OPTIMIZATIONS, without
from torch import nn
from tqdm import tqdm

from .clock import seconds
from .floor import Rates, floor, rates
from .goals import verdicts
from .memory import peak_memory
from .methods import FORWARD, GRADIENT, ZENNIT_PLUS, Prepare, methods, reason
from .networks import first_tensor, start_relevance


@dataclass(frozen=True)
class Subject:
    """A network at the size of a real case, and smaller for the CPU."""

    name: str
    make: Callable[[bool], nn.Module]  # large or not
    channels: int
    large: int
    small: int


def _dynunet(large: bool) -> nn.Module:
    from monai.networks.nets import DynUNet

    widths = (32, 64, 128, 256, 320, 320) if large else (16, 32, 64, 128, 160, 160)
    return DynUNet(3, 1, 3, [3] * 6, [1, 2, 2, 2, 2, 2], [2] * 5, filters=widths)


def _segresnet(large: bool) -> nn.Module:
    from monai.networks.nets import SegResNet

    return SegResNet(3, 16 if large else 8, 4, 3)


def _unet(large: bool) -> nn.Module:
    from monai.networks.nets import UNet

    return UNet(3, 1, 3, (16, 32, 64, 128, 256), (2, 2, 2, 2), num_res_units=2, norm="batch")


def _resnet(large: bool) -> nn.Module:
    from monai.networks.nets import resnet50

    return resnet50(spatial_dims=3, n_input_channels=1, num_classes=2)


def _meshnet(large: bool) -> nn.Module:
    layers: list[nn.Module] = []
    for i, dilation in enumerate((1, 2, 4, 8, 16, 8, 4, 2, 1)):
        layers += [nn.Conv3d(1 if i == 0 else 5, 5, 3, padding=dilation, dilation=dilation), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv3d(5, 3, 1))


def _efficientnet(large: bool) -> nn.Module:
    from monai.networks.nets import EfficientNetBN

    return EfficientNetBN("efficientnet-b0", pretrained=False, spatial_dims=3, in_channels=1, num_classes=2)


def _mednext(large: bool) -> nn.Module:
    from monai.networks.nets import MedNeXtSmall

    return MedNeXtSmall(spatial_dims=3, in_channels=1, out_channels=3, kernel_size=3, deep_supervision=False)


SUBJECTS = (
    Subject("DynUNet (nnU-Net's configuration)", _dynunet, 1, 128, 64),
    Subject("SegResNet16", _segresnet, 4, 128, 64),
    Subject("MONAI UNet res", _unet, 1, 96, 64),
    Subject("ResNet50-3D", _resnet, 1, 128, 48),
    Subject("MeshNet", _meshnet, 1, 192, 96),
    Subject("EfficientNet-B0-3D", _efficientnet, 1, 128, 64),  # these two convolve channel by channel
    Subject("MedNeXt-S", _mednext, 1, 128, 48),
)


DETAILED = "epsilon-plus"  # measured in every mode


@dataclass(frozen=True)
class Measured:
    """Seconds and bytes of one explanation, or why there is none."""

    method: str
    seconds: float | None = None
    preparation: float | None = None
    memory: int | None = None
    failure: str = ""


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Time and memory of one explanation, beside peers.")
    parser.add_argument("--device", nargs="*", default=["cpu", *(["cuda"] if torch.cuda.is_available() else [])])
    parser.add_argument("--networks", nargs="*", default=[""], help="parts of names; default: all")
    parser.add_argument("--composites", nargs="*", default=["epsilon", DETAILED, lrp.DEFAULT_COMPOSITE])
    parser.add_argument("--methods", nargs="*", default=[""], help="parts of names; default: all")
    parser.add_argument("--repeat", type=int, help="timed runs; default: 3 on the CPU, 7 on CUDA")
    parser.add_argument("--large", action="store_true", help="the real sizes on the CPU, too")
    parser.add_argument("--without", nargs="*", default=[], choices=OPTIMIZATIONS, help="optimizations to switch off")
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    torch.backends.cudnn.benchmark = True
    for device in options.device:
        large = options.large or device != "cpu"
        repeat = options.repeat or (3 if device == "cpu" else 7)
        composites = tuple(dict.fromkeys(options.composites))
        chosen = methods(composites, DETAILED if DETAILED in composites else None)
        keep = {name: prepare for name, prepare in chosen.items() if any(part in name for part in options.methods)}
        subjects = [s for s in SUBJECTS if any(part.lower() in s.name.lower() for part in options.networks)]
        measured_rates = rates(device)
        print(f"\n{machine(device)}; {measured_rates}; medians of {repeat}\n")
        with without(*options.without):
            results: dict[str, dict[str, Measured]] = {}
            for line in table(subjects, keep, device, large, repeat, measured_rates, results):
                print(line, flush=True)
            print("\n" + "\n".join(verdicts(device, results)))
            print("\n" + "\n".join(_in_half(subject, device, large) for subject in subjects), flush=True)


def table(
    subjects: list[Subject],
    chosen: dict[str, Prepare],
    device: str,
    large: bool,
    repeat: int,
    measured_rates: Rates,
    results: dict[str, dict[str, Measured]],
) -> Iterator[str]:
    """The lines of the markdown table; `results` gets what was measured, by network and method."""
    yield (
        "| network, input | method | time | ÷ forward + gradient | ÷ Zennit EpsilonPlus | ÷ floor | preparation | "
        "peak memory | ÷ forward | ÷ forward + gradient | ÷ Zennit EpsilonPlus |"
    )
    yield "|---|---|" + "---|" * 9
    bar = tqdm(total=len(subjects) * len(chosen), unit="method")
    for subject in subjects:
        size = subject.large if large else subject.small
        model, x, _ = _case(subject, device, large)
        least = floor(lrp.capture(model, x), measured_rates)
        del model, x
        found = results[subject.name] = {}
        for name, prepare in chosen.items():
            bar.set_postfix_str(f"{subject.name}, {name}")
            found[name] = replace(_measured(subject, prepare, device, large, repeat), method=name)
            bar.update()
        network = f"{subject.name}, {subject.channels}x{size}^3"
        yield f"| {network} | floor | {least * 1e3:.1f} ms |" + " |" * 8
        for row in found.values():
            yield _line(network, row, found, least)
    bar.close()


def _case(subject: Subject, device: str, large: bool) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """The network built anew, so that no method finds what another left behind; its input and a start relevance."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = subject.make(large).eval().to(device)
        size = subject.large if large else subject.small
        x = torch.randn(1, subject.channels, size, size, size).to(device)
    with torch.no_grad():
        return model, x, start_relevance(first_tensor(model(x)))


def _in_half(subject: Subject, device: str, large: bool) -> str:
    """How near bfloat16 comes to float32."""
    model, x, start = _case(subject, device, large)
    exact = lrp.attribute(lrp.capture(model, x), x, start, DETAILED)
    half = lrp.attribute(lrp.capture(model, x).to(torch.bfloat16), x, start, DETAILED)
    assert isinstance(exact.relevance, torch.Tensor)
    assert isinstance(half.relevance, torch.Tensor)
    correlation = torch.corrcoef(torch.stack([exact.relevance.flatten(), half.relevance.flatten()]))[0, 1]
    gap = abs(half.ledger.gap / half.ledger.target_value)
    return f"{subject.name}, {DETAILED} in bfloat16: correlation {float(correlation):.5f}, gap of the ledger {gap:.1e}"


def _measured(subject: Subject, prepare: Prepare, device: str, large: bool, repeat: int) -> Measured:
    model, x, start = _case(subject, device, large)
    try:
        begin = time.perf_counter()
        run = prepare(model, x, start)
        preparation = time.perf_counter() - begin
        run()
        del run
        with peak_memory(device) as peak:
            run = prepare(model, x, start)
            run()
        times = [seconds(run, device) for _ in range(repeat)]
    except Exception as error:  # whatever a peer raises is the finding
        return Measured("", failure=reason(error))
    finally:
        gc.collect()
    return Measured("", statistics.median(times), preparation, peak.bytes)


def _line(network: str, row: Measured, rows: dict[str, Measured], least: float) -> str:
    if row.seconds is None:
        return f"| {network} | {row.method} | {row.failure} |" + " |" * 8
    plain, gradient, zennit = (rows.get(name, Measured("")) for name in (FORWARD, GRADIENT, ZENNIT_PLUS))
    cells = [
        f"{row.seconds * 1e3:.1f} ms",
        _ratio(row.seconds, gradient.seconds),
        _ratio(row.seconds, zennit.seconds),
        _ratio(row.seconds, least),
        f"{row.preparation:.2f} s",
        "" if row.memory is None else f"{row.memory / 2**20:.0f} MiB",
        *(_ratio(row.memory, other.memory) for other in (plain, gradient, zennit)),
    ]
    return f"| {network} | {row.method} | " + " | ".join(cells) + " |"


def _ratio(value: float | None, reference: float | None) -> str:
    return f"{value / reference:.2f}" if value is not None and reference else ""


def machine(device: str) -> str:
    """What was measured on."""
    if device == "cpu":
        name = f"{platform.machine()} CPU, {torch.get_num_threads()} threads"
    else:
        tf32 = "with" if torch.backends.cudnn.allow_tf32 else "without"
        name = f"{torch.cuda.get_device_name()}, float32 {tf32} TF32 convolutions"
    return f"{name}, torch {torch.__version__}, {time.strftime('%Y-%m-%d')}"


if __name__ == "__main__":
    main()
