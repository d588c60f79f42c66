"""Allod: an operating layer for AI that an organisation owns."""

__version__ = "0.1.0"
