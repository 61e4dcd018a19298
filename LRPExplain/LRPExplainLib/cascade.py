"""A cascade's second stage takes the first one's segmentation as input: given by the user, or made here."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import SimpleITK as sitk
import torch

from . import lrp
from .imaging import Grid, Windows, least_size, prepare
from .imaging.stages import labels_of_logits
from .inference import Inference
from .models import load_model
from .models.example import slices_of
from .models.formats.base import PreviousStage
from .outcome import labels_of_scores, require_tensor


def previous_segmentation(
    stage: PreviousStage,
    images: Sequence[sitk.Image],
    names: Sequence[str],
    device: torch.device,
    memory: float | None,
    progress: Callable[[float, str], None],
) -> tuple[sitk.Image, dict[str, Any]]:
    """What the previous stage says of these images: uint8 label values on the first one's voxels; and its identity.

    Args:
        names: how errors call the images.
        memory: as for `Inference`.

    Raises:
        UserError, lrp.LRPError: as for `load_model`, `prepare` and `Inference`.
    """
    model = load_model(stage.path)
    wishes = replace(model.card.preprocessing, slices=slices_of(model))
    prepared = prepare(images, wishes, names, least_size(wishes.window, wishes.slices))
    windows = Windows(prepared.grid.shape, wishes.window, wishes.slices)
    composite = lrp.composite_named(lrp.DEFAULT_COMPOSITE)  # only a forward pass, but memory is planned with one
    inference = Inference(model.module, prepared.tensor, windows, composite, device, memory)
    inference.keep_to_budget()
    ending = lrp.ending(inference.graph)
    output = require_tensor(inference.predict(progress))
    card, logits = model.card.completed(tuple(output.shape), ending), output[0].float().cpu()
    labels = labels_of_logits(
        logits, prepared.grid, prepared.core, prepared.box, prepared.sources[0], wishes.orientation, wishes.spacing,
        lambda scores: torch.tensor(stage.values)[labels_of_scores(scores, len(logits), card)],
    )  # fmt: skip
    return labels, {"name": model.card.name, "path": str(model.path), "sha256": model.sha256}


def with_geometry(labels: sitk.Image, name: str, maker: dict[str, Any]) -> dict[str, Any]:
    """The entry of a made segmentation among the volumes of an explanation."""
    return {"name": name, "path": None, "sha256": None, "geometry": Grid.of(labels).as_dict(), "made_by": maker}
