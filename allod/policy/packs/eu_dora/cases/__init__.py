"""Worked cases of the DORA pack; data only."""
