"""The bundled demo: a lesion planted in a real brain, and how much of the relevance falls on it.

Needs numpy and SimpleITK; the brain itself is the MNI152 T1 template that the nilearn package carries.
"""

from .case import DemoCase, demo_case
from .lesion import Seed, plant_lesion
from .localisation import share_inside
from .template import mni152_path

__all__ = ["DemoCase", "Seed", "demo_case", "mni152_path", "plant_lesion", "share_inside"]
