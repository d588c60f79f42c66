"""Worked cases of the SecNumCloud pack; data only."""
