"""Does the map depend on what the model has learnt, and on what is asked? An edge detector's would not.

Cascading model-parameter randomisation (MPRT, Adebayo 2018), its efficient variant (eMPRT) and its smooth one
(smoothMPRT, Hedström 2024), and the random-logit test (Sixt 2020). A map that hardly changes fails.
"""

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..correlation import pearson
from ..errors import UserError
from ..folders import json_number
from ..progress import Progress, nobody
from ..seeds import check_seed
from .clock import Clock
from .complexity import discrete_entropy
from .localisation import Array
from .similarity import spearman, ssim
from .subject import Subject

STAGES = 5
SMOOTH_SAMPLES = 3
SMOOTH_NOISE = 0.1  # standard deviation, as a share of the input's range
MOST_CLASSES = 3
LIKENESS = ("spearman", "spearman_abs", "pearson", "ssim")
_ORDERS = ("top_down", "bottom_up", "independent")


def randomised(module: nn.Module, order: str = "top_down", seed: int = 0) -> Iterator[tuple[str, nn.Module]]:
    """The network with one layer more at random each time, beginning at the output ("top_down") or at the input
    ("bottom_up"), or with one layer alone ("independent").

    Layers are drawn anew as at the start of a training where they know how (`reset_parameters`); others, as those of
    TorchScript, have the entries of each parameter permuted. The network that is yielded is one copy, changed in
    place; the given one stays as it is.

    Raises:
        UserError: the network has no parameters, or the seed is none.
    """
    check_seed(seed)
    if order not in _ORDERS:
        raise ValueError(f"the order is one of {', '.join(_ORDERS)}")
    with torch.no_grad():  # else a copy of TorchScript has parameters that were computed, of which PyTorch warns
        changed = copy.deepcopy(module)
    original = {name: tensor.clone() for name, tensor in changed.state_dict().items()}
    layers = list(_layers(changed))
    if not layers:
        raise UserError("The model's file holds no parameters to randomise (they are constants): export it unfrozen.")
    for name, layer in reversed(layers) if order == "top_down" else layers:
        if order == "independent":
            changed.load_state_dict(original)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            _draw(layer)
        yield name, changed


def fully_randomised(module: nn.Module, seed: int = 0) -> nn.Module:
    """A copy of the network with every layer at random."""
    *_, (_, last) = randomised(module, "bottom_up", seed)
    return last


def mprt(
    subject: Subject, original: Tensor, stages: int = STAGES, seed: int = 0, progress: Progress = nobody
) -> list[dict[str, Any]]:
    """Cascading randomisation from the output to the input, looked at after some of its layers.

    Args:
        original: the subject's own map [1, C, D, H, W].
        stages: how many times a map is made, at most; the last one is of the fully random network.

    Returns:
        JSON-ready rows: "layer" (the last one randomised), "layers" (how many are), and how like the map is to the
        original one: the figures of `likeness`.
    """
    count = sum(1 for _ in _layers(subject.model.module))
    wanted = set(np.linspace(1, count, min(stages, count)).round().astype(int).tolist())
    clock = Clock(progress, "randomising", len(wanted))
    rows = []
    for n, (name, module) in enumerate(randomised(subject.model.module, "top_down", seed), 1):
        if n in wanted:
            rows.append({"layer": name, "layers": n, **likeness(original, subject.relevance(module))})
            clock.tell()
    return rows


def explanations(subject: Subject, stages: int = STAGES, samples: int = SMOOTH_SAMPLES) -> int:
    """How many maps the tests of this file make: the cascade, the random network, smoothed ones, other classes."""
    cascade = min(stages, sum(1 for _ in _layers(subject.model.module)))
    return cascade + 1 + 2 * samples + min(MOST_CLASSES, subject.classes - len(subject.asked.weights))


def emprt(original: Tensor, random: Tensor) -> float:
    """Efficient MPRT: by what share the entropy of the map's histogram rises when the whole network is random; large
    for a map that depends on what was learnt, about 0 for one that does not.

    Args:
        random: the fully random network's map.
    """
    before, after = (discrete_entropy(relevance.numpy()) for relevance in (original, random))
    return (after - before) / before if before > 0 else np.nan


