"""Formats of models; see `base.Format`."""
