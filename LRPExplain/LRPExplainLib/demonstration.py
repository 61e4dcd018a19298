"""`lrpexplain demo`: the bundled model on a brain with an unseen planted lesion, and whether it looked there."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from .errors import UserError
from .explain import explain
from .explanation import OWN as OF_EXPLANATION
from .explanation import VIEWS, Explanation
from .folders import whole_folder, within, write_json
from .imaging.writing import write_image

RIM_MM = 5.0
FACTS, VOLUME, LESION, EXPLANATION, SCENE = "demo.json", "volume.nrrd", "lesion.nrrd", "explanation", "scene.mrb"
# What the demo writes; only a folder with its facts is replaced, since a volume.nrrd may be anybody's.
OWN = (
    FACTS, VOLUME, LESION, EXPLANATION, *within(EXPLANATION, OF_EXPLANATION), SCENE, VIEWS, *within(VIEWS, ("*.png",)),
)  # fmt: skip
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

    The folder appears whole or not at all; an empty one or an earlier demo is replaced.

    Raises:
        UserError: the brain or the bundled model is not there, or `out` holds other things or cannot be written.
    """
    from .demo import demo_case, share_inside

    if not model.is_file():
        raise UserError(
            f"The bundled model is not at '{model}': run the demo from a checkout or an installed extension."
        )
    with whole_folder(out, OWN) as partial:
        progress("planting", 0.0)
        case = demo_case(seed)
        write_image(case.image, partial / VOLUME)
        write_image(case.mask, partial / LESION)
        explanation = explain(model, [partial / VOLUME], "lesion", composite, device, progress)
        explanation = replace(explanation, volumes=[explanation.volumes[0] | {"path": str((out / VOLUME).resolve())}])
        (partial / EXPLANATION).mkdir()
        explanation.write(partial / EXPLANATION)
        inside, with_rim = share_inside(explanation.relevance[0], case.mask, RIM_MM)
        _, by_chance = share_inside(sitk.Cast(case.mask, sitk.sitkFloat32) * 0 + 1, case.mask, RIM_MM)
        shown = Shown(explanation, inside, with_rim, by_chance)
        write_json(_facts(seed, shown), partial / FACTS)
    return shown


def _facts(seed: int, shown: Shown) -> dict[str, Any]:
    """What the demo found, as its folder keeps it."""
    return {
        "format": "lrpexplain-demo",
        "version": 1,
        "seed": seed,
        "inside": shown.inside,
        "with_rim": shown.with_rim,
        "volume_share": shown.volume_share,
        "rim_mm": shown.rim_mm,
    }