def smooth_mprt(
    subject: Subject,
    random: nn.Module,
    samples: int = SMOOTH_SAMPLES,
    noise: float = SMOOTH_NOISE,
    seed: int = 0,
    progress: Progress = nobody,
) -> dict[str, float | None]:
    """Smooth MPRT: maps are averaged over noisy inputs before the trained and the random network's are compared."""
    check_seed(seed)
    clock = Clock(progress, "smoothing", 2 * samples)
    x = subject.prepared.tensor
    inside = x[:, :, subject.prepared.inside]
    deviation = noise * float(inside.max() - inside.min())
    generator = torch.Generator().manual_seed(seed)
    sums = [torch.zeros_like(x), torch.zeros_like(x)]
    for _ in range(samples):
        noisy = x + deviation * torch.randn(x.shape, generator=generator) * subject.prepared.inside
        for total, module in zip(sums, (None, random), strict=True):
            total += subject.relevance(module, noisy)
            clock.tell()
    return likeness(*sums)


def random_logit(
    subject: Subject, original: Tensor, seed: int = 0, progress: Progress = nobody
) -> list[dict[str, Any]]:
    """The map against those of other classes at the same voxels; where there are many, against some at random.

    Returns:
        JSON-ready rows: "class", and the figures of `likeness`.
    """
    check_seed(seed)
    asked = set(subject.asked.weights)
    others = [n for n in range(subject.classes) if n not in asked]
    chosen = np.random.default_rng(seed).permutation(len(others))[:MOST_CLASSES]
    clock = Clock(progress, "asking about other classes", len(chosen))
    rows = []
    for n in sorted(chosen.tolist()):
        index = others[n]
        rows.append({"class": subject.names[index], **likeness(original, subject.relevance(index=index))})
        clock.tell()
    return rows


def likeness(one: Tensor, other: Tensor) -> dict[str, float | None]:
    """How alike two maps are: Spearman's correlation, that of magnitudes, Pearson's, and SSIM; None where one is flat.

    Correlations are over the voxels where either is not 0, since what both leave out says nothing; SSIM is in the box
    around them. Ranks weigh every voxel alike, Pearson's correlation by its relevance. SSIM is near 1 for any two maps
    of which a few voxels are much larger than the rest.
    """
    a, b = one.double().numpy(), other.double().numpy()
    seen = (a != 0) | (b != 0)
    if not seen.any():
        return dict.fromkeys(LIKENESS)
    return {
        "spearman": json_number(spearman(a[seen], b[seen])),
        "spearman_abs": json_number(spearman(np.abs(a[seen]), np.abs(b[seen]))),
        "pearson": json_number(pearson(a[seen], b[seen])),
        "ssim": json_number(_mean_ssim(a[0], b[0])),
    }


def _mean_ssim(a: Array, b: Array) -> float:
    """Over the channels, in the box that holds what is not 0."""
    box = _box((a != 0).any(axis=0) | (b != 0).any(axis=0))
    return float(np.mean([ssim(x[box], y[box]) for x, y in zip(a, b, strict=True)]))


def _box(mask: Array) -> tuple[slice, ...]:
    found = np.argwhere(mask)
    return tuple(slice(int(low), int(high) + 1) for low, high in zip(found.min(0), found.max(0), strict=True))


def _layers(module: nn.Module) -> Iterator[tuple[str, nn.Module | Sequence[Tensor]]]:
    """The layers in the order in which the network defines them, by name."""
    seen: set[int] = set()  # a network in a wrapper, or a layer that is used twice, is one
    for name, part in module.named_modules():
        own = [p for p in part.parameters(recurse=False) if p.is_floating_point() and id(p) not in seen]
        seen |= {id(parameter) for parameter in own}
        if own:
            yield name, part if hasattr(part, "reset_parameters") else own


@torch.no_grad()
def _draw(layer: nn.Module | Sequence[Tensor]) -> None:
    if isinstance(layer, nn.Module):
        layer.reset_parameters()  # type: ignore[operator]
        return
    for parameter in layer:
        flat = parameter.flatten()
        parameter.copy_(flat[torch.randperm(len(flat))].reshape(parameter.shape))
