"""`lrpexplain demo`: the bundled model on a brain with an unseen planted lesion, and whether it looked there."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import SimpleITK as sitk

from .errors import UserError
from .explain import explain
from .explanation import Explanation

RIM_MM = 5.0
EXPLANATION = "explanation"
BUNDLED_MODEL = Path(__file__).parents[1] / "Resources" / "Models" / "lesion-unet" / "lesion_unet.safetensors"


@dataclass(frozen=True)
class Shown:
    """What the demo found.

    Attributes:
        explanation: of the class "lesion".
        inside: share of the positive relevance inside the lesion.
        with_rim: the same, inside the lesion or at most `rim_mm` from it.
        volume_share: the share of the volume's voxels that lies there: what chance would give.
    """

    explanation: Explanation
    inside: float
    with_rim: float
    volume_share: float
    rim_mm: float = RIM_MM


def run(
    out: Path,
    seed: int,
    composite: str | None,
    device: str,
    progress: Callable[[str, float], None],
    model: Path = BUNDLED_MODEL,
) -> Shown:
    """Plant a lesion, explain the model's segmentation of it, and keep volume, lesion and explanation/ in `out`.

    Raises:
        UserError: the brain or the bundled model is not there, or `out` holds something else under those names.
    """
    from .demo import demo_case, share_inside

    if not model.is_file():
        raise UserError(
            f"The bundled model is not at '{model}': run the demo from a checkout or an installed extension."
        )
    progress("planting", 0.0)
    case = demo_case(seed)
    out.mkdir(parents=True, exist_ok=True)
    volume = out / "volume.nrrd"
    sitk.WriteImage(case.image, str(volume), useCompression=True)
    sitk.WriteImage(case.mask, str(out / "lesion.nrrd"), useCompression=True)
    explanation = explain(model, [volume], "lesion", composite, device, progress)
    explanation.save(out / EXPLANATION)
    inside, with_rim = share_inside(explanation.relevance[0], case.mask, RIM_MM)
    _, by_chance = share_inside(sitk.Cast(case.mask, sitk.sitkFloat32) * 0 + 1, case.mask, RIM_MM)
    return Shown(explanation, inside, with_rim, by_chance)
