"""Worked cases of the sovereignty framework; data only."""
