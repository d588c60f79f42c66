"""Dated rows the base pack cites; data only."""
