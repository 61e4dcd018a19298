"""Methods that look at the gradient of the target value: by captum, on the captured network within autograd."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, inf
from typing import ClassVar

import torch
from torch import Tensor

from ..imaging.windows import View
from ..inference import Inference
from ..progress import ViewProgress
from ..seeds import check_seed
from .base import Found, Method, Told, baseline_of, one_by_one, require, require_baseline, summed
from .replay import Scored, counted
from .with_captum import captum_attr, quiet

_BACKWARD = 3.0  # a forward pass and its backward pass


@dataclass(frozen=True)
class _OneGradient(Method):
    """A method of captum's that needs one backward pass for each view."""

    needs_captum = True

    def passes(self, inference: Inference) -> float:
        return _BACKWARD

    def relevance(self, inference: Inference, coefficients: Tensor, progress: ViewProgress) -> Found:
        def explain(views: Sequence[View], x: Tensor, c: Tensor, told: Told) -> Tensor:
            with quiet():
                return self.of_captum(Scored(inference, c), _leaf(x))

        return Found(summed(inference, coefficients, explain, progress))

    @abstractmethod
    def of_captum(self, score: Scored, leaf: Tensor) -> Tensor:
        """captum's map of some views [n, C, ...]."""


@dataclass(frozen=True)
class Gradient(_OneGradient):
    """No parameters."""

    name = "gradient"
    description = "The gradient of the target value with respect to each voxel, signed (Simonyan 2014)."
    account = (
        "A gradient tells how the target value would change with a voxel, and no share of it: the map's sum means"
        " nothing, and the ledger does not close."
    )

    def of_captum(self, score: Scored, leaf: Tensor) -> Tensor:
        return captum_attr(self.name).Saliency(score).attribute(leaf, abs=False)


@dataclass(frozen=True)
class GradientXInput(_OneGradient):
    """No parameters."""

    name = "gradient-x-input"
    description = "The gradient of the target value times the voxel's prepared intensity (Shrikumar 2016)."
    account = (
        "Gradient times input sums to the target value only for networks that are linear up to rectifiers and without"
        " biases; what is missing here is unaccounted for."
    )

    def of_captum(self, score: Scored, leaf: Tensor) -> Tensor:
        return captum_attr(self.name).InputXGradient(score).attribute(leaf)


@dataclass(frozen=True)
class IntegratedGradients(Method):
    """
    Attributes:
        steps: points of the Gauss-Legendre quadrature on the way from the baseline to the volume.
        baseline: "zero", "mean" or "minimum" of each prepared input.
    """

    steps: int = 50
    baseline: str = "zero"

    name = "integrated-gradients"
    description = "The gradient, integrated from a baseline to the volume, times their difference (Sundararajan 2017)."
    conserves: ClassVar[bool] = True
    account = (
        "Integrated gradients sum to the target value less that of the baseline, which is booked as absorbed; what is"
        " left unaccounted for is the completeness gap of the numerical integral."
    )
    needs_captum = True

    def __post_init__(self) -> None:
        require(self.steps >= 1, "Integrated gradients need at least 1 step.")
        require_baseline(self.baseline)

    def passes(self, inference: Inference) -> float:
        return _BACKWARD * self.steps + 1

    def relevance(self, inference: Inference, coefficients: Tensor, progress: ViewProgress) -> Found:
        baseline = baseline_of(inference, self.baseline)
        views = inference.windows.views
        at_baseline: dict[int, float] = {}

        def explain(number: int, x: Tensor, c: Tensor, told: Told) -> Tensor:
            batch = inference.setting.batch
            score = Scored(inference, c, counted(told, 1 + ceil(self.steps / batch)))
            before = inference.windows.cut(baseline, views[number]).to(x)
            with quiet():
                found = captum_attr(self.name).IntegratedGradients(score).attribute(
                    _leaf(x), baselines=before, n_steps=self.steps, internal_batch_size=batch
                )  # fmt: skip
            with torch.no_grad():
                at_baseline[number] = float(score(before))
            return found

        relevance = summed(inference, coefficients, one_by_one(inference, explain), progress)
        return Found(relevance, sum(at_baseline.values()))


@dataclass(frozen=True)
class SmoothGrad(Method):
    """
    Attributes:
        samples: noisy copies of each view.
        noise: standard deviation as a share of the range of the prepared intensities.
        seed: of the noise.
    """

    samples: int = 25
    noise: float = 0.15
    seed: int = 0

    name = "smoothgrad"
    description = "The signed gradient's mean over noisy copies of the volume (Smilkov 2017)."
    account = Gradient.account
    needs_captum = True

    def __post_init__(self) -> None:
        require(self.samples >= 1, "SmoothGrad needs at least 1 sample.")
        check_seed(self.seed)
        require(0 <= self.noise < inf, "The noise of SmoothGrad is a share of the intensities' range: 0 or more.")

    def passes(self, inference: Inference) -> float:
        return _BACKWARD * self.samples

    def relevance(self, inference: Inference, coefficients: Tensor, progress: ViewProgress) -> Found:
        deviation = self.noise * float(inference.volume.max() - inference.volume.min())

        def explain(number: int, x: Tensor, c: Tensor, told: Told) -> Tensor:
            attr, batch = captum_attr(self.name), min(inference.setting.batch, self.samples)
            tunnel = attr.NoiseTunnel(attr.Saliency(Scored(inference, c, counted(told, ceil(self.samples / batch)))))
            with quiet(), torch.random.fork_rng([x.device] if x.is_cuda else []):
                torch.manual_seed(self.seed + number)
                return tunnel.attribute(
                    _leaf(x), nt_type="smoothgrad", nt_samples=self.samples, nt_samples_batch_size=batch,
                    stdevs=deviation, abs=False,
                )  # fmt: skip

        return Found(summed(inference, coefficients, one_by_one(inference, explain), progress))


def _leaf(x: Tensor) -> Tensor:
    return x.detach().requires_grad_()
