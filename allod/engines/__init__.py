"""Drivers: one contract, one conformance suite, every operator behind it."""
