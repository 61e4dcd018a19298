"""The module's panel: one small class for each section, none of which computes anything.

`panel.Panel` makes them and passes news between them; the module's widget owns the panel. Names are imported where they
are used, so that Slicer's start-up loads `parameters` and nothing else.
"""
