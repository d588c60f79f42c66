"""Weights of the eight objectives; data only."""
