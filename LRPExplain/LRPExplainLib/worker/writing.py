"""One lock for whatever the worker writes: when Slicer is gone, its folder goes between two results, not within one."""

from __future__ import annotations

from threading import Lock

WRITING = Lock()  # held while files are written; who removes the folder takes it for good
