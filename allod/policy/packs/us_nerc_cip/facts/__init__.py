"""Dated lists and names of the pack; data only."""
