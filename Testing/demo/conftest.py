"""The training script's own modules, which lie outside the library."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "Resources"))
