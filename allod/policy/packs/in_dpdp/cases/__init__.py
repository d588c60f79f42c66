"""Worked cases of the pack; data only."""
