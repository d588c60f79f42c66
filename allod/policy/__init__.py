"""Packs, Cedar evaluation (compiled and reference), explanation. Pure: no I/O, no clock."""
