"""Worked cases of the NIS 2 pack; data only."""
