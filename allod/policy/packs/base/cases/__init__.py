"""Worked cases of the base pack; data only."""
