"""Models and volumes with known answers, and a map that any network can be asked for."""

import dataclasses
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from helpers.networks import classifier
from LRPExplainLib.evaluation import Request, Subject
from LRPExplainLib.models import CardInput, ClassInfo, ExplainableModel, ModelCard, OutputInfo, Preprocessing
from LRPExplainLib.outcome import require_tensor
from LRPExplainLib.question import Question
from torch import Tensor, nn

PLAIN = Preprocessing(intensity=())


class Itself(nn.Module):
    """Segments what is above 0: the logit of "bright" is the voxel's value, that of the background 0."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv3d(1, 2, 1, bias=False)
        with torch.no_grad():
            self.head.weight[:] = torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x)


def loaded(module: nn.Module, task: str, names: tuple[str, ...], wishes: Preprocessing = PLAIN) -> ExplainableModel:
    classes = tuple(ClassInfo(name, (0, 0, 0)) for name in names)
    card = ModelCard("net", "net.ts", task, inputs=(CardInput("T1"),), preprocessing=wishes,
                     output=OutputInfo("softmax", classes))  # fmt: skip
    return ExplainableModel(module.eval(), card, Path("net.ts"), "0")


def image(values: np.ndarray) -> sitk.Image:
    return sitk.GetImageFromArray(values.astype(np.float32))


def bright(shape: tuple[int, int, int] = (8, 8, 8), seed: int = 0) -> np.ndarray:
    """Noise around 0 and 1."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=shape) + (rng.random(shape) > 0.5)


def itself(values: np.ndarray, wishes: Preprocessing = PLAIN, question: Question = Question("bright")) -> Subject:
    model = loaded(Itself(), "segmentation", ("background", "bright"), wishes)
    return Subject(model, [image(values)], question, "epsilon", "cpu")


def in_windows() -> Preprocessing:
    return dataclasses.replace(PLAIN, window={"size": (4, 4, 4), "overlap": 0.5, "blending": "gaussian"})


def classifying(values: np.ndarray, method=None) -> Subject:
    model = loaded(classifier(), "classification", ("a", "b"))
    return Subject(model, [image(values)], Question("a"), "epsilon", "cpu", method=method)


def gradient_times_input(request: Request) -> Tensor:
    """Of a network that takes the volume at once."""
    x = request.tensor.clone().requires_grad_()
    output = require_tensor(request.module(x))
    return x.detach() * torch.autograd.grad(output, x, request.ask(output).coefficients)[0]


def edges(request: Request) -> Tensor:
    """An edge detector: it looks at the image alone."""
    return sum(x.abs() for x in torch.gradient(request.tensor, dim=(2, 3, 4)))  # type: ignore[return-value]


class Flat(nn.Module):
    """A network of volumes of one slice as one of images, which is what Quantus knows."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        return self.module(x.unsqueeze(2))


def as_image_network(subject: Subject) -> nn.Module:
    return Flat(subject.model.module).eval()


def image_batch(subject: Subject) -> np.ndarray:
    """The one slice of the subject's input: [1, 1, H, W]."""
    return subject.prepared.tensor[:, :, 0].numpy().copy()
