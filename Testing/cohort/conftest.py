"""Lets the tests of this folder import `planted` and the cases of Resources, whichever way pytest imports them."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2] / "Resources")]
