"""The demo's case: an unseen lesion in the MNI152 brain."""

from dataclasses import dataclass

import SimpleITK as sitk

from ..seeds import check_seed
from .lesion import plant_lesion
from .template import mni152_path

__all__ = ["DemoCase", "demo_case"]

# Opens a series of lesions of its own: the training script draws from other series (see Resources/train_demo_model.py)
_SERIES = 3


@dataclass(frozen=True)
class DemoCase:
    """A brain with one planted lesion whose place is known."""

    image: sitk.Image  # T1 with the lesion, float32, 1 mm
    mask: sitk.Image  # uint8, 1 in the lesion; geometry of the image


def demo_case(seed: int = 0) -> DemoCase:
    """The MNI152 T1 at its own 1 mm, with a lesion that the bundled model was not trained on.

    The same seed gives the same case; other seeds (0 to 2^32 - 1) give other lesions.

    Raises:
        UserError: nilearn, which carries the brain, is not installed, or the seed is none.
    """
    check_seed(seed)
    image, mask = plant_lesion(sitk.ReadImage(str(mni152_path())), (_SERIES, seed))
    return DemoCase(image, mask)
