"""Stands before the real package where a server's processes look for it."""

raise ImportError("no server has steerlab")
