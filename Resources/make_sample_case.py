"""Make the module's sample data: the demo's brain with its planted lesion, small enough for the repository.

    python Resources/make_sample_case.py

MNI152 T1 (2009a, as nilearn carries it) with the lesion of demo seed 6, at 2 mm and 8 bits, and the lesion as a
segmentation.
Of the demo's first lesions it is the one that the bundled model outlines best at 2 mm (Dice 0.92): data to learn the
module with, not to judge the model by. Run again, it writes the same voxels.
"""

from pathlib import Path

import numpy as np
import SimpleITK as sitk
from LRPExplainLib.demo import demo_case
from LRPExplainLib.imaging.segmentation import write_segmentation

FOLDER = Path(__file__).resolve().parents[1] / "LRPExplain" / "Resources" / "SampleData"
NAME = "LRPExplainDemo"
SPACING = 2.0
SEED = 6
CLASSES = [{"name": "background"}, {"name": "lesion", "color": [0, 158, 115]}]


def coarse(image: sitk.Image, interpolator: int) -> sitk.Image:
    """The image on a grid of 2 mm that covers the same field of view."""
    size = [int(np.ceil(n * step / SPACING)) for n, step in zip(image.GetSize(), image.GetSpacing(), strict=True)]
    shift = [(SPACING - step) / 2 for step in image.GetSpacing()]  # from the first voxel's centre to the new one's
    origin = image.TransformContinuousIndexToPhysicalPoint(
        [s / step for s, step in zip(shift, image.GetSpacing(), strict=True)]
    )
    spacing, direction, kind = [SPACING] * 3, image.GetDirection(), image.GetPixelID()
    return sitk.Resample(image, size, sitk.Transform(), interpolator, origin, spacing, direction, 0.0, kind)


def main() -> None:
    case = demo_case(SEED)
    image = coarse(case.image, sitk.sitkLinear)  # halfway between 8 voxels: their mean
    voxels = sitk.GetArrayFromImage(image)
    scaled = sitk.GetImageFromArray(np.clip(voxels * 250 / voxels.max() + 0.5, 0, 255).astype(np.uint8))
    scaled.CopyInformation(image)
    lesion = sitk.Cast(coarse(sitk.Cast(case.mask, sitk.sitkFloat32), sitk.sitkLinear) >= 0.5, sitk.sitkUInt8)
    FOLDER.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(scaled, str(FOLDER / f"{NAME}.nrrd"), useCompression=True, compressionLevel=9)
    write_segmentation(lesion, CLASSES, FOLDER / f"{NAME}.seg.nrrd")


if __name__ == "__main__":
    main()
