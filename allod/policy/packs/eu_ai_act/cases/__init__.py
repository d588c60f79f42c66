"""Worked cases of the AI Act pack; data only."""
