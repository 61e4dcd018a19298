"""`python -m LRPExplainLib.worker --folder TEMP`: the process that computes for the Slicer module."""

import sys

from .server import main

sys.exit(main())
